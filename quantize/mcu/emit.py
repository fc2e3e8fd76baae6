"""The generated part of the C sources: sizes, weights, tables, a self-test. What they are used by is in ``c/``."""

import math
from collections.abc import Iterable
from importlib.resources import files
from textwrap import fill

import numpy as np
from numpy.typing import NDArray

from edge.frontend import FrontendConfig
from firmware_bridge.errors import BadInput
from quantize.mcu import fixed_point
from quantize.mcu.fixed_point import INT32_LIMIT, PATCH_BITS, IntLinear
from quantize.mcu.plan import RESIDUAL_LIMIT, IntBlock, IntNorm, Plan

I8 = NDArray[np.int8]

LINE = 118
TILE, COLUMN_ORDER = 4, [0, 2, 1, 3]
SOS_BITS = 29
GENERATED = "/* Made by `pulsecode mcu`; do not edit. */\n"


def array(kind: str, name: str, values: NDArray[np.generic], *, static: bool = True) -> str:
    """A constant one-dimensional C array."""
    numbers = fill(", ".join(map(str, values.ravel().tolist())), LINE, initial_indent="    ", subsequent_indent="    ")
    return f"{'static ' if static else ''}const {kind} {name}[{values.size}] = {{\n{numbers},\n}};\n"


def _frontend_constants(frontend: FrontendConfig) -> dict[str, int]:
    # 64 squares of 29 bits fit in 64 bits; a longer hop's lose some of their (fractional) bits.
    energy_shift = max(0, (frontend.hop - 1).bit_length() - 6)
    return {
        "PC_RATE_HZ": round(frontend.rate),
        "PC_SECTIONS": len(frontend.sos),
        "PC_GAIN_HOPS": frontend.gain_hops,
        "PC_CLIP": round(frontend.clip * 2**PATCH_BITS),
        "PC_ENERGY_SHIFT": energy_shift,
        "PC_GAIN": round(math.sqrt(frontend.hop / 2**energy_shift) * 2**PATCH_BITS),
    }


def model_header(plan: Plan, frontend: FrontendConfig, warmup_hops: int) -> str:
    """``pulsecode_model.h``: the encoder's shape and formats, and the front end's."""
    config, hidden = plan.config, plan.config.mlp * plan.config.dim
    sizes = {
        "PC_HOP": config.hop,
        "PC_DIM": config.dim,
        "PC_LAYERS": config.layers,
        "PC_HEADS": config.heads,
        "PC_HEAD_DIM": config.dim // config.heads,
        "PC_HIDDEN": hidden,
        "PC_TILED_DIM": _whole_tiles(config.dim),
        "PC_TILED_WIDE": _whole_tiles(max(hidden, config.hop)),
        "PC_CONTEXT": config.context,
        "PC_CODES": config.codebook_size,
        "PC_LOOKAHEAD": config.lookahead,
        "PC_WARMUP_HOPS": warmup_hops,
        "PC_EMBEDDING_BITS": plan.norm.bits,
        "PC_SCORE_BITS": plan.head.bits,
        "PC_RESIDUAL_LIMIT": RESIDUAL_LIMIT,
    }
    mean = _mean_constants(config.dim) if config.norm == "layer" else {}
    defines = [f"#define {name} {value}" for name, value in {**sizes, **mean, **_frontend_constants(frontend)}.items()]
    defines += [f"#define PC_NORM_{config.norm.upper()}", f"#define PC_ACTIVATION_{config.activation.upper()}"]
    body = "\n".join(defines)
    return f"{GENERATED}#ifndef PULSECODE_MODEL_H\n#define PULSECODE_MODEL_H\n\n{body}\n\n#endif\n"


