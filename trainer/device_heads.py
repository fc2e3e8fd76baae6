"""The two small logistic models that the device judges with: is the pulse readable, and is it irregular?

Both are fitted on the very features the device computes (:mod:`edge.vitals` over each recording). *Quality* learns
whether the pulse rate agrees with the ECG's, on the train and validation people of BIDMC and Challenge 2015, and is
judged on their test people. *Irregularity* learns AF on one half of MIMIC PERform AF's subjects and is judged on the
other half, which nothing else is ever fitted on.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from edge import quality, rhythm
from edge.bundle import LogisticModel
from edge.grid import Grid
from edge.ring import SampleRing
from edge.vitals import Vitals, VitalSigns
from firmware_bridge.block import Notice
from firmware_bridge.errors import BadInput
from firmware_bridge.source import open_source
from trainer.gating import r_peaks
from trainer.recordings import Recording, find_recordings
from trainer.run_folder import write_json
from trainer.splits import part_of
from trainer.windows import WindowConfig, run_frontend, to_grid

F64 = NDArray[np.float64]

EVERY_SECONDS = 4.0  # one example of each recording
AGREE_BPM = 5.0
AF_DATASET, AF_GROUP = "mimic_perform_af", "AF_wfdb"
REDRAWS = 1000
HEADS = "heads.json"


@dataclass(frozen=True)
class Examples:
    """Features (n, d), labels (n,), and each example's person."""

    features: F64
    labels: NDArray[np.bool_]
    people: NDArray[np.str_]


@dataclass(frozen=True)
class Judged:
    """A model and its AUROC on people it was not fitted on, with a 95 % interval over people."""

    model: LogisticModel
    auroc: float
    low: float
    high: float
    examples: int
    people: int


class HeadsFile(msgspec.Struct, forbid_unknown_fields=True):
    """``heads.json`` of a run folder."""

    quality: LogisticModel
    rhythm: LogisticModel
    metrics: dict[str, float | str]


def vital_signs(recording: Recording, config: WindowConfig) -> Iterator[VitalSigns]:
    """What the device would see of a recording's PPG, hop by hop, by the device's own code."""
    source = open_source(f"wfdb:{recording.path}", "ppg")
    bridge = round(source.info.rate)
    ring = SampleRing(30 * bridge, bridge)
    frontend = config.frontend("ppg")
    grid = Grid(ring, source.info.period_ns, frontend.rate, frontend.hop)
    vitals = Vitals(frontend, source.info, warmup_hops=0, quality=None, rhythm=None)
    state = vitals.start(0)
    for block in source:
        if isinstance(block, Notice):
            continue
        ring.write(block)
        while (hop := grid.next_hop()) is not None:
            if hop.segment is not None:
                state = vitals.start(hop.segment.start)
            yield vitals.step(state, hop)


def _due(signs: Iterator[VitalSigns]) -> Iterator[VitalSigns]:
    next_t = EVERY_SECONDS
    for sign in signs:
        if sign.t >= next_t:
            next_t += EVERY_SECONDS
            yield sign


def quality_examples(recording: Recording, config: WindowConfig) -> tuple[list[list[float]], list[bool]]:
    """One row of :data:`edge.quality.FEATURES` every few seconds; True where the pulse rate agrees with the ECG's."""
    ecg = run_frontend(to_grid(recording.read()[1], recording.rate, config.rate), config, "ecg").patches.ravel()
    peaks = r_peaks(ecg, config.rate) / config.rate
    rows, labels = [], []
    for sign in _due(vital_signs(recording, config)):
        inside = peaks[(peaks > sign.t - rhythm.RATE_SECONDS) & (peaks <= sign.t)]
        if not sign.quality.features or len(inside) < 4:
            continue  # nothing to judge by
        truth = 60 / float(np.median(np.diff(inside)))
        rows.append([sign.quality.features[name] for name in quality.FEATURES])
        labels.append(sign.rhythm.hr is not None and abs(sign.rhythm.hr - truth) <= AGREE_BPM)
    return rows, labels


def rhythm_examples(
    recording: Recording, config: WindowConfig, readable: LogisticModel
) -> tuple[list[list[float]], list[bool]]:
    """One row of :data:`edge.rhythm.FEATURES` every few seconds of believable signal; True for a subject in AF."""
    rows = []
    for sign in _due(vital_signs(recording, config)):
        if not sign.rhythm.features or not sign.quality.features:
            continue
        if quality.logistic(readable, sign.quality.features) >= quality.GOOD:
            rows.append([sign.rhythm.features[name] for name in rhythm.FEATURES])
    return rows, [recording.group == AF_GROUP] * len(rows)


Reader = Callable[[Recording], tuple[list[list[float]], list[bool]]]


def gather(recordings: Iterable[Recording], read: Reader, width: int) -> Examples:
    """The examples of many recordings."""
    rows: list[list[float]] = []
    labels: list[bool] = []
    people: list[str] = []
    for recording in recordings:
        more, truth = read(recording)
        rows, labels = rows + more, labels + truth
        people += [f"{recording.dataset}/{recording.patient}"] * len(more)
    return Examples(np.array(rows).reshape(-1, width), np.array(labels, bool), np.array(people))


