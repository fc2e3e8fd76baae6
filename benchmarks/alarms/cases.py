"""The recordings that are judged, and everything that is known of each: monitor, ECG, label, peer."""

import csv
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.alarms import peer
from benchmarks.alarms.watch import Watched, watch
from edge.bundle import Bundle
from edge.engines import Engine
from edge.rhythm import RATE_SECONDS
from firmware_bridge.errors import BadInput
from trainer.heads.witness import Reference, read_reference
from trainer.recordings import Recording, find_recordings
from trainer.splits import part_of
from trainer.windows import WindowConfig

F64 = NDArray[np.float64]

BIDMC, CHALLENGE, PERFORM = "bidmc", "challenge2015", "mimic_perform_af"
LABELS = "ALARMS.csv"
PEER_EVERY = 10.0  # s between the windows that the peer is asked for a rate of
RATED = (BIDMC, PERFORM)  # their ECGs are clean enough to be the truth of a rate


@dataclass(frozen=True, slots=True)
class Label:
    """What the Challenge says of a record's bedside alarm."""

    alarm: str
    true: bool


@dataclass(frozen=True, slots=True)
class Case:
    """One recording, watched. ``label`` for Challenge 2015 only; ``marks`` (k,) s where the peer was asked for a rate,
    ``peer_rates`` (k,) bpm; ``peer_beats`` s; both None without the peer."""

    recording: Recording
    watched: Watched
    reference: Reference
    label: Label | None
    marks: F64
    peer_rates: F64 | None
    peer_beats: F64 | None

    @property
    def person(self) -> str:
        """Unique over all data sets."""
        return f"{self.recording.dataset}/{self.recording.patient}"

    @property
    def test(self) -> bool:
        """Of the test part: nothing in the bundle was fitted on this person."""
        return part_of(self.recording.dataset, self.recording.patient) == "test"


def read_labels(folder: Path) -> dict[str, Label]:
    """``ALARMS.csv`` of Challenge 2015, by record. Raises :class:`BadInput` naming the line that is wrong."""
    path = folder / LABELS
    labels = {}
    try:
        with path.open(newline="", encoding="utf-8") as file:
            for number, row in enumerate(csv.DictReader(file), 2):
                record, alarm, true = (row.get(name) for name in ("record", "alarm", "alarm_is_true"))
                if not record or not alarm or true not in ("0", "1"):
                    raise BadInput(f"labels {path}: line {number}: needs record, alarm and alarm_is_true (0 or 1)")
                labels[record] = Label(alarm, true == "1")
    except OSError as error:
        raise BadInput(f"labels {path}: cannot be read ({error.strerror})") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise BadInput(f"labels {path}: not a CSV text ({error})") from None
    return labels


def choose(data: Path, limit: int | None) -> list[Recording]:
    """The recordings of the three data sets under ``data``; with ``limit`` that many of each group, evenly spread.

    Raises :class:`BadInput` if there is none.
    """
    groups: dict[tuple[str, str], list[Recording]] = defaultdict(list)
    for recording in find_recordings(data).recordings:
        if recording.dataset in (BIDMC, CHALLENGE, PERFORM):
            groups[recording.dataset, recording.group].append(recording)
    if not groups:
        raise BadInput(f"data folder {data}: holds none of {BIDMC}, {CHALLENGE}, {PERFORM}; see pulsecode bench --help")
    chosen = []
    for group in groups.values():
        count = len(group) if limit is None else min(limit, len(group))
        chosen += [group[i] for i in np.linspace(0, len(group) - 1, count).round().astype(int)]
    return chosen


def examine(recordings: list[Recording], bundle: Bundle, engine: Engine) -> Iterator[Case]:
    """Each recording, watched by the monitor and judged by its ECG, one at a time."""
    frontend = bundle.manifest.frontend
    config = WindowConfig(rate=frontend.rate, hop=frontend.hop)
    challenge = next((r.path.parent for r in recordings if r.dataset == CHALLENGE), None)
    labels = read_labels(challenge) if challenge else {}
    compared = not peer.missing()
    for recording in recordings:
        label = None
        if recording.dataset == CHALLENGE:
            if recording.name not in labels:
                raise BadInput(f"labels {recording.path.parent / LABELS}: says nothing of record {recording.name}")
            label = labels[recording.name]
        watched = watch(recording.path, bundle, engine)
        ppg = recording.read()[0] if compared else np.zeros(0)
        marks = np.arange(RATE_SECONDS, watched.seconds, PEER_EVERY) if recording.dataset in RATED else np.zeros(0)
        yield Case(
            recording,
            watched,
            read_reference(recording, config),
            label,
            marks,
            peer.rates(ppg, recording.rate, marks, RATE_SECONDS) if compared else None,
            peer.beats(ppg, recording.rate) if compared else None,
        )