def _whole_tiles(count: int) -> int:
    return -(-count // TILE) * TILE


def tiled(weight: I8) -> I8:
    """Weights (outputs, inputs) in the order of ``pulsecode_dot.h``: tiles of 4 × 4, filled up with zeros."""
    outputs, inputs = (_whole_tiles(n) for n in weight.shape)
    whole = np.zeros((outputs, inputs), np.int8)
    whole[: len(weight), : weight.shape[1]] = weight
    tiles = whole.reshape(outputs // TILE, TILE, inputs // TILE, TILE).swapaxes(1, 2)
    return tiles[..., COLUMN_ORDER].ravel()


def _mean_constants(dim: int) -> dict[str, int]:
    """``((sum >> shift) * factor) >> 30`` is ``sum / dim``, and neither factor needs more than 32 bits."""
    shift = (dim - 1).bit_length()
    return {"PC_MEAN_SHIFT": shift, "PC_MEAN_FACTOR": round(2 ** (30 + shift) / dim)}


class _Source:
    """Arrays first, then the structures that point at them."""

    def __init__(self) -> None:
        self.arrays: list[str] = []

    def linear(self, name: str, layer: IntLinear) -> str:
        outputs, inputs = layer.weight.shape
        self.arrays += [
            array("int8_t", f"{name}_weight", tiled(layer.weight)),
            array("int32_t", f"{name}_bias", layer.bias),
            array("int32_t", f"{name}_multiplier", layer.multiplier.integer),
        ]
        numbers = f"{_whole_tiles(inputs) // TILE}, {outputs}, {layer.multiplier.shift}, {layer.limit}"
        return f"{{{name}_weight, {name}_bias, {name}_multiplier, {numbers}}}"

    def norm(self, name: str, norm: IntNorm) -> str:
        self.arrays += [
            array("int32_t", f"{name}_gain", norm.gain.integer),
            array("int32_t", f"{name}_bias", norm.bias),
        ]
        alpha, alpha_shift = norm.alpha
        numbers = f"UINT64_C({norm.epsilon}), {alpha}, {alpha_shift}, {norm.gain.shift}, {norm.limit}"
        return f"{{{name}_gain, {name}_bias, {numbers}}}"

    def block(self, name: str, block: IntBlock) -> str:
        self.arrays.append(array("int32_t", f"{name}_age_bias", block.age_bias))
        parts = [
            self.norm(f"{name}_norm_attention", block.norm_attention),
            *(self.linear(f"{name}_{part}", getattr(block, part)) for part in ("query", "key", "value", "out")),
            f"{name}_age_bias, {block.logit_bits}, {block.logit_shift}",
            self.norm(f"{name}_norm_mlp", block.norm_mlp),
            self.linear(f"{name}_expand", block.expand),
            f"{block.expand.bits}, {block.expand.bits - block.hidden_bits}, {block.hidden_limit}",
            self.linear(f"{name}_contract", block.contract),
        ]
        return _braces(parts, 8)


def _braces(parts: Iterable[str], indent: int) -> str:
    pad = " " * indent
    return "{\n" + ",\n".join(f"{pad}    {part}" for part in parts) + f",\n{pad}}}"


def sections(frontend: FrontendConfig) -> NDArray[np.int32]:
    """``b0 b1 b2 a1 a2`` of every section, Q29. Raises :class:`BadInput` for coefficients of 4 or more."""
    taps = np.array([[*row[:3], *row[4:]] for row in frontend.sos]) * 2.0**SOS_BITS
    if np.abs(taps).max() > INT32_LIMIT:
        raise BadInput("front end: frontend.sos has a coefficient of 4 or more, too large for fixed point")
    return np.rint(taps).astype(np.int32)


def model_source(plan: Plan, frontend: FrontendConfig) -> str:
    """``pulsecode_model.c``: every constant of the encoder and of the front end."""
    source = _Source()
    embed = source.linear("embed", plan.embed)
    blocks = [source.block(f"layer{i}", block) for i, block in enumerate(plan.blocks)]
    norm, head = source.norm("norm", plan.norm), source.linear("head", plan.head)
    tables = {"PC_EXP2": fixed_point.exp2_table()}
    if plan.config.norm == "tanh":
        tables["PC_TANH"] = fixed_point.tanh_table()
    if plan.config.activation == "gelu":
        tables["PC_GELU"] = fixed_point.gelu_table()
    parts = [array("uint16_t", name, values, static=False) for name, values in tables.items()] + source.arrays
    encoder = _braces([embed, _braces(blocks, 4), norm, head], 0)
    rows = [f"{{{', '.join(map(str, row))}}}" for row in sections(frontend).tolist()]
    sos = f"const int32_t PC_SOS[PC_SECTIONS][5] = {_braces(rows, 0)};\n"
    return (
        f'{GENERATED}#include "pulsecode_types.h"\n\n{sos}{"".join(parts)}\nconst pc_encoder PC_ENCODER = {encoder};\n'
    )


def fixed_sources() -> dict[str, str]:
    """The C code that is the same for every encoder, by file name."""
    folder = files("quantize.mcu") / "c"
    return {file.name: file.read_text(encoding="utf-8") for file in folder.iterdir()}


def sources(plan: Plan, frontend: FrontendConfig, warmup_hops: int) -> dict[str, str]:
    """Everything that a build and its test need, by file name."""
    return {
        **fixed_sources(),
        "pulsecode_model.h": model_header(plan, frontend, warmup_hops),
        "pulsecode_model.c": model_source(plan, frontend),
    }
