"""Does int8 change what the embedding is good for? A linear probe for AF, fp32 against int8, subject by subject.

The probe is fitted on the fp32 embeddings of all other subjects and then applied to the left-out subject's
embeddings of each engine: what would happen to a head that was trained before quantization.
"""

from collections.abc import Mapping
from functools import partial

import numpy as np
from numpy.typing import NDArray

from quantize.fidelity.bootstrap import bootstrap
from quantize.fidelity.figures import Estimate

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

NAME = "AF probe on the embedding (10 s windows, one subject left out)"
AF_GROUP = "AF"  # folders AF_… and Non_AF_… of MIMIC PERform


def is_af(groups: NDArray[np.str_]) -> NDArray[np.bool_]:
    """Whether each window's folder holds subjects in AF."""
    return np.char.startswith(groups, AF_GROUP)


def weighted_auroc(values: F64, positive: NDArray[np.bool_], weights: F64) -> F64:
    """AUROC (Mann-Whitney, ties count half) under weights (redraws, n) → (redraws,); NaN without both classes."""
    level = np.unique(values, return_inverse=True)[1]
    levels = int(level.max()) + 1
    out = np.full(len(weights), np.nan)
    for i, w in enumerate(weights):
        up = np.bincount(level[positive], w[positive], levels)
        down = np.bincount(level[~positive], w[~positive], levels)
        pairs = up.sum() * down.sum()
        if pairs > 0:
            out[i] = (up * (np.cumsum(down) - down / 2)).sum() / pairs
    return out


def probe(
    reference: F32, candidates: Mapping[str, F32], af: NDArray[np.bool_], patients: NDArray[np.str_]
) -> dict[str, F64]:
    """Decision values of the left-out subject's windows, (windows,), of the reference (key ``fp32``) and candidates.

    Embeddings are (windows, hops, dim) and enter as their mean over hops.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    pooled = {"fp32": reference, **candidates}
    means = {name: embeddings.mean(1, dtype=np.float64) for name, embeddings in pooled.items()}
    decisions = {name: np.zeros(len(af)) for name in pooled}
    for patient in np.unique(patients):
        left_out = patients == patient
        model = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, class_weight="balanced", max_iter=1000))
        model.fit(means["fp32"][~left_out], af[~left_out])
        for name, mean in means.items():
            decisions[name][left_out] = model.decision_function(mean[left_out])
    return decisions


def judge(
    decisions: dict[str, F64], af: NDArray[np.bool_], patients: NDArray[np.str_], *, redraws: int = 500
) -> dict[str, tuple[Estimate, Estimate]]:
    """For each key of ``decisions``: AUROC and its change against ``fp32``, with intervals over subjects."""
    people, who = np.unique(patients, return_inverse=True)

    def auroc(values: F64, weights: F64) -> F64:
        return weighted_auroc(values, af, weights[:, who])

    def change(values: F64, weights: F64) -> F64:
        return auroc(values, weights) - auroc(decisions["fp32"], weights)

    out = {}
    for name, values in decisions.items():
        figures = []
        for statistic in (auroc, change):
            of_weights = partial(statistic, values)
            value = float(of_weights(np.ones((1, len(people))))[0])
            low, high = bootstrap(of_weights, len(people), redraws=redraws)
            figures.append(Estimate(value, low, high, len(values), len(people)))
        out[name] = figures[0], figures[1]
    return out
