"""Write a bundle: a folder, or a zip that is the same bytes for the same bundle."""

import hashlib
import os
import tempfile
import zipfile
from pathlib import Path

import msgspec

from edge.bundle.checks import SIGNATURE
from edge.bundle.load import Bundle
from edge.bundle.manifest import MANIFEST, Manifest
from firmware_bridge.errors import BadInput


def encode_manifest(manifest: Manifest) -> bytes:
    """The bytes of ``manifest.json``."""
    return msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n"


def write_bundle(path: Path, manifest: Manifest, contents: dict[str, bytes]) -> None:
    """Write a bundle folder; ``manifest.files`` is filled in here from ``contents``."""
    path.mkdir(parents=True, exist_ok=True)
    digests = {name: hashlib.sha256(data).hexdigest() for name, data in sorted(contents.items())}
    manifest = msgspec.structs.replace(manifest, files=digests)
    for name, data in contents.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(data)
    # A signature of what was there before fits no longer.
    (path / SIGNATURE).unlink(missing_ok=True)
    (path / MANIFEST).write_bytes(encode_manifest(manifest))


def write_zip(path: Path, contents: dict[str, bytes]) -> None:
    """A zip without times, so that the same files are the same zip."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in sorted(contents.items()):
            entry = zipfile.ZipInfo(name)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, data)


def add_signature(bundle: Bundle, signature: bytes) -> None:
    """Put a signature into the bundle's folder or zip, whole or not at all. Raises :class:`BadInput`."""
    target = bundle.path / SIGNATURE if bundle.path.is_dir() else bundle.path
    try:
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".unfinished-") as room:
            fresh = Path(room) / "file"
            if target == bundle.path:
                names = [MANIFEST, *bundle.manifest.files]
                write_zip(fresh, {**{name: bundle.read(name) for name in names}, SIGNATURE: signature})
            else:
                fresh.write_bytes(signature)
            os.replace(fresh, target)
    except OSError as error:
        raise BadInput(f"bundle {bundle.path}: cannot be written ({error.strerror})") from None


def rewrite(bundle: Bundle, out: Path) -> None:
    """The same bundle in today's schema as a new folder, or a zip if ``out`` ends in ``.zip``; without its signature,
    which fits the old manifest only. Raises :class:`BadInput` if there is something at ``out``."""
    if out.exists() or out.is_symlink():
        raise BadInput(f"--out {out}: is there already; give another name")
    contents = {name: bundle.read(name) for name in bundle.manifest.files}
    try:
        if out.suffix == ".zip":
            out.parent.mkdir(parents=True, exist_ok=True)
            write_zip(out, {**contents, MANIFEST: encode_manifest(bundle.manifest)})
        else:
            write_bundle(out, bundle.manifest, contents)
    except OSError as error:
        raise BadInput(f"--out {out}: cannot be written ({error.strerror})") from None
