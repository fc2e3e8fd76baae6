"""MIMIC PERform AF, which is published on Zenodo and not on PhysioNet (Charlton et al., Physiol. Meas. 2022).

Zenodo's API names each file of a record with its MD5. The two WFDB archives (AF, not AF) are checked against it and
unpacked into the two folders that the protocols know the labels by. Tested against a local server that answers as the
API is documented (developers.zenodo.org), not against zenodo.org itself.
"""

import json
import zipfile
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from rich.console import Console

from firmware_bridge.errors import BadInput
from trainer.data.download import FULL, Wanted, download, get_text

ZENODO = "https://zenodo.org/"
RECORD = "6807403"
FOLDER = "mimic_perform_af"  # the splits hold this folder out of training
ARCHIVES = {"mimic_perform_af_wfdb.zip": "AF_wfdb", "mimic_perform_non_af_wfdb.zip": "Non_AF_wfdb"}
UNPACKED = (".hea", ".dat")


def fetch_perform_af(out: Path, console: Console, *, records: Sequence[str] | None, mirror: str | None) -> None:
    """Have both archives verified, and their records (or those of ``records``) unpacked, under ``out``.

    ``mirror`` stands for ``https://zenodo.org/``. Raises as :func:`trainer.data.fetch.fetch` does.
    """
    from trainer.data.fetch import report

    base = (mirror or ZENODO).rstrip("/")
    sums = _published(f"{base}/api/records/{RECORD}")
    folder = out / FOLDER
    books = download(
        [
            Wanted(f"{base}/records/{RECORD}/files/{name}?download=1", folder / ".archives" / name, sums[name], "md5")
            for name in ARCHIVES
        ],
        console,
        "archives",
    )
    _unpack(folder, records)
    report(console, f"MIMIC PERform AF (zenodo.org/records/{RECORD})", books, folder)


def _published(url: str) -> dict[str, str]:
    """File name → MD5 of the archives."""
    try:
        files = json.loads(get_text(url))["files"]
        sums = {str(file["key"]): str(file["checksum"]).removeprefix("md5:").lower() for file in files}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadInput(f"{url}: is no Zenodo record with files and checksums ({error})") from None
    missing = [name for name in ARCHIVES if name not in sums]
    if missing:
        raise BadInput(f"{url}: does not list {missing[0]}")
    return sums


def _unpack(folder: Path, records: Sequence[str] | None) -> None:
    wanted, found = set(records or ()), set()
    for name, place in ARCHIVES.items():
        archive = folder / ".archives" / name
        try:
            with zipfile.ZipFile(archive) as content:
                for member in content.infolist():
                    file = PurePosixPath(member.filename)
                    if file.name.startswith(".") or not (file.suffix in UNPACKED or file.name.startswith("LICENSE")):
                        continue
                    if file.suffix in UNPACKED:
                        if wanted and file.stem not in wanted:
                            continue
                        found.add(file.stem)
                    _extract(content, member, folder / place / file.name)
        except zipfile.BadZipFile as error:
            raise BadInput(f"{archive}: is no archive that can be read ({error})") from None
    if missing := sorted(wanted - found):
        raise BadInput(f"--records {missing[0]}: no such record in this data set")


def _extract(content: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path) -> None:
    """One file, whole or not at all; left alone if it is there (zipfile checks the CRC as it reads)."""
    if path.exists() and path.stat().st_size == member.file_size:
        return
    part = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(content.read(member))
        part.replace(path)
    except OSError as error:
        full = "the disk is full; make room and give the same command again" if error.errno in FULL else error.strerror
        raise BadInput(f"{path}: {full}") from None
