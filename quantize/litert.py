"""LiteRT: conversion, and a plan carried out by AI Edge Quantizer.

An int8 fully connected op of LiteRT gives int8, so a static layer's output is rounded as well as its input; a dynamic
one's is not.
"""

import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from quantize.plan import BLOCK, LayerPlan, Plan, layers
from quantize.quiet import quiet_libraries
from trainer.encoder import Encoder

F32 = NDArray[np.float32]

SAME = 1e-5  # relative difference of weights that are the same but for the float rounding of a folded factor


def to_litert(module: nn.Module, example: dict[str, Tensor]) -> bytes:
    """fp32 LiteRT flatbuffer of ``module``, which returns its outputs in a dictionary; inputs and outputs keep their
    names."""
    with quiet_libraries():
        import litert_torch

        converted = litert_torch.convert(module.eval(), sample_kwargs=example)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.tflite"
            converted.export(str(path))
            return path.read_bytes()


@dataclass(frozen=True)
class _Product:
    """A fully connected op: the names of its tensors, the converter's factor on its weights (None where every input
    channel has one of its own, since the norm before was folded in), a fused ReLU or not."""

    given: str
    made: str
    factor: float | None
    relu: bool


def _products(model: Any, encoder: Encoder) -> dict[str, _Product]:
    """The op of each of the encoder's layers, found by its weights: the converter keeps no names, and folds the
    attention's scale into the query's."""
    from ai_edge_litert.schema_py_generated import ActivationFunctionType, BuiltinOperator

    found: dict[str, _Product] = {}
    weights = {name: layer.weight.detach().numpy() for name, layer in layers(encoder).items()}
    for graph in model.subgraphs:
        for op in graph.operators:
            if model.operatorCodes[op.opcodeIndex].builtinCode != BuiltinOperator.FULLY_CONNECTED:
                continue
            given, weight, made = (graph.tensors[i] for i in (op.inputs[0], op.inputs[1], op.outputs[0]))
            values = model.buffers[weight.buffer].data
            if values is None:
                continue
            flat = np.frombuffer(bytes(values), np.float32).reshape(weight.shape)
            for name, wanted in weights.items():
                factors = _factors(flat, wanted)
                if factors is not None:
                    factor = float(factors.mean()) if np.ptp(factors) <= SAME * factors.max() else None
                    relu = op.builtinOptions.fusedActivationFunction == ActivationFunctionType.RELU
                    found[name] = _Product(given.name.decode(), made.name.decode(), factor, relu)
    missing = [name for name in weights if name not in found]
    if missing:
        raise RuntimeError(f"LiteRT: the converted graph has no product with the weights of {', '.join(missing)}")
    return found


def _factors(found: F32, wanted: F32) -> F32 | None:
    """What each column of ``wanted`` (out, in) was multiplied by to give ``found``; None if they are other weights."""
    if found.shape != wanted.shape:
        return None
    factors = (found * wanted).sum(0) / np.maximum((wanted * wanted).sum(0), 1e-30)
    off = np.abs(found - factors * wanted).max()
    return factors if (factors > 0).all() and off <= SAME * max(float(np.abs(found).max()), 1e-30) else None


def quantize_litert(model: bytes, encoder: Encoder, plan: Plan) -> bytes:
    """``model``, converted from ``encoder``, with each layer as ``plan`` says."""
    with quiet_libraries():
        from ai_edge_quantizer import quantizer, recipe_manager
        from ai_edge_quantizer.utils import tfl_flatbuffer_utils

        products = _products(tfl_flatbuffer_utils.read_model(bytearray(model)), encoder)
        recipe = recipe_manager.RecipeManager()
        ranges: dict[str, dict[str, F32]] = {}
        for name, planned in plan.items():
            product = products[name]
            rescaled = planned.precision == "static" and product.factor is None
            layer = LayerPlan("dynamic") if rescaled else planned  # its ranges are not those of this input
            # A rule applies where its pattern is found in an op's output names, each followed by a semicolon.
            _add(recipe, rf"^{re.escape(product.made)};?$", layer, layers(encoder)[name].in_features)
            if layer.precision == "static":
                ranges |= _ranges(product, layer)
        if all(layer.precision == "float" for layer in plan.values()):
            return model
        tool = quantizer.Quantizer(bytearray(model), recipe.get_quantization_recipe())
        return bytes(tool.quantize(ranges or None).quantized_model)


def _add(recipe: Any, pattern: str, layer: LayerPlan, inputs: int) -> None:
    from ai_edge_quantizer import qtyping
    from ai_edge_quantizer.recipe_manager import AlgorithmName

    op = qtyping.TFLOperationName.FULLY_CONNECTED
    if layer.precision == "static":
        recipe.add_static_config(pattern, op, activation_num_bits=8, weight_num_bits=8)
    elif layer.precision == "dynamic4" and inputs % BLOCK == 0:
        recipe.add_dynamic_config(pattern, op, num_bits=4, granularity=qtyping.QuantGranularity.BLOCKWISE_32)
    elif layer.precision in ("dynamic", "dynamic4"):  # blocks must be whole here: the first layer keeps 8 bits
        recipe.add_dynamic_config(pattern, op, num_bits=8)
    elif layer.precision == "weights8":
        recipe.add_weight_only_config(pattern, op, num_bits=8)
    elif layer.precision == "half":
        recipe.add_weight_only_config(pattern, op, num_bits=16, algorithm_key=AlgorithmName.FLOAT_CASTING)


def _ranges(product: _Product, layer: LayerPlan) -> dict[str, dict[str, F32]]:
    assert layer.input is not None, "a static layer has ranges"
    assert layer.output is not None, "a static layer has ranges"
    assert product.factor is not None, "and its input is the encoder's own"
    low, high = (limit * product.factor for limit in layer.output)
    limits = {product.given: layer.input, product.made: (0.0, high) if product.relu else (low, high)}
    return {
        name: {"min": np.array([[low]], np.float32), "max": np.array([[high]], np.float32)}
        for name, (low, high) in limits.items()
    }
