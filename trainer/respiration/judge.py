"""Respiratory rate judged: every way of telling it, on the same windows, with intervals over people."""

from dataclasses import asdict, dataclass

import numpy as np

from edge.modulations import MODULATIONS
from edge.respiration import AGREE, BAND, CANDIDATES, DRIFT_BELOW, FEATURES, FUSED, MIN_GOOD
from trainer.bootstrap import Interval, over_people
from trainer.recordings import F64
from trainer.respiration.data import Breathing
from trainer.respiration.fit import Estimates, Rows

SHOWN = ("baseline", "amplitude", "interval", "shape")


@dataclass(frozen=True)
class Row:
    """One way of telling the rate. ``mae`` and ``bias`` (/min), ``median`` error and ``within`` 2 /min over the windows
    where it gives a rate; ``coverage``: their share."""

    method: str
    mae: Interval
    median: float
    within: float
    bias: float
    coverage: float


@dataclass(frozen=True)
class Table:
    """Rows on the same ``windows`` of ``people``, those whose reference is trusted, ``of`` so many."""

    title: str
    windows: int
    of: int
    people: int
    rows: list[Row]


def spectral_rates(windows: Breathing, modulation: str) -> F64:
    """Rate of the largest peak of one modulation's spectrum, (n,), NaN where it says nothing."""
    first = int(np.searchsorted(CANDIDATES, DRIFT_BELOW))
    column = windows.features[:, first:BAND, FEATURES.index(modulation)]
    told = windows.known & (np.ptp(column, axis=1) > 0)
    return np.asarray(np.where(told, CANDIDATES[first + column.argmax(1)], np.nan))


def fused_rates(windows: Breathing) -> tuple[F64, F64]:
    """Smart Fusion: the mean of the three rates, and the same where they agree."""
    rates = np.stack([spectral_rates(windows, name) for name in FUSED])
    mean = rates.mean(0)
    return mean, np.where(rates.std(0, ddof=1) <= AGREE, mean, np.nan)


def valid_rates(told: Estimates, windows: Breathing, max_error: float) -> F64:
    """The rates that the device calls valid."""
    return np.asarray(np.where((told.errors <= max_error) & (windows.good >= MIN_GOOD), told.rates, np.nan))


def row(method: str, rates: F64, windows: Breathing, judged: Rows) -> Row:
    """``rates`` (n,) against the truth at ``judged``."""
    at = judged & np.isfinite(rates)
    error = (rates - windows.rates)[at]
    return Row(
        method,
        over_people(lambda rows: float(np.abs(error[rows]).mean()), windows.people[at]),
        float(np.median(np.abs(error))),
        float((np.abs(error) <= 2).mean()),
        float(error.mean()),
        float(at.sum() / judged.sum()),
    )


def table(title: str, methods: dict[str, F64], windows: Breathing, judged: Rows) -> Table:
    """All of ``methods`` (name → rates) at ``judged``."""
    rows = [row(name, rates, windows, judged) for name, rates in methods.items() if np.isfinite(rates[judged]).any()]
    return Table(title, int(judged.sum()), len(judged), len(np.unique(windows.people[judged])), rows)


def simple_methods(windows: Breathing) -> dict[str, F64]:
    """Everything that needs no fit."""
    mean, agreed = fused_rates(windows)
    return {
        **{f"{name}, spectral peak": spectral_rates(windows, name) for name in SHOWN if name in MODULATIONS},
        "mean of baseline, amplitude, interval": mean,
        "Smart Fusion (where they agree)": agreed,
    }


def reliability(told: Estimates, windows: Breathing, judged: Rows, bins: int = 6) -> list[tuple[float, float, int]]:
    """By stated error: its mean, the error that 68 % of the truths stay within, and the number of windows."""
    at = judged & np.isfinite(told.rates)
    stated, true = told.errors[at], np.abs(told.rates - windows.rates)[at]
    order = np.array_split(np.argsort(stated, kind="stable"), bins)
    return [(float(stated[some].mean()), float(np.quantile(true[some], 0.68)), len(some)) for some in order]


def markdown(tables: list[Table], remarks: list[str]) -> str:
    """The tables as a page."""
    lines = ["# Respiratory rate from the pulse wave", "", *(f"{remark}\n" for remark in remarks)]
    for one in tables:
        lines += [
            f"## {one.title}",
            "",
            f"{one.windows:,} windows of {one.people} people (of {one.of:,}: the others' reference is not trusted).",
            "",
            "| method | MAE /min (95 % over people) | median | within 2 /min | bias | coverage |",
            "|---|---|---|---|---|---|",
            *(
                f"| {r.method} | {r.mae.value:.2f} ({r.mae.low:.2f}–{r.mae.high:.2f}) | {r.median:.2f} |"
                f" {r.within:.1%} | {r.bias:+.2f} | {r.coverage:.1%} |"
                for r in one.rows
            ),
            "",
        ]
    return "\n".join(lines)


def to_dict(tables: list[Table]) -> list[dict[str, object]]:
    """For a JSON file."""
    return [asdict(one) for one in tables]
