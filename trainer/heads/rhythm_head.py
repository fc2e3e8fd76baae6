"""Is the rhythm irregular as in atrial fibrillation? From pulse intervals, and from R–R intervals where ectopy is
labelled: a premature beat must not look like fibrillation, and MIMIC PERform AF holds few of them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge import quality, rhythm
from edge.bundle import LogisticModel
from firmware_bridge.errors import BadInput
from trainer.heads.logistic import Examples
from trainer.heads.observe import Observed, judged
from trainer.heads.people import AF_GROUP
from trainer.splits import in_choosing_half

FEATURES = ("log_nrmssd", "log_median_change", "log_least_change")
FIBRILLATION = ("(AFIB", "(AFL")
BEATS = frozenset("NLRBAaJSVrFejnE/fQ")  # PhysioNet's beat codes
ECTOPIC = frozenset("AaJSVFE")
ECTOPIC_SHARE = 0.10  # of a window's beats
EVERY_SECONDS = 8.0


def examples(some: Sequence[Observed], readable: LogisticModel) -> Examples:
    """One row of :data:`FEATURES` every few seconds of believed signal; True for a subject in atrial fibrillation."""
    rows: list[list[float]] = []
    labels: list[bool] = []
    people: list[str] = []
    for observed in some:
        for sign in observed.signs:
            if sign.rhythm.features and judged(sign, readable).sqi >= quality.GOOD:
                rows.append([sign.rhythm.features[name] for name in FEATURES])
                labels.append(observed.recording.group == AF_GROUP)
                people.append(observed.person)
    return Examples.of(rows, labels, people, len(FEATURES))


def ectopy_examples(folder: Path, *, first: bool) -> tuple[Examples, NDArray[np.bool_]]:
    """MIT-BIH's R–R intervals of one half of its records, in windows of one rhythm; and which are of ectopy: at least a
    tenth of their beats premature or ventricular, and no fibrillation. Nothing where ``folder`` does not exist.

    Raises :class:`BadInput` where an annotation cannot be read.
    """
    rows: list[list[float]] = []
    labels: list[bool] = []
    people: list[str] = []
    ectopic: list[bool] = []
    for path in sorted(folder.glob("*.atr")):
        if in_choosing_half(path.stem) != first:
            continue
        for row, fibrillates, share in _windows(path):
            rows.append(row)
            labels.append(fibrillates)
            people.append(f"{folder.name}/{path.stem}")
            ectopic.append(share >= ECTOPIC_SHARE and not fibrillates)
    return Examples.of(rows, labels, people, len(FEATURES)), np.array(ectopic, bool)


def _windows(path: Path) -> list[tuple[list[float], bool, float]]:
    """Features, whether in fibrillation, and the share of ectopic beats, of each window with a single rhythm."""
    import wfdb

    try:
        found: Any = wfdb.rdann(str(path.with_suffix("")), "atr")
        times = np.asarray(found.sample) / float(wfdb.rdheader(str(path.with_suffix(""))).fs)
    except (OSError, ValueError, IndexError, TypeError) as error:
        raise BadInput(f"annotation {path}: cannot be read ({error})") from None
    marks = [(t, note.strip("\x00")) for t, note in zip(times, found.aux_note, strict=True) if note.startswith("(")]
    at = np.array([symbol in BEATS for symbol in found.symbol], bool)
    beats, symbols = times[at], np.array(found.symbol)[at]
    changes, names = np.array([t for t, _ in marks]), [name for _, name in marks]
    windows = []
    last = float(beats[-1]) if len(beats) else 0.0
    for end in np.arange(rhythm.IRREGULAR_SECONDS, last, EVERY_SECONDS):
        low, high = np.searchsorted(changes, [end - rhythm.IRREGULAR_SECONDS, end], side="right")
        if low == 0 or low != high:
            continue  # not named yet, or more than one rhythm
        inside = (beats > end - rhythm.IRREGULAR_SECONDS) & (beats <= end)
        intervals = np.diff(beats[inside])
        intervals = intervals[(intervals >= rhythm.IBI_RANGE[0]) & (intervals <= rhythm.IBI_RANGE[1])]
        if len(intervals) < rhythm.IRREGULAR_MIN_IBIS:
            continue
        features = rhythm.irregularity_features(intervals)
        share = float(np.mean([symbol in ECTOPIC for symbol in symbols[inside]]))
        windows.append(([features[name] for name in FEATURES], names[low - 1] in FIBRILLATION, share))
    return windows
