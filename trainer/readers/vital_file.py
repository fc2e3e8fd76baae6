"""VitalDB's ``.vital`` files (Lee et al., Sci. Data 2022, doi:10.1038/s41597-022-01411-5), through the vitaldb package.

A case is one operation, with ``SNUADC/PLETH`` and ``SNUADC/ECG_II`` (or ECG_V5) at 500 Hz. Some people were operated on
more than once: ``clinical_data.csv`` (``clinical_info.csv`` where downloaded from vitaldb.net) beside the files, or a
folder above, tells whose case it is. Without it a case stands for a person, and the split by person is only as good.

CSV exports of the same tracks (``Time,SNUADC/PLETH,SNUADC/ECG_II``) are read by :mod:`trainer.readers.csv_file`.
Tested with files that the vitaldb package wrote, not with the hospital's.
"""

import csv
import warnings
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from firmware_bridge.errors import BadInput, not_installed
from trainer.readers.channels import find_pair
from trainer.recordings import F64, NOT_READABLE, LeftOut, Recording

CLINICAL = ("clinical_data.csv", "clinical_info.csv")
BAD_FILE = (*NOT_READABLE, EOFError, ArithmeticError)  # what a damaged gzip stream makes the package raise


def _open(file: Path, tracks: list[str] | None = None) -> Any:
    """The file with the samples of ``tracks``, or with none. Raises :class:`OSError` where it cannot be read."""
    try:
        import vitaldb
    except ModuleNotFoundError:
        raise not_installed("vitaldb", "vitaldb") from None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # the package leaves closing the file to the collector
        try:
            return vitaldb.VitalFile(str(file), tracks, header_only=tracks is None)
        except BAD_FILE as error:
            reason = " ".join(str(error).split()) or "it is damaged"
        # Out here the error no longer keeps the file alive.
        raise OSError(reason)


@lru_cache(maxsize=8)
def _people(table: Path) -> dict[str, str]:
    """Case → subject, both as VitalDB numbers them."""
    try:
        with table.open(encoding="utf-8-sig", newline="") as stream:
            return {row["caseid"].strip(): row["subjectid"].strip() for row in csv.DictReader(stream)}
    except (OSError, KeyError, ValueError, AttributeError) as error:
        raise BadInput(f"{table}: not VitalDB's table with caseid and subjectid ({error})") from None


def _patient(file: Path) -> str:
    case = file.stem.lstrip("0") or file.stem
    tables = (folder / name for folder in (file.parent, file.parent.parent) for name in CLINICAL)
    table = next((path for path in tables if path.exists()), None)
    subject = _people(table).get(case) if table else None
    return f"subject{subject}" if subject else f"case{case}"


def scan(file: Path, dataset: str, group: str) -> list[Recording]:
    """The case in ``file``; raises :class:`LeftOut`."""
    try:
        vital = _open(file)
        names = [name for name, track in vital.trks.items() if track.srate > 0]
        ppg, ecg = find_pair(names)
        rate = float(max(vital.trks[names[channel]].srate for channel in (ppg, ecg)))
        length = round((vital.dtend - vital.dtstart) * rate)
    except OSError as error:
        raise LeftOut(f"vital file that cannot be read ({error})") from None
    if length < 1:
        raise LeftOut("vital file that cannot be read (it is empty)")
    return [Recording(dataset, group, file.stem, _patient(file), file, rate, length, ppg, ecg, names[ecg], __name__)]


def read(recording: Recording) -> tuple[F64, F64]:
    """PPG and ECG in the tracks' units at ``recording.rate``, NaN where the recorder had nothing."""
    try:
        names = [name for name, track in _open(recording.path).trks.items() if track.srate > 0]
        pair = [names[recording.ppg_channel], names[recording.ecg_channel]]
        signals = np.asarray(_open(recording.path, pair).to_numpy(pair, 1 / recording.rate), dtype=np.float64)
    except (OSError, IndexError) as error:  # IndexError: other tracks than when it was listed
        raise BadInput(f"recording {recording.path}: cannot be read ({error})") from None
    return signals[:, 0], signals[:, 1]
