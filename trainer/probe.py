"""What an encoder's embeddings know without being asked: linear probes for atrial fibrillation and for heart rate.

Ten-second embeddings: mean and standard deviation over the last ten seconds of a window, after at least as much
context. The deviation is what can tell that beats differ from one another. AF: MIMIC PERform AF, whose people no
training saw; logistic regression, cross-validated by subject; beside it the same probe on an encoder with random
weights, which is what the architecture alone gives away. Heart rate: ridge regression from some people to others.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from firmware_bridge.block import Signal
from trainer.bootstrap import Interval, over_people
from trainer.encoder import Encoder
from trainer.gating import r_peaks, rate_per_window
from trainer.windows import Windows

POOLED_SECONDS = 10.0
FOLDS = 5
RIDGE = 100.0  # on standardised features and a standardised target, some thousand windows


@dataclass(frozen=True)
class ProbeResult:
    """AUROC of AF against not AF, by 10 s window and by subject (mean of its windows' scores)."""

    window_auroc: Interval
    subject_auroc: Interval
    windows: int


@torch.no_grad()
def pooled_embeddings(
    encoder: Encoder, windows: Windows, signal: Signal, *, rate: float = 125.0, batch: int = 128
) -> NDArray[np.float32]:
    """Mean and standard deviation of the embedding over the last 10 s of each window, (windows, 2 dim)."""
    encoder.eval()
    hops = pooled_hops(encoder, rate)
    parts = []
    for i in range(0, len(windows), batch):
        last = encoder(torch.tensor(windows.take(slice(i, i + batch)).signal(signal)))[1][:, -hops:]
        parts.append(torch.cat([last.mean(1), last.std(1, correction=0)], 1))
    return np.asarray(torch.cat(parts).numpy(), dtype=np.float32)


def pooled_hops(encoder: Encoder, rate: float = 125.0) -> int:
    """How many hops 10 s are."""
    return max(1, round(POOLED_SECONDS * rate / encoder.config.hop))


def probe_scores(
    features: NDArray[np.float32], labels: NDArray[np.bool_], people: NDArray[np.generic]
) -> NDArray[np.float64]:
    """Out-of-fold log odds of AF for each row, (n,): every score comes from a probe that never saw that person.

    ``people`` must have at least two persons of either kind.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedGroupKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    scores = np.full(len(labels), np.nan)
    rarer = min(len(np.unique(people[labels == value])) for value in (True, False))
    folds = StratifiedGroupKFold(min(FOLDS, rarer), shuffle=True, random_state=0)
    for train, test in folds.split(features, labels, people):
        probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=2000, class_weight="balanced"))
        probe.fit(features[train], labels[train])
        scores[test] = probe.decision_function(features[test])
    return scores


def _auroc(labels: NDArray[np.bool_], scores: NDArray[np.float64]) -> float:
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(labels, scores)) if labels.any() and not labels.all() else float("nan")


def in_fibrillation(windows: Windows) -> NDArray[np.bool_]:
    """Whether each window's group starts with ``AF``, (windows,)."""
    return np.asarray(np.char.startswith(windows.groups, "AF"))


def has_both_kinds(windows: Windows) -> bool:
    """Whether there are at least two persons with and two without fibrillation, so that a probe can be judged."""
    labels, people = in_fibrillation(windows), windows.patients
    return all(len(np.unique(people[labels == value])) >= 2 for value in (True, False))


def ecg_rates(windows: Windows, hops: int, rate: float = 125.0) -> NDArray[np.float64]:
    """Heart rate by the ECG, bpm, over the last ``hops`` hops of each window; NaN with fewer than four beats."""
    bpm = np.full(len(windows), np.nan)
    for i in range(len(windows)):
        samples = windows.take(slice(i, i + 1)).ecg[0, -hops:].ravel()
        bpm[i] = rate_per_window(r_peaks(samples, rate), np.zeros(1, np.int64), len(samples), rate)[0]
    return bpm


def rate_probe(
    encoder: Encoder, known: Windows, asked: Windows, signal: Signal, *, rate: float = 125.0
) -> NDArray[np.float64]:
    """Error of the heart rate, bpm, told from the embedding of each window of ``asked`` by a ridge regression on
    ``known``; (windows,), NaN where the ECG has no rate."""
    hops = pooled_hops(encoder, rate)
    told = told_rates(
        pooled_embeddings(encoder, known, signal, rate=rate),
        ecg_rates(known, hops, rate),
        pooled_embeddings(encoder, asked, signal, rate=rate),
    )
    return told - ecg_rates(asked, hops, rate)


def told_rates(
    features: NDArray[np.float32], rates: NDArray[np.float64], asked: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Heart rate, bpm, of rows like ``asked`` (m, d) by a ridge regression on ``features`` (n, d) of known ``rates``
    (n,), NaN where unknown."""
    from sklearn.linear_model import Ridge
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    rows = np.isfinite(rates)
    probe = make_pipeline(StandardScaler(), Ridge(RIDGE))
    probe.fit(features[rows], np.log(rates[rows]))
    # The logarithm of a rate of 20 to 300 bpm: a linear probe may leave that range on a window unlike any it knows.
    return np.asarray(np.exp(np.clip(probe.predict(asked), np.log(20), np.log(300))))


def af_probe(encoder: Encoder, windows: Windows, signal: Signal) -> ProbeResult:
    """Probe ``encoder`` on ``windows``, for which :func:`has_both_kinds` holds."""
    labels, people = in_fibrillation(windows), windows.patients
    scores = probe_scores(pooled_embeddings(encoder, windows, signal), labels, people)
    persons, first = np.unique(people, return_index=True)
    by_person = np.array([scores[people == person].mean() for person in persons])
    return ProbeResult(
        over_people(lambda rows: _auroc(labels[rows], scores[rows]), people),
        over_people(lambda rows: _auroc(labels[first][rows], by_person[rows]), persons),
        len(labels),
    )
