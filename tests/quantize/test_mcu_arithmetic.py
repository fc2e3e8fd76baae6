"""What the integers rest on: limits that hold for any weights, factors, tables, and weights rounded well."""

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import tiny_mcu
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from quantize.mcu.bounds import affine_of, weights
from quantize.mcu.emit import COLUMN_ORDER, TILE, tiled
from quantize.mcu.fixed_point import (
    BIAS_LIMIT,
    CURVE_STEP,
    EXP2_STEP,
    INT32_LIMIT,
    exp2_table,
    fraction_bits,
    gelu_table,
    input_limit,
    row_scales,
    scaled,
    tanh_table,
)
from quantize.mcu.toolchain import deepest_stack
from quantize.rounding import WEIGHT_LIMIT, gptq, input_moments, nearest
from trainer.encoder import EncoderConfig

CONFIG = EncoderConfig(hop=20, dim=16, layers=1, heads=2, mlp=2, context=4, codebook_size=24)
finite = st.floats(-100, 100, allow_subnormal=False)


@given(st.integers(1, 20_000))
def test_no_sum_of_products_can_overflow(inputs: int) -> None:
    worst = WEIGHT_LIMIT * inputs * input_limit(inputs) + BIAS_LIMIT
    assert worst <= INT32_LIMIT
    assert input_limit(inputs) == 2**15 - 1 or worst + WEIGHT_LIMIT * inputs > INT32_LIMIT  # and none is given away


@given(arrays.arrays(np.float64, (5, 7), elements=finite), arrays.arrays(np.float64, 5, elements=finite))
def test_int8_rows_and_their_biases_fit(weight: NDArray[np.float64], bias: NDArray[np.float64]) -> None:
    scale = row_scales(weight, bias, 11)
    rounded = nearest(weight, scale)
    assert np.abs(rounded.astype(int)).max() <= WEIGHT_LIMIT
    assert (np.abs(weight - rounded * scale[:, None]) <= 0.5001 * scale[:, None]).all()
    assert np.abs(np.rint(bias / (scale * 2.0**-11))).max() < BIAS_LIMIT


@given(st.lists(st.floats(1e-9, 0.2499), min_size=1, max_size=6))
def test_factors_keep_thirty_bits_of_the_largest(factors: list[float]) -> None:
    made = scaled(np.array(factors))
    meant = made.integer.astype(np.float64) * 2.0 ** -(32 + made.shift)
    assert np.abs(meant - factors).max() <= max(max(factors) * 2.0**-29, 2.0**-62)
    assert 1 <= made.shift <= 30


@given(st.floats(1e-6, 30_000))
def test_formats_are_the_finest_that_hold_the_bound(bound: float) -> None:
    bits = fraction_bits(bound, 2**15 - 1, 15, "it") if bound * 2 < 2**15 else 1
    assert bound * 2**bits <= 2**16
    assert bits == 15 or bound * 2 ** (bits + 1) > 2**15 - 1


