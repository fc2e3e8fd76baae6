"""What an encoder's embeddings know without being asked: a linear probe for atrial fibrillation.

Ten-second embeddings (the mean over 25 hops, after at least as many hops of context) of MIMIC PERform AF, whose people
no training saw. Logistic regression, cross-validated by subject; beside it the same probe on an encoder with random
weights, which is what the architecture alone gives away.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from firmware_bridge.block import Signal
from trainer.bootstrap import Interval, over_people
from trainer.encoder import Encoder
from trainer.windows import Windows

POOLED_HOPS = 25
FOLDS = 5


@dataclass(frozen=True)
class ProbeResult:
    """AUROC of AF against not AF, by 10 s window and by subject (mean of its windows' scores)."""

    window_auroc: Interval
    subject_auroc: Interval
    windows: int


@torch.no_grad()
def pooled_embeddings(encoder: Encoder, windows: Windows, signal: Signal, batch: int = 128) -> NDArray[np.float32]:
    """Mean embedding over the last 25 hops of each window, (windows, dim)."""
    encoder.eval()
    parts = [
        encoder(torch.tensor(windows.take(slice(i, i + batch)).signal(signal)))[1][:, -POOLED_HOPS:].mean(1)
        for i in range(0, len(windows), batch)
    ]
    return np.asarray(torch.cat(parts).numpy(), dtype=np.float32)


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
