"""Finds the recordings under a data folder and reads their PPG and ECG channels.

Every folder directly under the data folder is one data set. WFDB records are found by their ``.hea`` headers and read
here; what else can be read, by the end of a file's name, is in :data:`READERS`, one module of :mod:`trainer.readers`
each. In a data set that has WFDB records nothing else is read: it would be the same people again (BIDMC is published
as WFDB and as CSV), under other names, in other parts of the split.
"""

import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from firmware_bridge.errors import BadInput

F64 = NDArray[np.float64]

PPG_LABELS = ("PLETH", "PPG")
# Lead II first: it is what most records have, and what MIMIC PERform calls "ECG".
ECG_LABELS = ("II", "ECG", "V", "I", "III", "MCL", "AVF", "AVL", "AVR")
# Where headers name the person: BIDMC's "MIMIC II matched wdb ID", MIMIC PERform's "<Original Subject ID>".
PATIENT_COMMENTS = (
    re.compile(r"MIMIC II matched wdb ID:\s*([^\s<]+)"),
    re.compile(r"<Original Subject ID>:\s*([^\s<]+)"),
)
NOT_READABLE = (OSError, ValueError, IndexError, KeyError, TypeError, AttributeError)
# End of a file's name (lower case) → the module that reads such files.
READERS = {
    ".edf": "trainer.readers.edf_file",
    ".csv": "trainer.readers.csv_file",
    ".mat": "trainer.readers.pulsedb_file",
    ".vital": "trainer.readers.vital_file",
}


class LeftOut(Exception):
    """Raised by a reader's ``scan``: this file gives no recording; the message is the reason, as a person reads it.

    ``counted`` is false for files that do not even claim to be one (a table of labels, say).
    """

    def __init__(self, reason: str, *, counted: bool = True) -> None:
        super().__init__(reason)
        self.counted = counted


class Reader(Protocol):
    """What a module in :data:`READERS` offers."""

    def scan(self, file: Path, dataset: str, group: str) -> "Sequence[Recording]":
        """The recordings that ``file`` holds, without reading their samples; raises :class:`LeftOut`."""

    def read(self, recording: "Recording") -> tuple[F64, F64]:
        """See :meth:`Recording.read`."""


@dataclass(frozen=True, slots=True)
class Recording:
    """One record with a PPG and an ECG channel.

    ``patient`` is the person's id where the header tells it, else the record's name; ``group`` is the folder the
    record lies in (MIMIC PERform keeps AF and not-AF apart by it); ``rate`` in Hz, ``length`` in samples. ``path`` is
    the file, for a WFDB record without its ending; the channels are numbers within it. ``reader`` names the module
    that reads it; without one it is WFDB.
    """

    dataset: str
    group: str
    name: str
    patient: str
    path: Path
    rate: float
    length: int
    ppg_channel: int
    ecg_channel: int
    ecg_label: str
    reader: str | None = None

    @property
    def files(self) -> tuple[Path, ...]:
        """The files whose bytes the samples depend on."""
        return (self.path,) if self.reader else (Path(f"{self.path}.hea"), Path(f"{self.path}.dat"))

    def read(self) -> tuple[F64, F64]:
        """PPG and ECG in physical units, float64, each of shape ``(length,)``; NaN where a sample is missing.

        Raises :class:`BadInput` where the file cannot be read.
        """
        if self.reader:
            return _reader(self.reader).read(self)
        import wfdb

        try:
            record: Any = wfdb.rdrecord(str(self.path), channels=[self.ppg_channel, self.ecg_channel])
            signals: F64 = np.asarray(record.p_signal, dtype=np.float64)
        except NOT_READABLE as error:
            raise BadInput(f"recording {self.path}.dat: cannot be read ({error})") from None
        return signals[:, 0], signals[:, 1]


