"""PulseDB (Wang et al., Front. Digit. Health 2023, doi:10.3389/fdgth.2022.1090854), as published on GitHub and Kaggle.

MATLAB v7.3 files, which are HDF5, of 10 s segments at 125 Hz, in two layouts:

- segment files ``PulseDB_MIMIC/pXXXXXX.mat`` and ``PulseDB_Vital/pXXXXXX.mat``: ``Subj_Wins``, a structure array with
  ``ECG_F``, ``PPG_F`` and ``ABP_F`` (1250 samples each), one subject a file; segments whose ``IncludeFlag`` is 0 are
  left out;
- subset files (``…_Subset.mat``): ``Subset/Signals``, (n, 3, 1250) in MATLAB's order, channels ECG, PPG, ABP, and
  ``Subset/Subject``, a cell array of n names ``pXXXXXX_S`` (source S: 0 MIMIC-III, 1 VitalDB); one recording a subject.

Segments are numbered in time, but what lay between two of them may have been discarded, and each was scaled on its own.
So a recording is the subject's segments with :data:`GAP` missing samples after each one: the front end starts anew in
every segment, and a window lies within one. A segment has 25 hops of 0.4 s, of which the front end needs five to
settle: cut PulseDB with windows of at most 20 hops (``--hops 16 --stride 4``), the default 50 give none.

Tested with small files written in this layout, not with the real ones (248 GB).
"""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from firmware_bridge.errors import BadInput, not_installed
from trainer.recordings import F64, NOT_READABLE, LeftOut, Recording

RATE = 125.0
SEGMENT = 1250
GAP = 150  # samples, 1.2 s: a little more than what restarts the front end, and whole hops of 0.4 s
ECG, PPG = 0, 1  # rows of Signals
HDF5 = b"\x89HDF\r\n\x1a\n"
USER_BLOCK = 512  # a MAT-file's own header stands before the HDF5 signature


def _open(file: Path) -> Any:
    try:
        import h5py
    except ModuleNotFoundError:
        raise not_installed("h5py", "pulsedb") from None
    return h5py.File(file, "r")


def _is_hdf5(file: Path) -> bool:
    with file.open("rb") as stream:
        head = stream.read(USER_BLOCK + len(HDF5))
    return HDF5 in (head[: len(HDF5)], head[USER_BLOCK:])


def _text(characters: Any) -> str:
    """A MATLAB character array: UTF-16 code units."""
    return "".join(chr(int(code)) for code in np.asarray(characters).ravel())


def _cells(content: Any, name: str) -> Any:
    """The references of a structure array's field, or of a cell array, in MATLAB's order."""
    return np.asarray(content[name]).ravel()


def _included(content: Any) -> list[int]:
    wins = content["Subj_Wins"]
    count = len(_cells(wins, "PPG_F"))
    if "IncludeFlag" not in wins:
        return list(range(count))
    flags = [np.asarray(content[reference]).ravel()[0] for reference in _cells(wins, "IncludeFlag")]
    return [i for i in range(count) if flags[i]]


def _subjects(content: Any) -> list[str]:
    return [_text(content[reference]) for reference in _cells(content["Subset"], "Subject")]


def scan(file: Path, dataset: str, group: str) -> list[Recording]:
    """The recordings in ``file``, one a subject; raises :class:`LeftOut`."""

    def recording(name: str, patient: str, segments: int) -> Recording:
        length = segments * (SEGMENT + GAP)
        return Recording(dataset, group, name, patient, file, RATE, length, PPG, ECG, "ECG", __name__)

    try:
        if not _is_hdf5(file):
            raise LeftOut("MAT-file that is not MATLAB v7.3 (HDF5)", counted=False)
        with _open(file) as content:
            if "Subset" in content:
                counts = Counter(_subjects(content))
                return [recording(name, name.partition("_")[0], counts[name]) for name in sorted(counts)]
            if "Subj_Wins" in content:
                return [recording(file.stem, file.stem, len(_included(content)))]
    except NOT_READABLE as error:
        raise LeftOut(f"MAT-file that cannot be read ({' '.join(str(error).split())})") from None
    raise LeftOut("MAT-file that holds neither Subj_Wins nor Subset", counted=False)


def read(recording: Recording) -> tuple[F64, F64]:
    """PPG and ECG of the subject's segments, (segments × 1400,) each, NaN between them."""
    try:
        with _open(recording.path) as content:
            segments = _subset(content, recording.name) if "Subset" in content else _segment_file(content)
    except NOT_READABLE as error:
        raise BadInput(f"recording {recording.path}: cannot be read ({' '.join(str(error).split())})") from None
    apart = np.full((2, len(segments), SEGMENT + GAP), np.nan)
    apart[:, :, :SEGMENT] = segments.transpose(1, 0, 2)
    return apart[0].ravel(), apart[1].ravel()


def _subset(content: Any, subject: str) -> F64:
    """(segments, 2, 1250): PPG, ECG. HDF5 holds MATLAB's (n, 3, 1250) the other way round, (1250, 3, n)."""
    rows = np.flatnonzero(np.array(_subjects(content)) == subject)
    signals = np.asarray(content["Subset"]["Signals"][:, :, rows], dtype=np.float64)
    return np.asarray(signals[:, [PPG, ECG], :].transpose(2, 1, 0))


def _segment_file(content: Any) -> F64:
    """(segments, 2, 1250): PPG, ECG."""
    wins, included = content["Subj_Wins"], _included(content)
    columns = [_cells(wins, name) for name in ("PPG_F", "ECG_F")]
    return np.array(
        [[np.asarray(content[references[i]], dtype=np.float64).ravel() for references in columns] for i in included]
    ).reshape(len(included), 2, SEGMENT)
