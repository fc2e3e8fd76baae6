"""From the values a tensor takes to the range its 256 codes span: four ways to weigh clipping against rounding.

- ``minmax``: nothing is clipped.
- ``percentile``: all but 0.01 % of the values lie inside (McKinstry et al. 2019).
- ``mse``: the range with the smallest mean squared error (Banner et al. 2019, by search).
- ``entropy``: the range whose quantized histogram loses the least information, KL(values ‖ quantized) (Migacz, 8-bit
  inference with TensorRT, GTC 2017), here with both ends moving.
"""

from collections.abc import Callable, Mapping
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from quantize.methods.activations import Observed
from quantize.plan import LayerPlan, Range, affine

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
Calibration = Literal["minmax", "percentile", "mse", "entropy"]

LEVELS = 256
OUTSIDE = 1e-4  # share of the values that ``percentile`` clips, both ends together
BINS = 8 * LEVELS
SHRINKS = np.linspace(1.0, 0.1, 46)  # candidate ranges, as shares of the widest


def _widest(values: F32) -> Range:
    return min(0.0, float(values.min())), max(0.0, float(values.max()))


def _percentile(values: F32) -> Range:
    low, high = np.quantile(values, [OUTSIDE / 2, 1 - OUTSIDE / 2])
    return min(0.0, float(low)), max(0.0, float(high))


def _histogram(values: F32) -> tuple[F64, F64]:
    """Counts, (BINS,), and the bins' centres, over the widest range."""
    low, high = _widest(values)
    counts, edges = np.histogram(values, BINS, (low, max(high, low + 1e-12)))
    return counts.astype(np.float64), (edges[:-1] + edges[1:]) / 2


def _best(values: F32, loss: Callable[[F64, F64, Range], float]) -> Range:
    """The range of least ``loss``: both ends drawn in together, then each by itself, twice."""
    counts, centres = _histogram(values)
    low, high = _widest(values)

    a = b = 1.0  # shares of the ends
    for moved in ("both", "high", "low", "high", "low"):
        shares = [(s if moved != "high" else a, s if moved != "low" else b) for s in SHRINKS.tolist()]
        a, b = min(shares, key=lambda each: loss(counts, centres, (low * each[0], high * each[1])))
    return low * a, high * b


def _codes(centres: F64, limits: Range) -> NDArray[np.int64]:
    scale, zero = affine(limits, LEVELS)
    return np.asarray(np.clip(np.rint(centres / scale) + zero, 0, LEVELS - 1), dtype=np.int64)


def squared_error(counts: F64, centres: F64, limits: Range) -> float:
    """Mean squared error of values at ``centres``, so many of each, on the 256 codes of ``limits``."""
    scale, zero = affine(limits, LEVELS)
    said = (_codes(centres, limits) - zero) * scale
    return float((counts * (centres - said) ** 2).sum() / counts.sum())


def information_lost(counts: F64, centres: F64, limits: Range) -> float:
    """KL(values ‖ quantized), nats. What is clipped counts as its nearest code; within a code the occupied bins are
    all said to be equally likely."""
    scale, zero = affine(limits, LEVELS)
    low, high = -zero * scale, (LEVELS - 1 - zero) * scale
    inside = (centres >= low - scale / 2) & (centres <= high + scale / 2)
    p = np.where(inside, counts, 0.0)
    places = np.flatnonzero(inside)
    p[places[0]] += counts[: places[0]].sum()
    p[places[-1]] += counts[places[-1] + 1 :].sum()
    code = _codes(centres, limits)
    # The quantized distribution knows nothing of the clipped values: that is what clipping costs.
    kept = np.where(inside, counts, 0.0)
    occupied = (p > 0) & inside
    total = np.bincount(code[inside], kept[inside], LEVELS)
    share = np.bincount(code[occupied], minlength=LEVELS)
    q = np.where(occupied, total[code] / np.maximum(share[code], 1), 0.0)
    p, q = p / p.sum(), np.maximum(q / max(float(q.sum()), 1e-300), 1e-12)
    return float((p[occupied] * np.log(p[occupied] / q[occupied])).sum())


def find_range(values: F32, calibration: Calibration) -> Range:
    """The range of ``values`` (any shape) by ``calibration``; it always holds 0."""
    flat = values.ravel()
    if calibration == "minmax":
        return _widest(flat)
    if calibration == "percentile":
        return _percentile(flat)
    return _best(flat, squared_error if calibration == "mse" else information_lost)


def static_plan(observed: Mapping[str, Observed], calibration: Calibration) -> dict[str, LayerPlan]:
    """Every layer static. What the rings hold (keys, values) is never clipped by a hop's own choice of scale: their
    output range is fixed here, once, so a stored value is on its grid for as long as it is kept."""
    plan = {}
    for name, seen in observed.items():
        plan[name] = LayerPlan("static", find_range(seen.inputs, calibration), find_range(seen.outputs, calibration))
    return plan
