"""Numbers as integers: formats, weights, multipliers, and the tables of functions.

A format Qn holds a value times 2^n. Every layer's inputs have a limit that the C code clamps to, so that its sums fit
in 32 bits by proof (:func:`input_limit`) and not by luck.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from firmware_bridge.errors import BadInput
from quantize.rounding import WEIGHT_LIMIT

F64 = NDArray[np.float64]
I8 = NDArray[np.int8]
I32 = NDArray[np.int32]

BIAS_LIMIT = 2**28  # of the 2^31 that a sum may reach; the rest is for the products
INT16_LIMIT = 2**15 - 1
INT32_LIMIT = 2**31 - 1
MAX_SHIFT = 30
PATCH_BITS = 12
PATCH_LIMIT = 2**15
EXP2_STEP, CURVE_STEP = 7, 6  # table entries are 2^-step apart
CURVE_END = 8  # tanh is 1 and the GELU's dip is 0 from here on, to 16 bits


@dataclass(frozen=True)
class Scaled:
    """Real factors below 1/4 as ``integer * 2^-(32 + shift)``, the integers int32: the upper word of a product with
    one of them, and then a shift."""

    integer: I32
    shift: int


@dataclass(frozen=True)
class IntLinear:
    """``multiplier * (bias + weight @ x)`` in Q``bits``: weight (outputs, inputs) int8, bias (outputs,) int32; results
    are clamped to ±``limit``. ``scale`` (outputs,): what an int8 step is worth."""

    weight: I8
    bias: I32
    multiplier: Scaled
    bits: int
    limit: int
    scale: F64

    @property
    def dequantized(self) -> F64:
        """The weights that the integers stand for, (outputs, inputs)."""
        return self.weight * self.scale[:, None]


def input_limit(inputs: int) -> int:
    """The largest int16 magnitude of which ``inputs`` products with int8 weights and a bias surely fit in 32 bits."""
    return min(INT16_LIMIT, (2**31 - 1 - BIAS_LIMIT) // (WEIGHT_LIMIT * inputs))


def fraction_bits(bound: float, limit: int, most: int, what: str) -> int:
    """The finest format Qn, 1 ≤ n ≤ ``most``, in which ±``bound`` stays within ±``limit``. Raises :class:`BadInput`."""
    for bits in range(most, 0, -1):
        if bound * 2**bits <= limit:
            return bits
    raise BadInput(f"encoder: {what} may reach {bound:.3g}, too large for fixed point; train it with weight decay")


def finest_bits(factors: F64) -> int:
    """The largest n for which ``factors * 2^n`` are factors that :func:`scaled` takes."""
    return -2 - math.frexp(float(np.abs(factors).max()))[1]


def scaled(factors: F64) -> Scaled:
    """The most exact :class:`Scaled` of ``factors`` that share a shift."""
    exponent = math.frexp(float(np.abs(factors).max()))[1]
    shift = min(MAX_SHIFT, -1 - exponent)
    assert shift >= 1, "callers keep factors below 1/4"
    return Scaled(np.minimum(np.rint(factors * 2.0 ** (32 + shift)), INT32_LIMIT).astype(np.int32), shift)


def row_scales(weight: F64, bias: F64, input_bits: int) -> F64:
    """What an int8 step is worth in each row: the row's largest weight is 127, and its bias fits beside the sum."""
    step = 2.0**-input_bits
    scales: F64 = np.maximum(np.abs(weight).max(1) / WEIGHT_LIMIT, np.abs(bias) / (step * (BIAS_LIMIT - 1)))
    return np.where(scales > 0, scales, 1.0)


def _table(function: Callable[[float], float], entries: int, step: int, bits: int) -> NDArray[np.uint16]:
    values = [round(function(i / 2**step) * 2**bits) for i in range(entries)]
    return np.array(values, dtype=np.uint16)


def exp2_table() -> NDArray[np.uint16]:
    """2^-t in Q15 for t in 0…1; interpolation is off by at most 4e-6."""
    return _table(lambda t: 2.0**-t, 2**EXP2_STEP + 1, EXP2_STEP, 15)


def tanh_table() -> NDArray[np.uint16]:
    """tanh in Q15 for t in 0…8; interpolation is off by at most 3e-5 (one step of Q15)."""
    return _table(math.tanh, CURVE_END * 2**CURVE_STEP + 1, CURVE_STEP, 15)


def gelu_table() -> NDArray[np.uint16]:
    """t Φ(-t) in Q18 for t in 0…8: what gelu(±t) lacks to max(±t, 0); interpolation is off by at most 3e-5."""
    return _table(lambda t: t * math.erfc(t / math.sqrt(2)) / 2, CURVE_END * 2**CURVE_STEP + 1, CURVE_STEP, 18)
