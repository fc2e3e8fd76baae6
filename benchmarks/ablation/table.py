"""Rows to one table: means over seeds, their spread, and what differs from the base beyond chance."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.ablation.measure import Row
from benchmarks.ablation.variants import Variant
from trainer.bootstrap import over_people

F64 = NDArray[np.float64]


@dataclass(frozen=True)
class Line:
    """One variant over its seeds. ``values``: figure → one value a seed; ``rate_change``: how much the error of the
    heart rate (bpm) differs from the base's, with a 95 % interval over people, None for the base itself."""

    variant: Variant
    seeds: list[int]
    values: dict[str, list[float]]
    rate_change: tuple[float, float, float] | None
    cpu_minutes: float
    parameters: dict[str, int]

    def mean(self, figure: str) -> float:
        """Mean over seeds; NaN where the variant has no such figure."""
        return float(np.mean(self.values[figure])) if figure in self.values else float("nan")

    def shown(self, figure: str, digits: int = 3) -> str:
        """``mean (least–most)`` over seeds, or a dash."""
        found = self.values.get(figure)
        if not found:
            return "–"
        text = f"{np.mean(found):.{digits}f}"
        return text if len(found) == 1 else f"{text} ({min(found):.{digits}f}–{max(found):.{digits}f})"

    def to_dict(self) -> dict[str, Any]:
        """For the JSON beside the table."""
        return {
            "question": self.variant.question, "name": self.variant.name, "seeds": self.seeds, "values": self.values,
            "rate_change": self.rate_change, "cpu_minutes": self.cpu_minutes, "parameters": self.parameters,
        }  # fmt: skip


def lines(variants: Sequence[Variant], rows: Sequence[Row], base: Variant) -> list[Line]:
    """One line for each variant that has rows, in the order of ``variants``."""
    of: dict[str, list[Row]] = {}
    for row in rows:
        of.setdefault(row.slug, []).append(row)
    found = []
    for variant in variants:
        some = sorted(of.get(variant.slug, []), key=lambda row: row.seed)
        if not some:
            continue
        names = dict.fromkeys(name for row in some for name in row.figures)
        values = {name: [row.figures[name] for row in some if name in row.figures] for name in names}
        change = None if variant.slug == base.slug else rate_change(some, of.get(base.slug, []))
        spent = float(np.mean([sum(row.cpu_seconds.values()) for row in some])) / 60
        found.append(Line(variant, [row.seed for row in some], values, change, round(spent, 2), some[0].parameters))
    return found


def rate_change(rows: list[Row], base: list[Row]) -> tuple[float, float, float] | None:
    """Mean over shared seeds of (this row's error of the rate - the base's), people drawn in pairs; None if nothing
    is shared."""
    pairs = [(row, other) for row in rows for other in base if row.seed == other.seed]
    people = sorted(set.intersection(*(set(r.people) & set(b.people) for r, b in pairs))) if pairs else []
    if not people:
        return None
    windows = np.mean([[b.people[p][4] for p in people] for _, b in pairs], axis=0)
    errors = [_errors(row, people) - _errors(other, people) for row, other in pairs]
    total = np.mean(errors, axis=0) * windows
    interval = over_people(lambda at: float(total[at].sum() / max(1.0, windows[at].sum())), np.array(people))
    return interval.value, interval.low, interval.high


def _errors(row: Row, people: list[str]) -> F64:
    """Each person's mean absolute error of the rate, bpm (0 where there is no window with a rate)."""
    sums = np.array([row.people[person] for person in people])
    return np.asarray(sums[:, 5] / np.maximum(1.0, sums[:, 4]))


def verdict(change: tuple[float, float, float] | None) -> str:
    """The change in words: only an interval that leaves out 0 says anything."""
    if change is None:
        return "–"
    value, low, high = change
    word = "worse" if low > 0 else "better" if high < 0 else "same"
    return f"{value:+.2f} ({low:+.2f} to {high:+.2f}), {word}"
