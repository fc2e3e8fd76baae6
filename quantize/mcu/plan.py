"""An encoder as integers: every weight, format and limit that the C code is generated from.

Formats follow from bounds that hold for any input (:mod:`quantize.mcu.bounds`), not from calibration.
"""

import math
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from firmware_bridge.errors import BadInput
from quantize.mcu.bounds import SLACK, affine_of, epsilon_of, numbers, residual_bound, weights
from quantize.mcu.fixed_point import (
    BIAS_LIMIT,
    INT16_LIMIT,
    INT32_LIMIT,
    PATCH_BITS,
    PATCH_LIMIT,
    IntLinear,
    Scaled,
    finest_bits,
    fraction_bits,
    input_limit,
    row_scales,
    scaled,
)
from quantize.rounding import WEIGHT_LIMIT
from trainer.encoder import Block, Encoder, EncoderConfig, TanhNorm

F64 = NDArray[np.float64]
I8 = NDArray[np.int8]
I32 = NDArray[np.int32]
# (name, weight, scale) → int8 weights
Rounder = Callable[[str, F64, F64], I8]

MAX_HOP = (INT32_LIMIT - BIAS_LIMIT) // (WEIGHT_LIMIT * PATCH_LIMIT)
RESIDUAL_LIMIT = 2**30 - 1  # so that sums and differences of two fit in 32 bits


@dataclass(frozen=True)
class IntNorm:
    """Gain (dim,) of the normalised value in Q30; bias (dim,) and results in Q``bits``; ``epsilon`` times dim in the
    residual's format squared (0 for tanh). ``alpha`` (tanh only): from the residual's format to Q16, an integer and the
    shift by which it is too large."""

    gain: Scaled
    bias: I32
    epsilon: int
    alpha: tuple[int, int]
    limit: int
    bits: int


@dataclass(frozen=True)
class IntBlock:
    """One layer. ``age_bias`` (heads, context) and the attention logits are in Q``logit_bits``, queries times keys
    ``logit_shift`` finer; the MLP's inside is in Q``hidden_bits``."""

    norm_attention: IntNorm
    query: IntLinear
    key: IntLinear
    value: IntLinear
    out: IntLinear
    age_bias: I32
    logit_bits: int
    logit_shift: int
    norm_mlp: IntNorm
    expand: IntLinear
    hidden_bits: int
    hidden_limit: int
    contract: IntLinear


@dataclass(frozen=True)
class Plan:
    """The whole encoder. ``float_twin``: an encoder with the same int8 weights and otherwise in fp32, so that what the
    weights cost and what the integer arithmetic costs can be told apart."""

    config: EncoderConfig
    embed: IntLinear
    blocks: list[IntBlock]
    norm: IntNorm
    head: IntLinear
    residual_bits: int
    float_twin: Encoder


class _Planner:
    """Makes the parts. What writes to the residual stream is prepared first (:meth:`open`) and finished when all of it
    is known, since it shares one format."""

    def __init__(self, encoder: Encoder, rounder: Rounder) -> None:
        self._encoder, self._rounder = encoder, rounder
        self.twin = deepcopy(encoder)

    def open(self, name: str, input_bits: int) -> "_Open":
        """The layer ``name`` with int8 weights, which also go to the float twin, and no output format yet."""
        layer = self._encoder.get_submodule(name)
        assert isinstance(layer, torch.nn.Linear)
        weight, bias = weights(layer)
        scale = row_scales(weight, bias, input_bits)
        integers = self._rounder(name, weight, scale)
        made = _Open(integers, bias, scale, scale * 2.0**-input_bits)
        with torch.no_grad():
            self.twin.get_parameter(f"{name}.weight").copy_(torch.from_numpy(integers * scale[:, None]))
        return made

    def behind(self, name: str, before: torch.nn.Module, limit: int, most: int = 15, factor: float = 1.0) -> IntLinear:
        """The layer ``name`` behind the norm ``before``, its results times ``factor``, as fine as ±``limit`` allows."""
        opened = self.open(name, norm_bits(before))
        layer = self._encoder.get_submodule(name)
        assert isinstance(layer, torch.nn.Linear)
        bound = SLACK * factor * float(affine_of(before).of_rows(*weights(layer)).max())
        return opened.finish(fraction_bits(bound, limit, min(most, opened.finest(factor)), name), limit, factor)


@dataclass(frozen=True)
class _Open:
    weight: I8
    bias: F64
    scale: F64
    step: F64  # what one step of a row's sum is worth

    def finest(self, factor: float = 1.0) -> int:
        """The finest format its results can have."""
        return finest_bits(self.step * factor)

    def finish(self, bits: int, limit: int, factor: float = 1.0) -> IntLinear:
        bias = np.rint(self.bias / self.step).astype(np.int32)
        return IntLinear(self.weight, bias, scaled(self.step * factor * 2.0**bits), bits, limit, self.scale)


def norm_bits(norm: torch.nn.Module) -> int:
    """The format of a norm's results: as fine as the next layer can take them."""
    affine = affine_of(norm)
    return fraction_bits(SLACK * affine.of_itself(), input_limit(len(affine.gain)), 15, "a norm's result")


