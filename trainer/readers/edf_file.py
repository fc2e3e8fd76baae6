"""EDF and EDF+ files (Kemp et al. 1992, 2003), also ``.edf`` files with a BDF header, through pyedflib.

The person is the header's patient code; where that is absent or "X" (EDF+'s word for anonymous), the file's name. EDF
has no mark for a missing sample, and discontinuous files (EDF+D) are refused, as EDFlib does.
"""

from pathlib import Path
from typing import Any

import numpy as np

from firmware_bridge.errors import BadInput, not_installed
from trainer.readers.channels import find_pair
from trainer.recordings import F64, NOT_READABLE, LeftOut, Recording

ANONYMOUS = ("", "X")


def _open(file: Path) -> Any:
    try:
        import pyedflib
    except ModuleNotFoundError:
        raise not_installed("pyedflib", "edf") from None
    return pyedflib.EdfReader(str(file))


def scan(file: Path, dataset: str, group: str) -> list[Recording]:
    """The recording in ``file``, at the higher of its two channels' rates; raises :class:`LeftOut`."""
    try:
        with _open(file) as edf:
            labels: list[str] = edf.getSignalLabels()
            code = str(edf.getPatientCode()).strip()
            rates = [float(edf.getSampleFrequency(i)) for i in range(len(labels))]
            lengths = [int(length) for length in edf.getNSamples()]
    except NOT_READABLE as error:
        raise LeftOut(f"EDF that cannot be read ({_reason(error, file)})") from None
    ppg, ecg = find_pair(labels)
    rate = max(rates[ppg], rates[ecg])
    length = max(lengths[ppg], lengths[ecg])
    patient = file.stem if code in ANONYMOUS else code
    return [Recording(dataset, group, file.stem, patient, file, rate, length, ppg, ecg, labels[ecg], __name__)]


def read(recording: Recording) -> tuple[F64, F64]:
    """PPG and ECG in physical units at ``recording.rate``; the slower channel is resampled to it."""
    from trainer.windows import to_grid

    signals: list[F64] = []
    try:
        with _open(recording.path) as edf:
            for channel in (recording.ppg_channel, recording.ecg_channel):
                samples = np.asarray(edf.readSignal(channel), dtype=np.float64)
                signals.append(to_grid(samples, float(edf.getSampleFrequency(channel)), recording.rate))
    except NOT_READABLE as error:
        raise BadInput(f"recording {recording.path}: cannot be read ({_reason(error, recording.path)})") from None
    length = min(len(signal) for signal in signals)
    return signals[0][:length], signals[1][:length]


def _reason(error: Exception, file: Path) -> str:
    """What EDFlib said, in one line and without the file's name, which it puts first."""
    return " ".join(str(error).replace(str(file), "").split()).strip(" :")
