"""Finds the WFDB recordings under a data folder and reads their PPG and ECG channels.

Every folder directly under the data folder is one data set; its records are found by their ``.hea`` headers.
"""

import os
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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


@dataclass(frozen=True, slots=True)
class Recording:
    """One record with a PPG and an ECG channel.

    ``patient`` is the person's id where the header tells it, else the record's name; ``group`` is the folder the
    record lies in (MIMIC PERform keeps AF and not-AF apart by it); ``rate`` in Hz, ``length`` in samples.
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

    def read(self) -> tuple[F64, F64]:
        """PPG and ECG in physical units, float64, each of shape ``(length,)``; NaN where a sample is missing."""
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


def find_recordings(folder: Path) -> Listing:
    """All records under ``folder`` that have a PPG and an ECG channel, sorted by path.

    Raises :class:`BadInput` if a header cannot be read, or if no record has a PPG (PLETH) channel.
    """
    import wfdb

    recordings: list[Recording] = []
    skipped: Counter[tuple[str, str]] = Counter()
    headers = sorted(folder.rglob("*.hea"))
    for header in headers:
        path = header.with_suffix("")
        parts = path.relative_to(folder).parts
        dataset = parts[0] if len(parts) > 1 else folder.resolve().name
        try:
            record: Any = wfdb.rdheader(str(path))
            labels = [channel_label(name) for name in record.sig_name or []]
            rate, length = float(record.fs), int(record.sig_len or 0)
        except NOT_READABLE as error:
            raise BadInput(f"recording {header}: not a readable WFDB header ({error})") from None
        if _is_numerics(path.name, rate):
            continue
        ppg, ecg = _first_label(labels, PPG_LABELS), _first_label(labels, ECG_LABELS)
        if ppg is None:
            skipped[dataset, "no PPG channel"] += 1
        elif ecg is None:
            skipped[dataset, "no ECG channel"] += 1
        else:
            patient = _patient(record.comments, path.name)
            recordings.append(
                Recording(dataset, parts[-2] if len(parts) > 1 else dataset, path.name, patient, path, rate, length,
                          ppg, ecg, labels[ecg])
            )  # fmt: skip
    if not headers:
        raise BadInput(f"data folder {folder}: holds no WFDB header (*.hea)")
    if not recordings:
        raise BadInput(f"data folder {folder}: no WFDB header there has both a PLETH (or PPG) and an ECG channel")
    return Listing(folder, recordings, skipped)
