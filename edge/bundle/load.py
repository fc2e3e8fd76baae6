"""Read a bundle: its signature where one is asked for, its manifest, and every file against its SHA-256."""

import hashlib
from pathlib import Path

from edge.bundle.checks import SIGNATURE, complaint
from edge.bundle.files import Files, open_files
from edge.bundle.manifest import MANIFEST, SCHEMA, Manifest
from edge.bundle.migrate import read_manifest
from edge.bundle.minisign import PublicKey, Signature, parse_signature, verify
from firmware_bridge.errors import BadInput

DEFAULT_BUNDLE = Path(__file__).parents[1] / "bundles" / "ppg-default"


class Bundle:
    """A bundle that passed every check. ``read`` returns a file's bytes as they were verified.

    ``schema``: the one its manifest was written in; ``manifest`` is always of today's. ``signature``: the one beside
    the manifest, verified only where a key was given to :func:`load_bundle`.
    """

    def __init__(
        self,
        path: Path,
        manifest: Manifest,
        contents: dict[str, bytes],
        *,
        schema: int = SCHEMA,
        signature: Signature | None = None,
    ) -> None:
        self.path, self.manifest, self._contents = path, manifest, contents
        self.schema, self.signature = schema, signature

    def read(self, name: str) -> bytes:
        """Bytes of one file of the bundle."""
        return self._contents[name]

    @property
    def digest(self) -> str:
        """SHA-256 over the manifest, which names every file's: the identity of the bundle."""
        return hashlib.sha256(self._contents[MANIFEST]).hexdigest()


def load_bundle(path: Path | str | None = None, *, trust: PublicKey | None = None) -> Bundle:
    """Read and verify a bundle folder or zip (default: the one that ships).

    With ``trust`` only a bundle whose manifest is signed by that key is taken, and nothing of it is looked at before
    the signature. Raises :class:`BadInput`.
    """
    path = DEFAULT_BUNDLE if path is None else Path(path)
    with open_files(path) as files:
        return _verified(path, files, trust)


def _verified(path: Path, files: Files, trust: PublicKey | None) -> Bundle:
    raw = files.read(MANIFEST)
    signature = _signature(path, files, raw, trust)
    try:
        manifest, schema = read_manifest(raw)
    except BadInput as error:
        raise BadInput(f"bundle {path}: {error}") from None
    wrong = complaint(manifest)
    if wrong is not None:
        raise BadInput(f"bundle {path}: {MANIFEST}: {wrong}")
    contents = {MANIFEST: raw}
    for name, expected in manifest.files.items():
        contents[name] = files.read(name)
        if hashlib.sha256(contents[name]).hexdigest() != expected:
            raise BadInput(f"bundle {path}: {name} does not match its SHA-256 in {MANIFEST}; copy the bundle again")
    return Bundle(path, manifest, contents, schema=schema, signature=signature)


def _signature(path: Path, files: Files, raw: bytes, trust: PublicKey | None) -> Signature | None:
    if not files.has(SIGNATURE):
        if trust is not None:
            raise BadInput(
                f"bundle {path}: is not signed ({SIGNATURE} is missing), and key {trust.key_id} was asked for"
            )
        return None
    try:
        signature = parse_signature(files.read(SIGNATURE))
        if trust is not None:
            verify(trust, raw, signature)
    except BadInput as error:
        raise BadInput(f"bundle {path}: {SIGNATURE}: {error}") from None
    return signature
