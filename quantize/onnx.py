"""ONNX Runtime: conversion, and a plan carried out with ONNX Runtime's own integer products.

Each layer's product is replaced by the operator that the runtime has for it (domain ``com.microsoft``): a quantized
layer does not depend on what the runtime's optimizer recognizes, and its output stays in 32 bits. Activations are
unsigned: x86 has a fast u8·s8 product and a slow s8·s8 one; on Arm they are equal.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from quantize.plan import BLOCK, LayerPlan, Plan, Range, affine, is_state, layers, weight_scales
from quantize.quiet import quiet_libraries
from trainer.encoder import Encoder

F32 = NDArray[np.float32]

CONTRIB = "com.microsoft"
INT8_INSIDE = 4  # MatMulNBits' accuracy level at which it computes with 8-bit activations


def to_onnx(module: nn.Module, example: dict[str, Tensor], outputs: Sequence[str]) -> bytes:
    """fp32 ONNX of ``module``; inputs named as in ``example``, outputs as ``outputs`` says, in that order."""
    with quiet_libraries():
        program = torch.onnx.export(
            module.eval(),
            tuple(example.values()),
            dynamo=True,
            external_data=False,
            verbose=False,
            input_names=list(example),
            output_names=list(outputs),
        )
        assert program is not None
        return _serialized(program.model_proto)


def _serialized(model: Any) -> bytes:
    """Bytes of an ONNX model without the exporter's stack traces, which hold this machine's paths."""
    parts = [model, model.graph, *model.graph.node, *model.graph.value_info, *model.graph.input, *model.graph.output]
    parts += model.graph.initializer
    for part in parts:
        del part.metadata_props[:]
        part.doc_string = ""
    data: bytes = model.SerializeToString(deterministic=True)
    return data


def quantize_onnx(model: bytes, encoder: Encoder, plan: Plan) -> bytes:
    """``model``, converted from ``encoder``, with each layer as ``plan`` says.

    Of a static plan only what is stored, the rings' keys and values, is rounded on the way out too: that puts the
    state on a fixed grid.
    """
    with quiet_libraries():
        import onnx

        loaded = onnx.load_from_string(model)
        rewriter = _Rewriter(loaded.graph)
        for name, layer in layers(encoder).items():
            if plan[name].precision != "float":
                rewriter.replace(name, layer, plan[name])
        rewriter.finish()
        if not any(opset.domain == CONTRIB for opset in loaded.opset_import):
            loaded.opset_import.append(onnx.helper.make_opsetid(CONTRIB, 1))
        onnx.checker.check_model(loaded)
        return _serialized(loaded)


class _Rewriter:
    """Replaces linear layers in a graph, one at a time."""

    def __init__(self, graph: Any) -> None:
        import onnx

        self._onnx, self._graph = onnx, graph
        self._weights = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
        self._nodes: list[Any] = list(graph.node)
        self._inputs: dict[tuple[str, Range | None], list[str]] = {}  # activations that are quantized already

    def _constant(self, name: str, values: NDArray[np.generic] | np.generic) -> str:
        if not any(tensor.name == name for tensor in self._graph.initializer):
            self._graph.initializer.append(self._onnx.numpy_helper.from_array(np.asarray(values), name))
        return name

    def _node(
        self, place: int, op: str, inputs: list[str], outputs: list[str], domain: str = "", **kwargs: Any
    ) -> None:
        node = self._onnx.helper.make_node(op, inputs, outputs, f"{outputs[0]}_{op}", domain=domain, **kwargs)
        self._nodes.insert(place, node)

    def _find(self, layer: nn.Linear) -> tuple[Any, str]:
        """The node with this layer's weights, and the name of its bias."""
        wanted = layer.weight.detach().numpy()
        for node in self._nodes:
            if node.op_type in ("Gemm", "MatMul") and node.input[1] in self._weights:
                found = self._weights[node.input[1]]
                if any(found.shape == some.shape and np.array_equal(found, some) for some in (wanted, wanted.T)):
                    return node, node.input[2] if node.op_type == "Gemm" else ""
        raise RuntimeError("ONNX: the converted graph has no product with these weights")

    def replace(self, name: str, layer: nn.Linear, plan: LayerPlan) -> None:
        """The product of one layer in the plan's arithmetic."""
        node, bias = self._find(layer)
        place = self._nodes.index(node)
        del self._nodes[place]
        given, made = node.input[0], node.output[0]
        on_grid = plan.precision == "static" and is_state(name) and plan.output is not None
        raw = f"{made}_raw" if on_grid else made
        if plan.precision in ("half", "weights8"):
            self._stored_small(place, name, node, plan)
            return
        if plan.precision == "dynamic4" and layer.in_features % BLOCK == 0:
            self._blocks(place, name, layer, given, bias, raw)
        else:
            self._integer(place, name, layer, plan, given, bias, raw)
        if on_grid and plan.output is not None:
            scale, zero = self._scale(f"{name}.out", plan.output)
            place = next(i for i, some in enumerate(self._nodes) if raw in some.output) + 1
            self._node(place, "DequantizeLinear", [f"{made}_codes", scale, zero], [made])
            self._node(place, "QuantizeLinear", [raw, scale, zero], [f"{made}_codes"])

    def _scale(self, name: str, limits: Range) -> tuple[str, str]:
        scale, zero = affine(limits)
        return self._constant(f"{name}_scale", np.float32(scale)), self._constant(f"{name}_zero", np.uint8(zero))

    def _integer(
        self, place: int, name: str, layer: nn.Linear, plan: LayerPlan, given: str, bias: str, made: str
    ) -> None:
        """8-bit weights per output channel times 8-bit activations, by scales found at every hop or fixed."""
        weight = layer.weight.detach().numpy().T
        scales = (np.maximum(np.abs(weight).max(0), 1e-12) / 127).astype(np.float32)
        codes = self._constant(f"{name}.int8", np.rint(weight / scales).astype(np.int8))
        weight_scale = self._constant(f"{name}.scale", scales)
        if plan.precision in ("dynamic", "dynamic4"):
            inputs = [given, codes, weight_scale, "", bias]
            self._node(place, "DynamicQuantizeMatMul", _trimmed(inputs), [made], CONTRIB)
            return
        assert plan.input is not None, "a static layer has ranges"
        if (given, plan.input) not in self._inputs:
            scale, zero = self._scale(f"{name}.in", plan.input)
            quantized = f"{given}_codes_for_{name}"
            self._node(place, "QuantizeLinear", [given, scale, zero], [quantized])
            self._inputs[given, plan.input] = [quantized, scale, zero]
            place += 1
        quantized, scale, zero = self._inputs[given, plan.input]
        inputs = [quantized, codes, scale, weight_scale, zero, "", bias]
        self._node(place, "MatMulIntegerToFloat", _trimmed(inputs), [made], CONTRIB)

    def _stored_small(self, place: int, name: str, node: Any, plan: LayerPlan) -> None:
        """16-bit or int8 weights that the runtime turns into 32-bit ones when it loads the model. Plain operators, not
        ``DequantizeLinear``, which the runtime would carry out at every hop."""
        weight = self._weights[node.input[1]]
        restored, to = f"{name}.weight", self._onnx.TensorProto.FLOAT
        if plan.precision == "half":
            stored = self._constant(f"{name}.half", weight.astype(np.float16))
            self._nodes.insert(place, node)
            self._node(place, "Cast", [stored], [restored], to=to)
        else:
            inward = 1 if node.op_type == "Gemm" else 0  # (out, in), or (in, out)
            scales = (np.maximum(np.abs(weight).max(inward, keepdims=True), 1e-12) / 127).astype(np.float32)
            codes = self._constant(f"{name}.int8", np.rint(weight / scales).astype(np.int8))
            self._nodes.insert(place, node)
            self._node(place, "Mul", [f"{name}.codes", self._constant(f"{name}.scale", scales)], [restored])
            self._node(place, "Cast", [codes], [f"{name}.codes"], to=to)
        node.input[1] = restored

    def _blocks(self, place: int, name: str, layer: nn.Linear, given: str, bias: str, made: str) -> None:
        """4-bit weights with a scale for each block of input channels; unsigned codes around 8, two to a byte."""
        rows, columns = layer.weight.shape
        blocks = layer.weight.detach().reshape(-1, BLOCK)
        scales = weight_scales(blocks, 4)
        codes = (torch.round(blocks / scales).numpy() + 8).astype(np.uint8).reshape(rows, -1, BLOCK)
        packed = self._constant(f"{name}.int4", codes[..., ::2] | codes[..., 1::2] << 4)
        inputs = [given, packed, self._constant(f"{name}.scale", scales.numpy().ravel()), "", "", bias]
        kind = {"K": columns, "N": rows, "bits": 4, "block_size": BLOCK, "accuracy_level": INT8_INSIDE}
        self._node(place, "MatMulNBits", _trimmed(inputs), [made], CONTRIB, **kind)

    def finish(self) -> None:
        """Write the nodes back, without the weights that nothing reads any more."""
        del self._graph.node[:]
        self._graph.node.extend(self._nodes)
        read = {name for node in self._nodes for name in node.input}
        kept = [tensor for tensor in self._graph.initializer if tensor.name in read]
        del self._graph.initializer[:]
        self._graph.initializer.extend(kept)


def _trimmed(inputs: list[str]) -> list[str]:
    """Optional inputs that are left out at the end are not named."""
    while inputs and not inputs[-1]:
        inputs.pop()
    return inputs
