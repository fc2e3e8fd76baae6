"""`pulsecode data fetch`: a data set published on PhysioNet, every file checked against its published SHA-256.

PhysioNet serves each version of a data set as ``files/SLUG/VERSION/`` with a ``SHA256SUMS.txt``. wfdb reads the headers
here, to tell which files a record consists of, and not more: its ``dl_database`` verifies nothing, takes a longer file
for a whole one, appends to a shorter one whatever it is, and asks physionet.org for the version even where another
index is set, so that it works with no mirror. The bytes are urllib's.

What makes up a data set is its records (``.hea``, ``.edf``, ``.vital``), all files called like them (signals,
annotations), what the headers name besides, and the documents that belong to it. Copies in other formats (BIDMC's
CSV files) are left out: read as recordings they would be the same people twice.

A mirror serves its own SHA256SUMS.txt: with ``--mirror`` the checksums prove the transfer, not the mirror's honesty.
"""

import re
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote

from rich.console import Console

from firmware_bridge.errors import BadInput
from trainer.data.download import Books, Wanted, download, get_text, sum_books
from trainer.recordings import NOT_READABLE

PHYSIONET = "https://physionet.org/files/"
# Name → what PhysioNet calls it, and the folder that the splits and the benchmarks know it by.
KNOWN = {
    "bidmc": ("bidmc/1.0.0", "bidmc"),
    "challenge-2015": ("challenge-2015/1.0.0", "challenge2015"),
    "mitdb": ("mitdb/1.0.0", "mitdb"),
}
ON_ZENODO = "mimic-perform-af"
RECORD_ENDS = (".hea", ".edf", ".vital")
DOCUMENTS = ("RECORDS", "ANNOTATORS", "ALARMS", "LICENSE", "README", "clinical_data.csv")
SUMS = "SHA256SUMS.txt"
SUMS_LINE = re.compile(r"([0-9a-fA-F]{64}) [ *]?(.+)")
PUBLISHED = re.compile(r"[a-z0-9][a-z0-9-]*/[0-9][0-9A-Za-z.]*")


def fetch(
    name: str, out: Path, console: Console, *, records: Sequence[str] | None = None, mirror: str | None = None
) -> None:
    """Have data set ``name`` (or some of its records) whole and verified in a folder of its own under ``out``.

    Raises :class:`BadInput` in one line on an unknown name, no network, a file that is not there or not what was
    published, a full disk; :class:`Stopped` on Ctrl-C.
    """
    if mirror is not None and not re.match(r"https?://", mirror):
        raise BadInput(f"--mirror {mirror}: must be a URL that starts with http:// or https://")
    if name == ON_ZENODO:
        from trainer.data.fetch_zenodo import fetch_perform_af

        fetch_perform_af(out, console, records=records, mirror=mirror)
        return
    published, folder = KNOWN.get(name, (name, name.partition("/")[0]))
    if not PUBLISHED.fullmatch(published):
        known = ", ".join(sorted([*KNOWN, ON_ZENODO]))
        raise BadInput(f"data set {name!r}: unknown; known: {known}, or PhysioNet's SLUG/VERSION (ptt-ppg/1.1.0)")
    base = f"{(mirror or PHYSIONET).rstrip('/')}/{published}/"
    text = get_text(base + SUMS)
    sums = parse_sums(text, base + SUMS)
    console.print(f"{published}: {len(sums):,} published files at {base}", soft_wrap=True)
    books = _fetch_records(sums, records, base, out / folder, console)
    (out / folder / SUMS).write_text(text, encoding="utf-8")  # for `sha256sum -c --ignore-missing`
    report(console, published, books, out / folder)


def report(console: Console, title: str, books: Books, folder: Path) -> None:
    """The last line of a fetch."""
    console.print(
        f"{title}: {books.fetched:,} files fetched ({books.bytes / 1e6:,.1f} MB), {books.present:,} were there; "
        f"all are as published; in {folder}",
        soft_wrap=True,
    )


def parse_sums(text: str, url: str) -> dict[str, str]:
    """Relative path → SHA-256 (lower case), from a SHA256SUMS.txt.

    Raises :class:`BadInput` on a line that is none, and on a path that leads out of the data set's folder.
    """
    sums = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        found = SUMS_LINE.fullmatch(line.strip())
        if not found:
            raise BadInput(f"{url}: line {number} is no checksum and file name")
        path = PurePosixPath(found.group(2).removeprefix("./"))
        if path.is_absolute() or ".." in path.parts or "\\" in str(path):
            raise BadInput(f"{url}: line {number} names a file outside the data set: {str(path)[:80]!r}")
        sums[str(path)] = found.group(1).lower()
    if not sums:
        raise BadInput(f"{url}: lists no file")
    return sums


def choose_records(sums: Iterable[str], wanted: Sequence[str] | None) -> list[str]:
    """Records (path without ending) among the published files, all or those wanted, by path or by name alone.

    Raises :class:`BadInput` where one is not there.
    """
    stems = sorted({path[: path.rindex(".")] for path in sums if path.endswith(RECORD_ENDS)})
    if wanted is None:
        return stems
    chosen = []
    for name in wanted:
        found = [stem for stem in stems if stem == name or PurePosixPath(stem).name == name]
        if not found:
            near = get_close_matches(name, [PurePosixPath(stem).name for stem in stems], n=3)
            hint = f"; did you mean {', '.join(near)}?" if near else f"; there are {len(stems)} records"
            raise BadInput(f"--records {name}: no such record in this data set{hint}")
        chosen += found
    return chosen


def _fetch_records(
    sums: dict[str, str], records: Sequence[str] | None, base: str, folder: Path, console: Console
) -> Books:
    def wanted(paths: Iterable[str]) -> list[Wanted]:
        return [Wanted(base + quote(path), folder / path, sums[path]) for path in sorted(paths)]

    stems = choose_records(sums, records)
    if not stems:
        raise BadInput(f"{base}: publishes no record ({', '.join(RECORD_ENDS)})")
    documents = {path for path in sums if PurePosixPath(path).name.startswith(DOCUMENTS)}
    files = _named_like(sums, stems) | documents
    books: list[Books] = []
    headers: set[str] = set()
    while new := {path for path in files if path.endswith(".hea")} - headers:
        books.append(download(wanted(new), console, "headers"))
        headers |= new
        # Signal files may be called otherwise, and a record of several segments names their headers.
        files |= {path for header in new for path in _named_in(header, folder) if path in sums}
    books.append(download(wanted(files - headers), console, "files"))
    return sum_books(books)


def _named_like(paths: Iterable[str], stems: Sequence[str]) -> set[str]:
    """``training/a103l`` → ``training/a103l.hea``, ``training/a103l.mat``, …"""
    known = set(stems)
    found = set()
    for path in paths:
        folder, _, name = path.rpartition("/")
        stem = name
        while "." in stem:
            stem = stem.rpartition(".")[0]
            if (f"{folder}/{stem}" if folder else stem) in known:
                found.add(path)
                break
    return found


def _named_in(header: str, folder: Path) -> set[str]:
    """The signal files and segments that a header names, as paths within the data set."""
    import wfdb

    place = PurePosixPath(header).parent
    try:
        record: Any = wfdb.rdheader(str(folder / header.removesuffix(".hea")))
        segments = [f"{name}.hea" for name in getattr(record, "seg_name", None) or [] if name != "~"]
        signals = [name for name in record.file_name or [] if name != "~"] if not segments else []
    except NOT_READABLE as error:
        raise BadInput(f"{folder / header}: not a readable WFDB header ({error})") from None
    return {str(place / name) for name in (*segments, *signals)}
