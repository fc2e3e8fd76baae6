"""What int8 changes of what the device says: its judgements and alarms, over recordings that were watched with both.

Means are over every hop; areas under a curve over one every few seconds, as where the heads were fitted
(:mod:`trainer.heads`): neighbours tell the same, and ranks are slow to redraw. Intervals are 95 % bootstraps over
people, and each change is paired: both took the same hops of the same people.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from quantize.fidelity import af_probe
from quantize.fidelity.bootstrap import bootstrap
from quantize.fidelity.figures import AlarmChange, Estimate, Head, Hour
from quantize.fidelity.watch import Stretch, Watch
from quantize.novelty_fit import ALERT
from trainer.heads.observe import EVERY_SECONDS
from trainer.heads.quality_head import AGREE_BPM

F64 = NDArray[np.float64]
Bools = NDArray[np.bool_]
Statistic = Callable[[F64], F64]

REDRAWS = 1000
NEAR = 30.0  # s within which two alarms of one name are the same one, told at another time

# "Within 0.5 points": of areas under a curve and of shares; of an error, as a share of fp32's, but at least 0.05 bpm,
# which is less than any display shows.
POINTS = 0.005
ERROR_SHARE, LEAST_ERROR = 0.005, 0.05


@dataclass(frozen=True)
class Both:
    """A stretch with fp32 and with int8, and the ECG's rate at its hops, bpm (NaN: none)."""

    stretch: Stretch
    fp32: Watch
    int8: Watch
    truth: F64


def _every(both: Both) -> slice:
    """A hop every few seconds."""
    hop = float(np.median(np.diff(both.fp32.t))) if len(both.fp32.t) > 1 else EVERY_SECONDS
    return slice(None, None, max(1, round(EVERY_SECONDS / hop)))


def _head(
    name: str,
    unit: str,
    figures: tuple[Statistic, Statistic],
    counts: tuple[int, int],
    people: int,
    *,
    reads_encoder: bool = True,
    error: bool = False,
) -> Head | None:
    """``figures``: fp32's and int8's, from weights (redraws, people) → (redraws,); None where there is no figure."""
    fp32, int8 = figures
    everyone = np.ones((1, people))
    if not np.isfinite([fp32(everyone)[0], int8(everyone)[0]]).all():
        return None

    def estimate(statistic: Statistic, n: int) -> Estimate:
        low, high = bootstrap(statistic, people, redraws=REDRAWS)
        return Estimate(float(statistic(everyone)[0]), low, high, n, people)

    wanted = estimate(fp32, counts[0])
    allowed = max(LEAST_ERROR, ERROR_SHARE * wanted.value) if error else POINTS
    change = estimate(lambda weights: int8(weights) - fp32(weights), counts[1])
    return Head(name, unit, reads_encoder, wanted, estimate(int8, counts[1]), change, allowed)


def _mean(values: list[F64], who: NDArray[np.int64], people: int) -> Statistic:
    """Mean of all values; one array a stretch, of the person ``who``."""
    sums = np.bincount(who, [v.sum() for v in values], people)
    counts = np.bincount(who, [len(v) for v in values], people)

    def statistic(weights: F64) -> F64:
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray((weights @ sums) / (weights @ counts))

    return statistic


def mean_head(
    name: str,
    unit: str,
    watched: Sequence[Both],
    value: Callable[[Both, Watch], F64],
    *,
    error: bool = False,
    reads_encoder: bool = True,
) -> Head | None:
    """A mean over hops; ``value`` gives a stretch's values with one of the two, at the hops where it has them."""
    people, who = np.unique([both.stretch.person for both in watched], return_inverse=True)
    fp32, int8 = ([value(both, which) for both, which in zip(watched, w, strict=True)] for w in _sides(watched))
    counts = sum(map(len, fp32)), sum(map(len, int8))
    figures = _mean(fp32, who, len(people)), _mean(int8, who, len(people))
    return _head(name, unit, figures, counts, len(people), error=error, reads_encoder=reads_encoder)


def auroc_head(
    name: str, watched: Sequence[Both], rows: Callable[[Both, Watch], tuple[F64, Bools]], *, reads_encoder: bool
) -> Head | None:
    """Area under the ROC curve; ``rows`` gives a stretch's scores and labels with one of the two."""
    people, who = np.unique([both.stretch.person for both in watched], return_inverse=True)
    figures, counts = [], []
    for side in _sides(watched):
        of_each = [rows(both, which) for both, which in zip(watched, side, strict=True)]
        scores = np.concatenate([scores for scores, _ in of_each])
        labels = np.concatenate([labels for _, labels in of_each])
        whose = np.repeat(who, [len(scores) for scores, _ in of_each])
        figures.append(_area(scores, labels, whose))
        counts.append(len(scores))
    return _head(
        name, "AUROC", (figures[0], figures[1]), (counts[0], counts[1]), len(people), reads_encoder=reads_encoder
    )


def _area(scores: F64, labels: Bools, whose: NDArray[np.int64]) -> Statistic:
    if len(np.unique(labels)) < 2:
        return lambda weights: np.full(len(weights), np.nan)
    return lambda weights: af_probe.weighted_auroc(scores, labels, weights[:, whose])


def _sides(watched: Sequence[Both]) -> tuple[list[Watch], list[Watch]]:
    return [both.fp32 for both in watched], [both.int8 for both in watched]


