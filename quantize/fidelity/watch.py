"""The whole device pipeline over real recordings, as the monitor runs it, and what it said at every hop.

Nobody whose recordings are watched here fitted anything: test people, and of a data set that is held out the half that
judges. Each data set has an hour; everybody an equal stretch of it, yet long enough for an alarm to build up.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge.alarms import Event
from edge.bundle import Bundle
from edge.engines import Engine
from edge.monitor import Ended, Monitor
from edge.pipeline import Outcome
from edge.readouts import pooled
from firmware_bridge.source import open_source
from trainer.gating import r_peaks
from trainer.heads.observe import ecg_rate
from trainer.recordings import Recording
from trainer.splits import in_choosing_half, part_of
from trainer.windows import WindowConfig, run_frontend, to_grid

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
Bools = NDArray[np.bool_]

HOUR = 3600.0  # s of each data set
LEAST_STRETCH = 330.0  # s of a person: Challenge 2015 raises its alarm after 300


@dataclass(frozen=True)
class Stretch:
    """The first ``seconds`` of a recording."""

    recording: Recording
    seconds: float

    @property
    def person(self) -> str:
        """Unique over all data sets."""
        return f"{self.recording.dataset}/{self.recording.patient}"


@dataclass(frozen=True)
class Watch:
    """What the pipeline said, by hop (n,).

    ``t``: the hop's end, s; ``token``: -1 where none; ``novelty``: p-value; ``rate``: as it is shown, bpm, and
    ``believed``; ``readout``: the embedding's alone, bpm; ``beats_rate``: the intervals' alone, bpm; ``sqi`` where it
    was judged by beats; ``irregular``: probability. NaN where there is none. ``alarms``: (name, start, end), s.
    """

    t: F64
    token: NDArray[np.int64]
    novelty: F64
    rate: F64
    believed: Bools
    readout: F64
    beats_rate: F64
    sqi: F64
    irregular: F64
    alarms: list[tuple[str, float, float]]


def judges(recording: Recording) -> bool:
    """Whether nothing was fitted or chosen on this person."""
    part = part_of(recording.dataset, recording.patient)
    return part == "test" or (part == "held_out" and not in_choosing_half(recording.patient))


def stretches(recordings: Iterable[Recording], hour: float = HOUR) -> list[Stretch]:
    """Up to ``hour`` s of each data set's judging people, spread evenly over them; one recording of each person."""
    people: dict[str, dict[str, Recording]] = defaultdict(dict)
    for recording in recordings:
        if recording.reader is None and judges(recording):
            people[recording.dataset].setdefault(recording.patient, recording)
    chosen = []
    for of_dataset in people.values():
        # By group and name, so that an even spread takes its share of each group (in AF or not).
        some = sorted(of_dataset.values(), key=lambda r: (r.group, r.name))
        seconds = max(LEAST_STRETCH, hour / len(some))
        count = min(len(some), max(1, round(hour / seconds)))
        evenly = [some[i] for i in np.unique(np.linspace(0, len(some) - 1, count).round().astype(int))]
        chosen += [Stretch(each, min(seconds, each.length / each.rate)) for each in evenly]
    return chosen


def truth(stretch: Stretch, times: F64, config: WindowConfig) -> F64:
    """The ECG's rate over the 10 s before each of ``times``, bpm; NaN where it tells none."""
    recording = stretch.recording
    ecg = run_frontend(to_grid(recording.read()[1], recording.rate, config.rate), config, "ecg").patches.ravel()
    peaks = r_peaks(ecg, config.rate) / config.rate
    return np.array([ecg_rate(peaks, t) for t in times.tolist()])


def watch(stretch: Stretch, bundle: Bundle, engine: Engine, table: F32 | None) -> Watch:
    """Run the monitor with ``engine`` over a stretch's PPG; ``table`` are the bundle's readouts, (1, 2 dim + 1)."""
    source = open_source(f"wfdb:{stretch.recording.path}", "ppg")
    monitor = Monitor(source, bundle, engine, fast=True, duration=stretch.seconds)
    hops = bundle.manifest.readout.hops if bundle.manifest.readout else 0
    embeddings: list[F32] = []
    rows: list[tuple[float, ...]] = []
    events: list[tuple[float, Event]] = []
    for item in monitor:
        if isinstance(item, Outcome):
            embeddings = [*embeddings, item.embedding][-hops:] if hops else []
            rows.append(_row(item, embeddings, table))
        if isinstance(item, Outcome | Ended):
            events += [(item.t, event) for event in item.events]
    columns = np.array(rows, np.float64).reshape(-1, 9).T
    return Watch(
        t=columns[0],
        token=columns[1].astype(np.int64),
        novelty=columns[2],
        rate=columns[3],
        believed=columns[4] > 0,
        readout=columns[5],
        beats_rate=columns[6],
        sqi=columns[7],
        irregular=columns[8],
        alarms=paired(events, monitor.t),
    )


def _row(item: Outcome, embeddings: list[F32], table: F32 | None) -> tuple[float, ...]:
    nan = float("nan")
    rhythm, quality, rate = item.rhythm, item.quality, item.rate
    readout = nan
    # A rate with an interval is there only once the segment has filled the readout's seconds with embeddings.
    if rate is not None and table is not None:
        readout = float(np.exp(table[0, :-1] @ pooled(np.stack(embeddings)) + table[0, -1]))
    intervals = nan if rhythm.hr is None else rhythm.hr
    judged = bool(quality.features) and quality.state in ("good", "poor")
    return (
        item.t,
        -1 if item.token is None else item.token.id,
        nan if item.novelty is None else item.novelty,
        intervals if rate is None else rate.bpm,
        rhythm.valid if rate is None else rate.valid,
        readout,
        intervals,
        quality.sqi if judged else nan,
        nan if rhythm.p_irregular is None else rhythm.p_irregular,
    )


def paired(events: Iterable[tuple[float, Event]], end: float) -> list[tuple[str, float, float]]:
    """Alarms as (name, start, end), each from when it was told; ``end``: when the stream ended."""
    found, active = [], dict[str, float]()
    for now, event in events:
        if event.offset is None:
            active.setdefault(event.name, now)
        elif event.name in active:
            found.append((event.name, active.pop(event.name), now))
    found += [(name, start, end) for name, start in active.items()]
    return sorted(found, key=lambda alarm: (alarm[1], alarm[0]))
