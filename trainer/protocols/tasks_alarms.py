"""PhysioNet/CinC Challenge 2015 (Clifford et al., CinC 2015): was this arrhythmia alarm of the bedside monitor true?

The alarm fires at 5:00 and its event lies in the seconds before. What follows is what the front end had given by then:
the record is cut at 5:00 before anything is done to it, gaps included, so that no sample after the alarm can speak.
"""

import csv
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from firmware_bridge.errors import BadInput
from trainer import windows
from trainer.protocols import recorded
from trainer.protocols.cache import Arrays, digest, kept
from trainer.protocols.recorded import recordings_of
from trainer.protocols.task import Task
from trainer.recordings import Recording
from trainer.windows import WindowConfig, run_frontend, to_grid

DATASET = "challenge2015"
LABELS = "ALARMS.csv"
ALARM_SECONDS = 300.0
SECONDS = 20.0  # before the alarm: the event's 10 s, and as much again to compare with
KINDS = (
    "Asystole",
    "Bradycardia",
    "Tachycardia",
    "Ventricular_Tachycardia",
    "Ventricular_Flutter_Fib",
)


@dataclass(frozen=True)
class Alarms:
    """One window before each alarm (``task``: false or true); ``kinds`` (n,) are indices into :data:`KINDS`."""

    task: Task
    kinds: NDArray[np.int64]


def read_labels(file: Path) -> dict[str, tuple[int, bool]]:
    """Record → kind of alarm and whether it was true; raises :class:`BadInput`."""
    try:
        with file.open(newline="") as stream:
            rows = list(csv.DictReader(stream))
        return {row["record"]: (KINDS.index(row["alarm"]), bool(int(row["alarm_is_true"]))) for row in rows}
    except OSError as error:
        raise BadInput(f"alarm list {file}: cannot be read ({error.strerror}); it comes with the recordings") from None
    except (KeyError, ValueError, TypeError) as error:
        raise BadInput(
            f"alarm list {file}: needs the columns record, alarm ({', '.join(KINDS)}), alarm_is_true (0 or 1): {error}"
        ) from None


def before_alarm(recording: Recording, config: WindowConfig) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """PPG and ECG patches, (hops, hop) each, of the :data:`SECONDS` before the alarm; raises :class:`BadInput`."""
    hops = round(SECONDS * config.rate / config.hop)
    samples = round(ALARM_SECONDS * recording.rate)
    if recording.length < samples:
        raise BadInput(f"recording {recording.path}: ends before its alarm at {ALARM_SECONDS:.0f} s; leave it out")
    ppg, ecg = (to_grid(channel[:samples], recording.rate, config.rate) for channel in recording.read())
    return run_frontend(ppg, config, "ppg").patches[-hops:], run_frontend(ecg, config, "ecg").patches[-hops:]


def alarms(data: Path, cache: Path, config: WindowConfig, limit: int | None = None) -> Alarms:
    """Every labelled record that has a PPG and an ECG (``limit``: at most so many of a kind and truth), cut into the
    patches of ``config``.

    Raises :class:`BadInput` where a recording or the list cannot be used.
    """
    labels = read_labels(data / DATASET / LABELS)
    recordings = [r for r in recordings_of(data, DATASET) if r.name in labels]
    if limit is not None:
        seen: dict[tuple[int, bool], int] = {}
        chosen = []
        for r in recordings:
            seen[labels[r.name]] = seen.get(labels[r.name], 0) + 1
            if seen[labels[r.name]] <= limit:
                chosen.append(r)
        recordings = chosen

    def make() -> Arrays:
        pairs = [before_alarm(recording, config) for recording in recordings]
        return {"ppg": np.stack([p for p, _ in pairs]), "ecg": np.stack([e for _, e in pairs])}

    files = [r.path.with_suffix(".dat") for r in recordings]
    key = digest(config.to_dict(), [str(r.path) for r in recordings], *files, windows, recorded, sys.modules[__name__])
    found = kept(cache, "alarms", key, make)
    truth = np.array([labels[r.name][1] for r in recordings], np.float64)
    task = Task(
        name="Challenge 2015 alarms",
        kind="classification",
        ppg=found["ppg"].astype(np.float32),
        ecg=found["ecg"].astype(np.float32),
        labels=truth,
        people=np.array([f"{DATASET}/{r.patient}" for r in recordings]),
        classes=("false", "true"),
        coverage=f"{len(truth)} alarms, one a record, {int(truth.sum())} of them true; the last {SECONDS:.0f} s before "
        "the alarm at 5:00, one ECG lead (II where there is one) and the pulse wave; no record is left out for quality",
    )
    return Alarms(task, np.array([labels[r.name][0] for r in recordings], np.int64))