def fit(examples: Examples, names: tuple[str, ...], calibrated_on: str) -> LogisticModel:
    """Logistic regression on standardised features, written back in the features' own units."""
    from sklearn.linear_model import LogisticRegression

    mean, spread = examples.features.mean(0), examples.features.std(0) + 1e-12
    model = LogisticRegression().fit((examples.features - mean) / spread, examples.labels)
    weights = model.coef_[0] / spread
    bias = float(model.intercept_[0] - weights @ mean)
    return LogisticModel({n: float(w) for n, w in zip(names, weights, strict=True)}, bias, calibrated_on)


def judge(model: LogisticModel, examples: Examples, names: tuple[str, ...], seed: int = 0) -> Judged:
    """AUROC with a percentile bootstrap over people."""
    from sklearn.metrics import roc_auc_score

    score = examples.features @ np.array([model.weights[name] for name in names])
    people, who = np.unique(examples.people, return_inverse=True)
    rows = [np.flatnonzero(who == i) for i in range(len(people))]
    rng = np.random.default_rng(seed)
    values = []
    for _ in range(REDRAWS):
        at = np.concatenate([rows[i] for i in rng.integers(0, len(people), len(people))])
        if 0 < examples.labels[at].mean() < 1:
            values.append(roc_auc_score(examples.labels[at], score[at]))
    low, high = np.percentile(values, [2.5, 97.5])
    auroc = float(roc_auc_score(examples.labels, score))
    return Judged(model, auroc, float(low), float(high), len(score), len(people))


def in_first_half(recording: Recording) -> bool:
    """Half of MIMIC PERform AF's subjects, by a hash, to calibrate irregularity on."""
    return hashlib.sha256(recording.patient.encode()).digest()[0] % 2 == 0


def fit_heads(recordings: list[Recording], config: WindowConfig, progress: Progress) -> HeadsFile:
    """Fit both models and judge them on other people."""

    def gathered(title: str, some: list[Recording], read: Reader, width: int) -> Examples:
        return gather(progress.track(some, description=title), read, width)

    paired = [r for r in recordings if r.dataset in ("bidmc", "challenge2015")]
    test = [r for r in paired if part_of(r.dataset, r.patient) == "test"]
    rest = [r for r in paired if part_of(r.dataset, r.patient) in ("train", "validation")]

    def of_quality(recording: Recording) -> tuple[list[list[float]], list[bool]]:
        return quality_examples(recording, config)

    width = len(quality.FEATURES)
    readable = fit(
        gathered("quality, to fit", rest, of_quality, width),
        quality.FEATURES,
        "BIDMC and Challenge 2015, train and validation people",
    )
    judged = judge(readable, gathered("quality, to judge", test, of_quality, width), quality.FEATURES)

    def of_rhythm(recording: Recording) -> tuple[list[list[float]], list[bool]]:
        return rhythm_examples(recording, config, readable)

    af = [r for r in recordings if r.dataset == AF_DATASET]
    width = len(rhythm.FEATURES)
    first = gathered("irregularity, to fit", [r for r in af if in_first_half(r)], of_rhythm, width)
    second = gathered("irregularity, to judge", [r for r in af if not in_first_half(r)], of_rhythm, width)
    irregular = fit(first, rhythm.FEATURES, f"MIMIC PERform AF, {len(np.unique(first.people))} subjects")
    judged_af = judge(irregular, second, rhythm.FEATURES)
    return HeadsFile(
        readable,
        irregular,
        {
            **_metrics("pulse readable", judged, "test people of BIDMC and Challenge 2015"),
            **_metrics("irregular (AF)", judged_af, "the other half of MIMIC PERform AF's subjects"),
        },
    )


def train_heads(out: Path, data: Path, console: Console) -> None:
    """Fit both models on the recordings under ``data`` and write ``heads.json`` into ``out``."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        heads = fit_heads(find_recordings(data).recordings, WindowConfig(), progress)
    try:
        out.mkdir(parents=True, exist_ok=True)
        write_json(out / HEADS, msgspec.to_builtins(heads))
    except OSError as error:
        raise BadInput(f"run folder {out}: cannot be written ({error.strerror})") from None
    for name, value in heads.metrics.items():
        console.print(f"heads: {name}: {value}")


def load_heads(run: Path) -> HeadsFile:
    """``heads.json`` of a run folder; raises :class:`BadInput`."""
    try:
        return msgspec.json.decode((run / HEADS).read_bytes(), type=HeadsFile)
    except OSError:
        raise BadInput(f"run folder {run}: has no {HEADS}; make it with `pulsecode train heads`") from None
    except msgspec.DecodeError as error:
        raise BadInput(f"run file {run / HEADS}: {error}; make it again with `pulsecode train heads`") from None


def _metrics(name: str, judged: Judged, who: str) -> dict[str, float | str]:
    return {
        f"{name} AUROC": round(judged.auroc, 4),
        f"{name} AUROC, 95 % interval": f"{judged.low:.3f} to {judged.high:.3f}",
        f"{name} judged on": f"{judged.examples} windows of {judged.people} of {who}",
    }
