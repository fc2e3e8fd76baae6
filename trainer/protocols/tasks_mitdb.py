"""MIT-BIH Arrhythmia, de Chazal's DS1 (22 records): rhythm and ectopy from one ECG lead, for the ECG student.

The modified limb lead II at 360 Hz, resampled to the model's grid; labels are the cardiologists' beat and rhythm
annotations. Beat classes follow AAMI EC57: supraventricular ectopic (A, a, J, S), ventricular ectopic (V, E). No
training of an encoder sees these records: they have no pulse wave.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from firmware_bridge.errors import BadInput
from trainer import windows
from trainer.protocols import recorded
from trainer.protocols.cache import Arrays, digest, kept
from trainer.protocols.recorded import cut_windows, window_starts
from trainer.protocols.task import I64, Bools, Task
from trainer.recordings import NOT_READABLE, channel_label
from trainer.windows import Patches, WindowConfig, run_frontend, to_grid

DATASET = "mitdb"
LEAD = "MLII"
SECONDS = 10.0
SAME_PERSON = {"202": "201"}  # the one person with two records (202 is in DS2)
SUPRAVENTRICULAR, VENTRICULAR, FUSION = frozenset("AaJS"), frozenset("VE"), frozenset("F")
NORMAL = frozenset("NLRej")
FIBRILLATION = frozenset({"(AFIB", "(AFL"})
SINUS = frozenset({"(N", "(SBR"})
BEAT_CLASSES = ("normal", "supraventricular", "ventricular")
EVERY_BEAT = 4  # of the normal ones, one in so many stands for the others: they are forty times the rarest class


@dataclass(frozen=True)
class Annotated:
    """One record: ECG patches, and annotations by grid sample; ``rhythm`` (hops,) at each hop's middle."""

    person: str
    patches: Patches
    beats: I64
    symbols: NDArray[np.str_]
    rhythm: NDArray[np.str_]


def annotated(path: Path, config: WindowConfig) -> Annotated:
    """Read ``path`` (no suffix); raises :class:`BadInput`."""
    import wfdb

    try:
        header: Any = wfdb.rdheader(str(path))
        channel = [channel_label(name) for name in header.sig_name].index(LEAD)
        record: Any = wfdb.rdrecord(str(path), channels=[channel])
        marks: Any = wfdb.rdann(str(path), "atr")
    except NOT_READABLE as error:
        raise BadInput(f"recording {path}: needs an {LEAD} lead and .atr annotations ({error})") from None
    wave = to_grid(np.asarray(record.p_signal[:, 0], np.float64), float(header.fs), config.rate)
    patches = run_frontend(wave, config, "ecg")
    at = np.asarray(marks.sample, np.int64) * config.rate / float(header.fs)
    notes = np.array([note.strip("\0 ") for note in marks.aux_note])
    changes = np.char.startswith(notes, "(")
    middles = (np.arange(len(patches.valid)) + 0.5) * config.hop
    which = np.searchsorted(at[changes], middles, side="right") - 1
    names = np.concatenate([notes[changes], [""]])  # index -1: before the first annotation
    symbols = np.array(list(marks.symbol))
    beats = np.isin(symbols, [*NORMAL, *SUPRAVENTRICULAR, *VENTRICULAR, *FUSION, "/", "f", "Q"])
    person = SAME_PERSON.get(path.name, path.name)
    return Annotated(f"{DATASET}/{person}", patches, at[beats].astype(np.int64), symbols[beats], names[which])


def _records(data: Path, people: int | None) -> list[Path]:
    found = [file.with_suffix("") for file in sorted((data / DATASET).glob("*.hea"))]
    if not found:
        raise BadInput(f"data folder {data}: holds no recordings of {DATASET}; put them into {data / DATASET}")
    return found[:people]


def _window_labels(record: Annotated, starts: I64, hops: int, hop: int) -> dict[str, Bools]:
    """By task, for windows that start at hop ``starts``."""
    rhythm = record.rhythm[starts[:, None] + np.arange(hops)]
    ectopic = record.beats[np.isin(record.symbols, [*SUPRAVENTRICULAR, *VENTRICULAR])]
    inside = np.searchsorted(ectopic, (starts + hops) * hop) - np.searchsorted(ectopic, starts * hop)
    return {
        "fibrillation": np.isin(rhythm, list(FIBRILLATION)).mean(1) > 0.5,
        "arrhythmia": (~np.isin(rhythm, list(SINUS))).mean(1) > 0.5,
        "ectopy": inside > 0,
    }


