"""The bundle: the only thing that crosses from training to the device.

A folder (or a zip of it) with ``manifest.json`` and the files it names, each with its SHA-256. Nothing in it is
code and nothing is pickled; a bundle that fails a check is refused in one line that names the file and the field.
"""

import contextlib
import hashlib
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Literal

import msgspec

from edge.frontend import FrontendConfig
from firmware_bridge.errors import BadInput

SCHEMA = 2
READABLE = (1, 2)  # 1 lacks what is None by default in the manifest
MANIFEST = "manifest.json"
DEFAULT_BUNDLE = Path(__file__).parent / "bundles" / "ppg-default"
MAX_FILE_BYTES = 64 * 2**20  # no file of a bundle is near this; a zip bomb is
# What a damaged, encrypted or odd zip raises, besides a file system's own errors.
_UNREADABLE = (OSError, EOFError, RuntimeError, NotImplementedError, ValueError, zipfile.BadZipFile, zlib.error)


class EncoderShape(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Shapes of the step graph: rings are (layers, heads, context-1, head_dim). Token at hop n labels patch
    n - ``lookahead``."""

    layers: int
    heads: int
    head_dim: int
    context: int
    lookahead: int
    codebook_size: int


class EngineFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One engine's artefact: inputs ``patch, k, v, mask`` and outputs ``scores, embedding, k, v`` in that order."""

    file: str
    method: str


class NoveltyModel(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Bigram surprise of the token stream.

    ``transitions``: file of uint8, shape (K+1, K): ``-log P(next | previous)`` in ``1/scale`` nats, the last row for
    no previous token. ``quantiles``: the smoothed score's quantiles at evenly spaced levels 0…1 on the calibration
    subjects named in ``calibrated_on``.
    """

    transitions: str
    scale: float
    smoothing_hops: int
    quantiles: list[float]
    calibrated_on: str


class LogisticModel(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``p = sigmoid(weights · features + bias)``; the features are :data:`edge.quality.FEATURES` (is the pulse
    readable?) or :data:`edge.rhythm.FEATURES` (is it irregular?)."""

    weights: dict[str, float]
    bias: float
    calibrated_on: str


class LinearModel(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``weights · features + bias``."""

    weights: dict[str, float]
    bias: float


class ReadoutModel(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Linear readouts of the embedding: see :mod:`edge.readouts`.

    ``file``: float32 (len(names), 2 dim + 1), for the mean and the standard deviation over the last ``hops`` hops'
    embeddings and 1. The readout ``log_rate`` is the natural logarithm of the heart rate in bpm.
    """

    file: str
    names: list[str]
    hops: int
    calibrated_on: str


class RateModel(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How far the heart rate may be off: see :mod:`edge.rate`.

    ``interval_error`` and ``readout_error``: logarithm of the error in bpm that the rate from the intervals and the one
    from the embedding are expected to have, from :data:`edge.rate.FEATURES`. ``reach``: so many expected errors on
    either side hold ``level`` of the truths. A rate whose interval reaches further than ``widest`` bpm on either side
    is not believed.
    """

    interval_error: LinearModel
    readout_error: LinearModel
    reach: float
    level: float
    widest: float
    calibrated_on: str


class RespirationModel(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Respiratory rate: see :mod:`edge.respiration`.

    ``hidden`` (units, :data:`edge.respiration.FEATURES`), ``bias`` and ``output`` (units,): a candidate rate's score
    is ``output · tanh(hidden · features + bias)``. ``evidence``, ``drift`` (octaves) and ``leak`` are the forward
    filter's. ``reach``: so many half-widths of the belief's middle 68 % hold 68 % of the truths; a rate with an error
    above ``max_error`` /min is not valid.
    """

    hidden: list[list[float]]
    bias: list[float]
    output: list[float]
    evidence: float
    drift: float
    leak: float
    reach: float
    max_error: float
    calibrated_on: str


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``manifest.json``."""

    schema: int
    name: str
    version: str
    signal: Literal["ppg", "ecg"]
    frontend: FrontendConfig
    encoder: EncoderShape
    warmup_hops: int
    engines: dict[str, EngineFile]
    novelty: NoveltyModel | None
    quality: LogisticModel | None
    rhythm: LogisticModel | None
    metrics: dict[str, float | str]
    provenance: dict[str, str]
    licence: str
    files: dict[str, str]
    readout: ReadoutModel | None = None
    rate: RateModel | None = None
    respiration: RespirationModel | None = None


class Bundle:
    """A bundle that passed every check. ``read`` returns a file's bytes as they were verified."""

    def __init__(self, path: Path, manifest: Manifest, contents: dict[str, bytes]) -> None:
        self.path, self.manifest, self._contents = path, manifest, contents

    def read(self, name: str) -> bytes:
        """Bytes of one file of the bundle."""
        return self._contents[name]

    @property
    def digest(self) -> str:
        """SHA-256 over the manifest, which names every file's: the identity of the bundle."""
        return hashlib.sha256(self._contents[MANIFEST]).hexdigest()


class _Folder:
    """The files of a bundle folder, read when they are asked for."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def size(self, name: str) -> int | None:
        """Bytes of a file; None if there is none."""
        file = self._path / name
        return file.stat().st_size if file.is_file() else None

    def read(self, name: str) -> bytes:
        """A file's bytes."""
        return (self._path / name).read_bytes()


class _Zip:
    """The same for a zip of that folder."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self._archive = archive

    def size(self, name: str) -> int | None:
        try:
            return self._archive.getinfo(name).file_size
        except KeyError:
            return None

    def read(self, name: str) -> bytes:
        return self._archive.read(name)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[_Folder | _Zip]:
    if path.is_dir():
        yield _Folder(path)
        return
    with zipfile.ZipFile(path) as archive:
        yield _Zip(archive)


def _read(path: Path, files: _Folder | _Zip, name: str) -> bytes:
    size = files.size(name)
    if size is None:
        raise BadInput(f"bundle {path}: {name} is missing")
    if size > MAX_FILE_BYTES:
        raise BadInput(f"bundle {path}: {name} claims {size} bytes; refused")
    return files.read(name)


def _check_manifest(path: Path, raw: bytes) -> Manifest:
    try:
        head = msgspec.json.decode(raw, type=dict[str, msgspec.Raw])
        schema = msgspec.json.decode(head.get("schema", msgspec.Raw(b"null")))
        if schema not in READABLE:
            raise BadInput(
                f"bundle {path}: {MANIFEST} has schema {schema!r}, this version reads {READABLE[0]} to {SCHEMA}; "
                "make the bundle again with `pulsecode quantize`"
            )
        return msgspec.json.decode(raw, type=Manifest)
    except msgspec.DecodeError as error:
        raise BadInput(f"bundle {path}: {MANIFEST}: {error}") from None


def _check_sense(path: Path, manifest: Manifest) -> None:
    """Refuse numbers that would only fail later, far from their cause."""
    frontend, shape = manifest.frontend, manifest.encoder
    named = [engine.file for engine in manifest.engines.values()]
    named += [manifest.novelty.transitions] if manifest.novelty else []
    named += [manifest.readout.file] if manifest.readout else []
    novelty, readout, rate = manifest.novelty, manifest.readout, manifest.rate
    breath = manifest.respiration
    wrong = {
        "frontend.rate must be 1 to 10000 Hz": not 1 <= frontend.rate <= 10_000,
        "frontend.hop must be 1 to 10000 samples": not 1 <= frontend.hop <= 10_000,
        "frontend.sos must be 1 to 16 rows of 6 numbers with a0 = 1": not 1 <= len(frontend.sos) <= 16
        or any(len(row) != 6 or row[3] != 1 for row in frontend.sos),
        "frontend.gain_hops must be 1 to 1000": not 1 <= frontend.gain_hops <= 1000,
        "frontend.clip must be positive": not frontend.clip > 0,
        "encoder's sizes must be positive": min(shape.layers, shape.heads, shape.head_dim, shape.codebook_size) < 1,
        "encoder.context must be at least 2": shape.context < 2,
        "encoder.lookahead must be 0 to 2": not 0 <= shape.lookahead <= 2,
        "warmup_hops must be 0 to 10000": not 0 <= manifest.warmup_hops <= 10_000,
        "engines must name at least one engine": not manifest.engines,
        "encoder.lookahead must be below encoder.context": shape.lookahead >= shape.context,
        "novelty.scale must be positive": novelty is not None and not novelty.scale > 0,
        "novelty.smoothing_hops must be 1 to 10000": novelty is not None and not 1 <= novelty.smoothing_hops <= 10_000,
        "novelty.quantiles must be at least 2 rising numbers": novelty is not None
        and (len(novelty.quantiles) < 2 or novelty.quantiles != sorted(novelty.quantiles)),
        "readout.hops must be 1 to 1000": readout is not None and not 1 <= readout.hops <= 1000,
        "rate.reach and widest must be positive and rate.level between 0 and 1": rate is not None
        and not (min(rate.reach, rate.widest) > 0 and 0 < rate.level < 1),
        "respiration.evidence, drift, reach and max_error must be positive and leak between 0 and 1": breath is not None
        and not (min(breath.evidence, breath.drift, breath.reach, breath.max_error) > 0 and 0 < breath.leak < 1),
        "every file it uses must be listed in files with its SHA-256": any(
            name not in manifest.files for name in named
        ),
    }
    for message, bad in wrong.items():
        if bad:
            raise BadInput(f"bundle {path}: {MANIFEST}: {message}")


def load_bundle(path: Path | str | None = None) -> Bundle:
    """Read and verify a bundle folder or zip (default: the one that ships). Raises :class:`BadInput`."""
    path = DEFAULT_BUNDLE if path is None else Path(path)
    if not path.exists():
        raise BadInput(f"bundle {path}: no such folder or zip")
    try:
        with _opened(path) as files:
            return _verified(path, files)
    except _UNREADABLE as error:
        raise BadInput(f"bundle {path}: cannot be read as a folder or zip ({error})") from None


def _verified(path: Path, files: _Folder | _Zip) -> Bundle:
    contents = {MANIFEST: _read(path, files, MANIFEST)}
    manifest = _check_manifest(path, contents[MANIFEST])
    _check_sense(path, manifest)
    for name, expected in manifest.files.items():
        pure = PurePosixPath(name)
        if pure.is_absolute() or ".." in pure.parts:
            raise BadInput(f"bundle {path}: {MANIFEST}: files: {name!r} leaves the bundle; refused")
        contents[name] = _read(path, files, name)
        if hashlib.sha256(contents[name]).hexdigest() != expected:
            raise BadInput(f"bundle {path}: {name} does not match its SHA-256 in {MANIFEST}; copy the bundle again")
    return Bundle(path, manifest, contents)


def write_bundle(path: Path, manifest: Manifest, contents: dict[str, bytes]) -> None:
    """Write a bundle folder; ``manifest.files`` is filled in here from ``contents``."""
    path.mkdir(parents=True, exist_ok=True)
    digests = {name: hashlib.sha256(data).hexdigest() for name, data in sorted(contents.items())}
    manifest = msgspec.structs.replace(manifest, files=digests)
    for name, data in contents.items():
        (path / name).write_bytes(data)
    (path / MANIFEST).write_bytes(msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n")
