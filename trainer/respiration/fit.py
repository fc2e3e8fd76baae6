"""Fits the respiration model: a network that scores candidate rates, then how its scores are carried through time.

The network learns by cross-entropy over the candidates. The forward filter's settings and the error's scale are chosen
on scores of people whom the network was not fitted on; a fold's are chosen on the other folds' people.
"""

from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from numpy.typing import NDArray

from edge.bundle import RespirationModel
from edge.respiration import CANDIDATES, FEATURES, STEPS, ForwardFilter, Network, rate_and_width
from trainer.recordings import F64
from trainer.respiration.data import Breathing

UNITS, EPOCHS, BATCH, PEAK_LR, DECAY = 12, 12, 256, 0.01, 0.05
BLUR = 0.6  # /min: how sharply a label names a candidate
FOLDS = 10
EVIDENCE, LEAK, DRIFT = (0.15, 0.25, 0.35, 0.5), (0.01, 0.03), 0.05
HELD = 0.68  # share of truths within one error
MAX_ERROR = 2.0  # /min: a rate less sure is not valid

Rows = NDArray[np.bool_]


@dataclass(frozen=True)
class Estimates:
    """``rates`` and ``errors`` (n,), /min, NaN where nothing can be told."""

    rates: F64
    errors: F64


def fit_network(windows: Breathing, seed: int = 0) -> RespirationModel:
    """The network; every window must have a rate. Its filter is neutral and its error not yet scaled."""
    torch.manual_seed(seed)
    features = windows.features
    middle, spread = features.mean((0, 1)), features.std((0, 1)) + 1e-6
    inputs = torch.as_tensor((features - middle) / spread)
    width = np.log2(np.e) * BLUR / windows.rates[:, None] + 0.25 / STEPS
    wanted = np.exp(-0.5 * ((np.log2(CANDIDATES) - np.log2(windows.rates)[:, None]) / width) ** 2)
    targets = torch.as_tensor((wanted / wanted.sum(1, keepdims=True)).astype(np.float32))
    network = torch.nn.Sequential(
        torch.nn.Linear(len(FEATURES), UNITS), torch.nn.Tanh(), torch.nn.Linear(UNITS, 1, bias=False)
    )
    optimiser = torch.optim.AdamW(network.parameters(), lr=PEAK_LR, weight_decay=DECAY)
    steps = EPOCHS * -(-len(windows) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, PEAK_LR, total_steps=steps)
    for _ in range(EPOCHS):
        order = torch.randperm(len(windows))
        for start in range(0, len(windows), BATCH):
            rows = order[start : start + BATCH]
            log_p = network(inputs[rows]).squeeze(-1).log_softmax(1)
            loss = -(targets[rows] * log_p).sum(1).mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
    weights, bias, output = (p.detach().numpy().astype(np.float64) for p in network.parameters())
    weights = weights / spread
    return RespirationModel(
        hidden=np.round(weights, 6).tolist(),
        bias=np.round(bias - weights @ middle, 6).tolist(),
        output=np.round(output[0], 6).tolist(),
        evidence=1.0, drift=DRIFT, leak=0.5, reach=1.0, max_error=MAX_ERROR, calibrated_on="",
    )  # fmt: skip


def follow(scores: F64, windows: Breathing, filtering: ForwardFilter | None) -> tuple[F64, F64]:
    """Rates and widths (n,) of the belief after each window of each record; without a filter, by each window alone."""
    rates, widths = np.full((2, len(windows)), np.nan)
    record = ""
    uniform = np.full(len(CANDIDATES), 1 / len(CANDIDATES))
    belief = uniform
    for i in range(len(windows)):
        if windows.records[i] != record:
            record, belief = str(windows.records[i]), uniform
        if filtering is None:
            told = np.exp(scores[i] - scores[i].max())
            belief = told / told.sum()
        else:
            belief = filtering.step(belief, scores[i] if windows.known[i] else None)
        if windows.known[i]:
            rates[i], widths[i] = rate_and_width(belief)
    return rates, widths


def scores_of(model: RespirationModel, windows: Breathing) -> F64:
    """(n, candidates)."""
    return Network(model).scores(windows.features.astype(np.float64))


@dataclass(frozen=True)
class Filtering:
    """What a forward filter made of scores, with every setting that may be chosen."""

    settings: list[tuple[float, float]]
    rates: list[F64]
    widths: list[F64]

    def choose(self, windows: Breathing, rows: Rows) -> tuple[int, float]:
        """The setting with the least mean error at ``rows``, and the error's scale there."""
        at = rows & windows.known & np.isfinite(windows.rates)
        errors = [np.abs(rates - windows.rates)[at] for rates in self.rates]
        best = int(np.argmin([error.mean() for error in errors]))
        return best, float(np.quantile(errors[best] / self.widths[best][at], HELD))


def filtered(scores: F64, windows: Breathing) -> Filtering:
    """Every setting's rates and widths."""
    settings = list(product(EVIDENCE, LEAK))
    followed = [follow(scores, windows, ForwardFilter(evidence, DRIFT, leak)) for evidence, leak in settings]
    return Filtering(settings, [rates for rates, _ in followed], [widths for _, widths in followed])


def person_folds(people: NDArray[np.str_], folds: int = FOLDS, seed: int = 0) -> list[Rows]:
    """Rows of each fold's people."""
    names = np.random.default_rng(seed).permutation(np.unique(people))
    return [np.isin(people, some) for some in np.array_split(names, min(folds, len(names)))]


def out_of_fold_scores(windows: Breathing, learnable: Rows, folds: list[Rows]) -> F64:
    """Scores (n, candidates) of each fold's people by a network fitted on the others' ``learnable`` windows."""
    scores = np.zeros((len(windows), len(CANDIDATES)))
    for fold in folds:
        scores[fold] = scores_of(fit_network(windows.take(learnable & ~fold)), windows.take(fold))
    return scores


def learnable_rows(windows: Breathing) -> Rows:
    """Windows that a network can learn from."""
    return np.asarray(windows.known & np.isfinite(windows.rates))


def estimates(model: RespirationModel, windows: Breathing) -> Estimates:
    """What the device would say with ``model``."""
    rates, widths = follow(scores_of(model, windows), windows, ForwardFilter(model.evidence, model.drift, model.leak))
    return Estimates(rates, model.reach * widths)