def _int_norm(norm: torch.nn.Module, residual_bits: int) -> IntNorm:
    affine, bits = affine_of(norm), norm_bits(norm)
    dim = len(affine.gain)
    unit, alpha = math.sqrt(dim), (0, 0)
    if isinstance(norm, TanhNorm):
        unit, alpha = 1.0, _alpha(float(numbers(norm.alpha)[0]), residual_bits)
    epsilon = min(round(epsilon_of(norm) * dim * 4.0**residual_bits), 2**60)
    bias = np.rint(affine.bias * 2.0**bits).astype(np.int32)
    return IntNorm(scaled(affine.gain * unit * 2.0 ** (bits - 30)), bias, epsilon, alpha, input_limit(dim), bits)


def _alpha(alpha: float, residual_bits: int) -> tuple[int, int]:
    factor = alpha * 2.0 ** (16 - residual_bits)
    # The product with a residual of 30 bits stays below 2^61; at least one bit is rounded off.
    shift = min(62, 30 - math.frexp(factor)[1])
    if shift < 1:
        raise BadInput(f"encoder: a tanh norm's alpha is {alpha:.3g}, too large for fixed point")
    return round(factor * 2**shift), shift


def _logit_bits(query: IntLinear, key: IntLinear) -> int:
    return min(16, query.bits + key.bits - 1)


@dataclass(frozen=True)
class _Inside:
    """What of a layer does not touch the residual stream, and what is to write to it."""

    query: IntLinear
    key: IntLinear
    value: IntLinear
    expand: IntLinear
    hidden_bits: int
    hidden_limit: int
    out: _Open
    contract: _Open


def _inside(planner: _Planner, block: Block, name: str) -> _Inside:
    value_limit, hidden_limit = input_limit(block.out.in_features), input_limit(block.contract.in_features)
    before, root = block.norm_attention, block.scale
    value = planner.behind(f"{name}.value", before, value_limit)
    expand = planner.behind(f"{name}.expand", block.norm_mlp, RESIDUAL_LIMIT, most=16)
    bound = SLACK * float(affine_of(block.norm_mlp).of_rows(*weights(block.expand)).max())  # |gelu(x)| ≤ |x|
    hidden_bits = fraction_bits(bound, hidden_limit, min(15, expand.bits - 1), f"{name}.expand")
    return _Inside(
        query=planner.behind(f"{name}.query", before, INT16_LIMIT, factor=root),
        key=planner.behind(f"{name}.key", before, INT16_LIMIT),
        value=value,
        expand=expand,
        hidden_bits=hidden_bits,
        hidden_limit=hidden_limit,
        out=planner.open(f"{name}.out", value.bits),
        contract=planner.open(f"{name}.contract", hidden_bits),
    )


def _int_block(block: Block, inside: _Inside, residual_bits: int) -> IntBlock:
    logit_bits = _logit_bits(inside.query, inside.key)
    age_bias = np.rint(numbers(block.age_bias)[:, 0] * 2.0**logit_bits)
    return IntBlock(
        norm_attention=_int_norm(block.norm_attention, residual_bits),
        query=inside.query,
        key=inside.key,
        value=inside.value,
        out=inside.out.finish(residual_bits, RESIDUAL_LIMIT),
        age_bias=np.clip(age_bias, -INT32_LIMIT, INT32_LIMIT).astype(np.int32),
        logit_bits=logit_bits,
        logit_shift=inside.query.bits + inside.key.bits - logit_bits,
        norm_mlp=_int_norm(block.norm_mlp, residual_bits),
        expand=inside.expand,
        hidden_bits=inside.hidden_bits,
        hidden_limit=inside.hidden_limit,
        contract=inside.contract.finish(residual_bits, RESIDUAL_LIMIT),
    )


def make_plan(encoder: Encoder, rounder: Rounder) -> Plan:
    """The integers of ``encoder``; ``rounder`` turns a layer's weights to int8. Raises :class:`BadInput` for an encoder
    that does not fit: patches too long, or weights so large that their results would not fit in 16 bits."""
    config = encoder.config
    if config.hop > MAX_HOP:
        raise BadInput(f"encoder: hop is {config.hop} samples; the C code takes at most {MAX_HOP}")
    sizes = {"codebook_size": config.codebook_size, "mlp times dim": config.mlp * config.dim, "context": config.context}
    for field, size in sizes.items():
        if size > INT16_LIMIT:
            raise BadInput(f"encoder: {field} is {size}; the C code takes at most {INT16_LIMIT}")
    planner = _Planner(encoder, rounder)
    blocks = [block for block in encoder.blocks if isinstance(block, Block)]
    embed = planner.open("embed", PATCH_BITS)
    insides = [_inside(planner, block, f"blocks.{i}") for i, block in enumerate(blocks)]
    finest = min(layer.finest() for layer in (embed, *(part for i in insides for part in (i.out, i.contract))))
    residual_bits = fraction_bits(
        SLACK * residual_bound(encoder), RESIDUAL_LIMIT, min(finest, 24), "the residual stream"
    )
    head = planner.behind("head", encoder.norm, INT32_LIMIT, most=16)
    return Plan(
        config=config,
        embed=embed.finish(residual_bits, RESIDUAL_LIMIT),
        blocks=[_int_block(block, inside, residual_bits) for block, inside in zip(blocks, insides, strict=True)],
        norm=_int_norm(encoder.norm, residual_bits),
        head=head,
        residual_bits=residual_bits,
        float_twin=planner.twin,
    )