@dataclass(frozen=True, slots=True)
class Listing:
    """What a data folder holds. ``skipped`` counts the records left out, by (data set, reason)."""

    folder: Path
    recordings: list[Recording]
    skipped: Counter[tuple[str, str]]


def data_folder(given: Path | str | None = None) -> Path:
    """The data folder: ``given``, else the environment's PULSECODE_DATA, else ``../shared/data``."""
    folder = Path(given or os.environ.get("PULSECODE_DATA") or Path("..") / "shared" / "data")
    if not folder.is_dir():
        raise BadInput(f"data folder {folder}: no such folder; give --data DIR or set PULSECODE_DATA")
    return folder


def channel_label(name: str) -> str:
    """``"PPG, Fingertip PPG …"`` → ``"PPG"``: what comes before the first comma, upper case."""
    return name.partition(",")[0].strip().upper()


def _first_label(labels: list[str], wanted: tuple[str, ...]) -> int | None:
    return next((labels.index(label) for label in wanted if label in labels), None)


def _patient(comments: list[str], name: str) -> str:
    text = "\n".join(comments)
    return next((found.group(1) for pattern in PATIENT_COMMENTS if (found := pattern.search(text))), name)


def _is_numerics(stem: str, rate: float) -> bool:
    """BIDMC's ``…n`` records: the monitor's numbers at 1 Hz, not signals."""
    return stem.endswith("n") and rate <= 1


def _reader(module: str) -> Reader:
    return cast(Reader, import_module(module))


def _scan_wfdb(header: Path, dataset: str, group: str) -> list[Recording]:
    """The record of ``header``; none for a monitor's numbers. Raises :class:`LeftOut`, :class:`BadInput`."""
    import wfdb

    path = header.with_suffix("")
    try:
        record: Any = wfdb.rdheader(str(path))
        labels = [channel_label(name) for name in record.sig_name or []]
        rate, length = float(record.fs), int(record.sig_len or 0)
    except NOT_READABLE as error:
        raise BadInput(f"recording {header}: not a readable WFDB header ({error})") from None
    if _is_numerics(path.name, rate):
        return []
    ppg, ecg = _first_label(labels, PPG_LABELS), _first_label(labels, ECG_LABELS)
    if ppg is None:
        raise LeftOut("no PPG channel")
    if ecg is None:
        raise LeftOut("no ECG channel")
    patient = _patient(record.comments, path.name)
    return [Recording(dataset, group, path.name, patient, path, rate, length, ppg, ecg, labels[ecg])]


def find_recordings(folder: Path) -> Listing:
    """All recordings under ``folder`` that have a PPG and an ECG channel, sorted by path.

    Raises :class:`BadInput` if a WFDB header cannot be read, or if no recording has both channels.
    """
    recordings: list[Recording] = []
    skipped: Counter[tuple[str, str]] = Counter()
    files = sorted(
        file
        for file in folder.rglob("*")
        if file.suffix.lower() in (".hea", *READERS) and not file.name.startswith(".") and file.is_file()
    )
    places = [file.relative_to(folder).parts for file in files]
    datasets = [parts[0] if len(parts) > 1 else folder.resolve().name for parts in places]
    with_wfdb = {dataset for dataset, file in zip(datasets, files, strict=True) if file.suffix == ".hea"}
    for file, parts, dataset in zip(files, places, datasets, strict=True):
        module = READERS.get(file.suffix.lower())
        if module and dataset in with_wfdb:
            continue
        scan = _reader(module).scan if module else _scan_wfdb
        try:
            recordings += scan(file, dataset, parts[-2] if len(parts) > 1 else dataset)
        except LeftOut as reason:
            if reason.counted:
                skipped[dataset, str(reason)] += 1
    if not files:
        raise BadInput(f"data folder {folder}: holds no recording ({', '.join(('.hea', *READERS))})")
    if not recordings:
        raise BadInput(f"data folder {folder}: no recording there has both a PPG (PLETH) and an ECG channel")
    return Listing(folder, recordings, skipped)