def heads(watched: Sequence[Both]) -> list[Head]:
    """Every judgement that these recordings can tell of."""

    def believed(both: Both, which: Watch) -> F64:
        use = which.believed & np.isfinite(which.rate) & np.isfinite(both.truth)
        return np.asarray(np.abs(which.rate - both.truth)[use])

    def readout(both: Both, which: Watch) -> F64:
        error = np.abs(which.readout - both.truth)
        return np.asarray(error[np.isfinite(error)])

    def coverage(both: Both, which: Watch) -> F64:
        return which.believed[np.isfinite(both.truth)].astype(np.float64)

    def quality(both: Both, which: Watch) -> tuple[F64, Bools]:
        keep = (np.isfinite(which.sqi) & np.isfinite(both.truth))[_every(both)]
        agrees = np.abs(which.beats_rate - both.truth) <= AGREE_BPM  # False where the intervals tell no rate
        return which.sqi[_every(both)][keep], agrees[_every(both)][keep]

    def irregular(both: Both, which: Watch) -> tuple[F64, Bools]:
        values = which.irregular[_every(both)]
        values = values[np.isfinite(values)]
        return values, np.full(len(values), af_probe.is_af(np.array(both.stretch.recording.group)))

    datasets = sorted({both.stretch.recording.dataset for both in watched})
    found: list[Head | None] = []
    for dataset in datasets:
        some = [both for both in watched if both.stretch.recording.dataset == dataset]
        found.append(mean_head(f"heart rate where believed, MAE, {dataset}", "bpm", some, believed, error=True))
        found.append(mean_head(f"heart rate believed, share, {dataset}", "share", some, coverage))
        name = f"heart rate of the embedding alone, MAE, {dataset}"
        found.append(mean_head(name, "bpm", some, readout, error=True))
        found.append(auroc_head(f"AF by pulse intervals (irregular), {dataset}", some, irregular, reads_encoder=False))
    found.append(auroc_head("pulse readable (quality)", watched, quality, reads_encoder=False))
    if any(np.isfinite(both.fp32.novelty).any() for both in watched):
        found.append(mean_head(f"novelty p < {ALERT:g}, share", "share", watched, _novel))
    return [head for head in found if head is not None]


def _novel(_: Both, which: Watch) -> F64:
    return (which.novelty[np.isfinite(which.novelty)] < ALERT).astype(np.float64)


def alarm_changes(recording: str, fp32: Watch, int8: Watch) -> list[AlarmChange]:
    """Alarms of one name pair up in their order, each with the nearest that is free and starts within
    :data:`NEAR` s; what differs in its start or end, or has no partner, is a change."""
    changes = []
    free = list(int8.alarms)
    for name, start, end in fp32.alarms:
        near = [other for other in free if other[0] == name and abs(other[1] - start) <= NEAR]
        partner = min(near, key=lambda other: abs(other[1] - start), default=None)
        if partner is not None:
            free.remove(partner)
        if partner is None or partner[1:] != (start, end):
            changes.append(AlarmChange(recording, name, (start, end), None if partner is None else partner[1:]))
    changes += [AlarmChange(recording, name, None, (start, end)) for name, start, end in free]
    return changes


def hour(watched: Sequence[Both]) -> Hour:
    """The account of the stretches, whole. Both pipelines must have run the same hops."""
    people, who = np.unique([both.stretch.person for both in watched], return_inverse=True)
    changed = [(both.fp32.token != both.int8.token).astype(np.float64) for both in watched]
    share = _mean(changed, who, len(people))
    low, high = bootstrap(share, len(people), redraws=REDRAWS)
    hops = sum(map(len, changed))
    tokens = Estimate(float(share(np.ones((1, len(people))))[0]), low, high, hops, len(people))
    novel = [[_below(which.novelty) for which in side] for side in _sides(watched)]
    known = any(np.isfinite(both.fp32.novelty).any() for both in watched)
    shares = [float(np.concatenate(side)[_there(watched)].mean()) if known else None for side in novel]
    return Hour(
        alarms_fp32=sum(len(both.fp32.alarms) for both in watched),
        alarms_int8=sum(len(both.int8.alarms) for both in watched),
        changes=[
            change
            for both in watched
            for change in alarm_changes(
                f"{both.stretch.recording.dataset}/{both.stretch.recording.name}", both.fp32, both.int8
            )
        ],
        tokens_changed=tokens,
        hops=hops,
        novel_below=ALERT,
        novel_fp32=shares[0],
        novel_int8=shares[1],
        novel_changed=sum(int((a != b).sum()) for a, b in zip(*novel, strict=True)) if known else None,
        others_changed=sum(_others_changed(both) for both in watched),
    )


def _below(novelty: F64) -> Bools:
    return np.asarray(novelty < ALERT)  # NaN is not below


def _there(watched: Sequence[Both]) -> Bools:
    return np.concatenate([np.isfinite(both.fp32.novelty) for both in watched])


def _others_changed(both: Both) -> int:
    a, b = both.fp32, both.int8
    differ = np.zeros(len(a.t), bool)
    for one, other in ((a.sqi, b.sqi), (a.irregular, b.irregular), (a.beats_rate, b.beats_rate)):
        differ |= ~np.isclose(one, other, rtol=0, atol=0, equal_nan=True)
    return int(differ.sum())