@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 99))
def test_tiles_hold_every_weight_once(outputs: int, inputs: int, seed: int) -> None:
    weight = np.random.default_rng(seed).integers(-127, 128, (outputs, inputs)).astype(np.int8)
    columns = -(-inputs // TILE)
    tiles = tiled(weight).reshape(-1, columns, TILE, TILE)
    found = np.zeros((len(tiles) * TILE, columns * TILE), np.int8)
    for i, row in enumerate(tiles):
        for j, tile in enumerate(row):
            found[i * TILE : (i + 1) * TILE, j * TILE : (j + 1) * TILE] = tile[:, np.argsort(COLUMN_ORDER)]
    assert np.array_equal(found[:outputs, :inputs], weight)
    assert not found[outputs:].any() and not found[:, inputs:].any()


@pytest.mark.parametrize(
    ("table", "step", "scale", "function", "worst"),
    [
        (exp2_table(), EXP2_STEP, 2**15, lambda t: 2.0**-t, 2e-5),
        (tanh_table(), CURVE_STEP, 2**15, math.tanh, 4e-5),
        (gelu_table(), CURVE_STEP, 2**18, lambda t: t * math.erfc(t / math.sqrt(2)) / 2, 3e-5),
    ],
)
def test_tables_are_exact_to_sixteen_bits(
    table: NDArray[np.uint16], step: int, scale: int, function: Callable[[float], float], worst: float
) -> None:
    t = np.linspace(0, (len(table) - 1) / 2**step, 20_001)
    read = np.interp(t * 2**step, np.arange(len(table)), table.astype(float)) / scale
    assert np.abs(read - np.array([function(x) for x in t])).max() < worst
    assert abs(float(table[-1]) / scale - function((len(table) - 1) / 2**step)) <= 1 / scale  # nothing wrapped


def test_gptq_changes_outputs_less_than_nearest_where_inputs_go_together() -> None:
    rng = np.random.default_rng(1)
    inputs = rng.normal(size=(2000, 6)) @ rng.normal(size=(6, 24)) + 0.05 * rng.normal(size=(2000, 24))
    weight = rng.normal(size=(10, 24))
    scale = row_scales(weight, np.zeros(10), 11)
    errors = [
        np.square(inputs @ (weight - rounded * scale[:, None]).T).mean()
        for rounded in (gptq(weight, scale, inputs.T @ inputs), nearest(weight, scale))
    ]
    assert errors[0] < 0.3 * errors[1]


def test_gptq_is_nearest_where_inputs_do_not_go_together_or_are_absent() -> None:
    weight = np.random.default_rng(2).normal(size=(4, 9))
    scale = row_scales(weight, np.zeros(4), 11)
    assert np.array_equal(gptq(weight, scale, np.diag(np.arange(1.0, 10.0))), nearest(weight, scale))
    assert np.array_equal(gptq(weight, scale, np.zeros((9, 9))), nearest(weight, scale))


@pytest.mark.parametrize("norm", ["layer", "rms", "tanh"])
def test_bounds_hold_for_the_worst_input(norm: str) -> None:
    """Residuals made to drive one row after another as far as they can, and random ones."""
    model = tiny_mcu.encoder(replace(CONFIG, norm=norm), 3)  # type: ignore[arg-type]
    affine = affine_of(model.norm)
    weight, bias = weights(model.head)
    rng = np.random.default_rng(0)
    driving = np.sign(weight * affine.gain) if norm == "tanh" else weight * affine.gain
    inputs = 1e3 * np.concatenate([driving, -driving, rng.normal(size=(50, CONFIG.dim))])
    with torch.inference_mode():
        normed = model.norm(torch.from_numpy(inputs.astype(np.float32)))
        results = model.head(normed).numpy()
    bound = affine.of_rows(weight, bias)
    assert (np.abs(results).max(0) <= bound * 1.0001).all()
    assert np.abs(normed.numpy()).max() <= affine.of_itself() * 1.0001
    assert (np.abs(results).max(0) > 0.5 * bound).all()  # and they are not far off


def test_moments_are_those_of_what_each_layer_reads() -> None:
    model, stream = tiny_mcu.encoder(CONFIG), tiny_mcu.patches(CONFIG, 12)
    moments = input_moments(model, [stream, stream])
    assert set(moments) == {"embed", "head"} | {
        f"blocks.0.{name}" for name in ("query", "key", "value", "out", "expand", "contract")
    }
    assert np.allclose(moments["embed"], 2 * stream.T.astype(float) @ stream, rtol=1e-5)
    assert not model.embed._forward_hooks


GRAPH = """node: { title: "a.c:top" label: "top\\na.c:1:1\\n16 bytes (static)\\n0 dynamic objects" }
node: { title: "a.c:left" label: "left\\na.c:2:1\\n40 bytes (static)\\n0 dynamic objects" }
node: { title: "a.c:right" label: "right\\na.c:3:1\\n8 bytes (static)\\n0 dynamic objects" }
node: { title: "a.c:leaf" label: "leaf\\na.c:4:1\\n64 bytes (static)\\n0 dynamic objects" }
node: { title: "memset" label: "memset\\n<built-in>" shape : ellipse }
edge: { sourcename: "a.c:top" targetname: "a.c:left" label: "a.c:9:1" }
edge: { sourcename: "a.c:top" targetname: "a.c:right" label: "a.c:9:2" }
edge: { sourcename: "a.c:right" targetname: "a.c:leaf" label: "a.c:9:3" }
edge: { sourcename: "a.c:left" targetname: "memset" }
"""


def test_the_deepest_stack_is_the_heaviest_chain_of_calls() -> None:
    assert deepest_stack(GRAPH) == 16 + 8 + 64
    with pytest.raises(RuntimeError, match="calls itself"):
        deepest_stack(GRAPH + 'edge: { sourcename: "a.c:leaf" targetname: "a.c:right" }\n')