def _beat_windows(record: Annotated, hops: int, hop: int) -> tuple[I64, I64]:
    """First hop and class of each beat's window, which ends with the hop after the one that holds the R peak."""
    kinds = np.full(len(record.beats), -1)
    for index, symbols in enumerate((NORMAL, SUPRAVENTRICULAR, VENTRICULAR)):
        kinds[np.isin(record.symbols, list(symbols))] = index
    normal = np.flatnonzero(kinds == 0)
    kinds[np.setdiff1d(normal, normal[::EVERY_BEAT])] = -1
    starts = record.beats // hop + 2 - hops
    valid = np.concatenate([[0], np.cumsum(~record.patches.valid)])
    whole = (starts >= 0) & (starts + hops <= len(record.patches.valid))
    whole &= valid[np.clip(starts + hops, 0, len(valid) - 1)] == valid[np.clip(starts, 0, len(valid) - 1)]
    chosen = whole & (kinds >= 0)
    return starts[chosen], kinds[chosen]


def _make(records: Sequence[Path], config: WindowConfig) -> Arrays:
    hops = round(SECONDS * config.rate / config.hop)
    read = [annotated(path, config) for path in records]
    starts = [window_starts(r.patches, config, hops, hops) for r in read]
    labels = [_window_labels(r, s, hops, config.hop) for r, s in zip(read, starts, strict=True)]
    beats = [_beat_windows(r, hops, config.hop) for r in read]
    patches = [r.patches.patches for r in read]
    return {
        "ecg": cut_windows(patches, starts, hops),
        "people": np.repeat([r.person for r in read], [len(s) for s in starts]),
        "beat ecg": cut_windows(patches, [s for s, _ in beats], hops),
        "beat people": np.repeat([r.person for r in read], [len(s) for s, _ in beats]),
        "beats": np.concatenate([kinds for _, kinds in beats]),
    } | {name: np.concatenate([some[name] for some in labels]) for name in labels[0]}


def _people_with(labels: NDArray[np.generic], people: NDArray[np.str_], value: int) -> str:
    of = labels == value
    return f"{int(of.sum()):,} windows of {len(np.unique(people[of]))} people"


def mitdb_tasks(data: Path, cache: Path, config: WindowConfig, people: int | None = None) -> list[Task]:
    """Ectopy, arrhythmia and atrial fibrillation in windows of 10 s, and the class of single beats.

    ``people``: the first so many records only. Raises :class:`BadInput`.
    """
    records = _records(data, people)
    files = [path.with_suffix(end) for path in records for end in (".dat", ".atr")]
    key = digest(config.to_dict(), [str(p) for p in records], *files, windows, recorded, sys.modules[__name__])
    found = kept(cache, "mitdb", key, lambda: _make(records, config))
    who, ecg = found["people"].astype(np.str_), found["ecg"].astype(np.float32)

    def windowed(label: str, name: str, classes: tuple[str, str], about: str) -> Task:
        labels = found[label].astype(np.float64)
        return Task(
            f"MIT-BIH DS1, {name}, 10 s", "classification", None, ecg, labels, who, config.rate, classes,
            coverage=f"{len(labels):,} windows of lead {LEAD} that do not overlap. {about}: "
            f"{_people_with(labels, who, 1)}; the others: {_people_with(labels, who, 0)}",
        )  # fmt: skip

    kinds, owners = found["beats"].astype(np.float64), found["beat people"].astype(np.str_)
    counted = "; ".join(f"{name}: {_people_with(kinds, owners, i)}" for i, name in enumerate(BEAT_CLASSES))
    beats = Task(
        "MIT-BIH DS1, beats", "classification", None, found["beat ecg"].astype(np.float32), kinds, owners, config.rate,
        BEAT_CLASSES, coverage=f"Single beats, AAMI classes ({counted}), from the {SECONDS:.0f} s up to the hop "
        f"after the beat's own: nothing later is seen. Every ectopic beat, every {EVERY_BEAT}th of the normal ones; "
        "fusion, paced and unknown beats are left out",
    )  # fmt: skip
    return [
        windowed("ectopy", "ectopic beats", ("none", "ectopic"), "Ectopic: holds a beat of the classes V or S of AAMI"),
        windowed(
            "arrhythmia", "rhythm", ("sinus", "other"), "Other than sinus rhythm or bradycardia for more than half"
        ),
        windowed("fibrillation", "AF or flutter", ("other", "AF or flutter"), "AF or flutter for more than half"),
        beats,
    ]
