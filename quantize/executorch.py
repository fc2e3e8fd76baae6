"""ExecuTorch: the step form lowered to XNNPACK, each layer in a plan's arithmetic.

The quantized graph is written down directly (quantize, dequantize, product) with the plan's own scales, in the
operators that the XNNPACK partitioner knows from torchao's pt2e flow. So the ranges are those of every other engine,
and the same encoder and plan give the same bytes.
"""

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import Graph, Node

from quantize.plan import BLOCK, LayerPlan, Plan, Precision, affine, weight_scales
from quantize.quiet import quiet_libraries
from trainer.encoder import Block, Encoder

PRECISIONS: tuple[Precision, ...] = ("float", "dynamic", "static", "dynamic4")
_LOW, _HIGH = -128, 127
_EPS = 2**-12  # smallest scale, as in XNNPACK's own quantizer


class _QuantizedLinear(nn.Module):
    """``nn.Linear`` with int8 or int4 weights and int8 activations, as operators that XNNPACK's delegate takes whole.

    ``clamped``: negative outputs are about to be set to 0, so the output's codes are spent on the others.
    """

    def __init__(self, layer: nn.Linear, plan: LayerPlan, *, clamped: bool) -> None:
        super().__init__()
        weight = layer.weight.detach()
        # A first layer whose inputs do not fill whole blocks keeps 8 bits.
        self.bits = 4 if plan.precision == "dynamic4" and weight.shape[1] % BLOCK == 0 else 8
        blocks = weight.reshape(-1, BLOCK) if self.bits == 4 else weight
        scales = weight_scales(blocks, self.bits)
        codes = torch.round(blocks / scales).to(torch.int8).reshape(weight.shape)
        self.weight: Tensor
        self.scales: Tensor
        self.zeros: Tensor
        self.register_buffer("weight", codes)
        self.register_buffer("scales", scales.reshape(len(weight), -1) if self.bits == 4 else scales[:, 0])
        self.register_buffer("zeros", torch.zeros_like(self.scales, dtype=torch.int64))
        self.bias = nn.Parameter(layer.bias.detach().clone(), requires_grad=False)
        self.fixed = None
        if plan.precision == "static":
            assert plan.input, "a static layer has ranges"
            assert plan.output, "a static layer has ranges"
            low, high = plan.output
            self.fixed = affine(plan.input), affine((0.0, max(high, 0.0)) if clamped else (low, high))

    def forward(self, x: Tensor) -> Tensor:
        """(1, in) → (1, out)."""
        ops = torch.ops.quantized_decomposed
        if self.fixed is None:
            scale, zero = ops.choose_qparams.tensor(x, _LOW, _HIGH, _EPS, torch.int8)
            codes = ops.quantize_per_tensor.tensor(x, scale, zero, _LOW, _HIGH, torch.int8)
            x = ops.dequantize_per_tensor.tensor(codes, scale, zero, _LOW, _HIGH, torch.int8)
        else:
            x = _on_grid(x, *self.fixed[0])
        y = nn.functional.linear(x, self._weight(), self.bias)
        return y if self.fixed is None else _on_grid(y, *self.fixed[1])

    def _weight(self) -> Tensor:
        ops = torch.ops.quantized_decomposed
        if self.bits == 4:
            said: Tensor = ops.dequantize_per_channel_group(
                self.weight, self.scales, self.zeros, -8, 7, torch.int8, BLOCK, torch.float32
            )
            return said
        said = ops.dequantize_per_channel(self.weight, self.scales, self.zeros, 0, -127, 127, torch.int8)
        return said


def _on_grid(x: Tensor, scale: float, zero: int) -> Tensor:
    ops = torch.ops.quantized_decomposed
    codes = ops.quantize_per_tensor(x, scale, zero + _LOW, _LOW, _HIGH, torch.int8)
    said: Tensor = ops.dequantize_per_tensor(codes, scale, zero + _LOW, _LOW, _HIGH, torch.int8)
    return said


class _RootMeanSquare(nn.Module):
    """RMSNorm in operators that XNNPACK has: it has a mean only as pooling, so the mean over the channels is a product
    with a row of ``1 / dim``. (LayerNorm done so is delegated too, but slower than the kernel that there is for it.)"""

    def __init__(self, norm: nn.RMSNorm) -> None:
        super().__init__()
        (dim,) = norm.normalized_shape
        self.eps = torch.finfo(torch.float32).eps if norm.eps is None else norm.eps  # None: RMSNorm's own default
        self.mean: Tensor
        self.register_buffer("mean", torch.full((1, dim), 1 / dim))
        self.weight = norm.weight

    def forward(self, x: Tensor) -> Tensor:
        """(1, dim) → (1, dim)."""
        x = x * torch.rsqrt(nn.functional.linear(x * x, self.mean) + self.eps)
        return x if self.weight is None else x * self.weight


class _Step(nn.Module):
    """:class:`StepForm` with the rings cut and joined, not selected and stacked: the delegate takes only the former."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, patch: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """See :class:`StepForm`."""
        x, shape = self.encoder.embed(patch), k.shape[1:]
        keys, values = [], []
        for i, block in enumerate(self.encoder.blocks):
            assert isinstance(block, Block)
            x, key, value = block.step(x, k[i : i + 1].view(shape), v[i : i + 1].view(shape), mask)
            keys.append(key.view(1, *shape))
            values.append(value.view(1, *shape))
        embedding = self.encoder.norm(x)
        return self.encoder.head(embedding), embedding, torch.cat(keys), torch.cat(values)


def _quantized(encoder: Encoder, plan: Plan) -> Encoder:
    """A copy of ``encoder`` whose layers compute as ``plan`` says, fp32 where it says nothing, and whose other parts
    XNNPACK can take where that pays; raises :class:`ValueError` for what it has no kernels for."""
    copied = copy.deepcopy(encoder)
    for name, module in encoder.named_modules():
        new: nn.Module
        if isinstance(module, nn.RMSNorm):
            new = _RootMeanSquare(module)
        elif isinstance(module, nn.Linear) and name in plan and plan[name].precision != "float":
            if plan[name].precision not in PRECISIONS:
                raise ValueError(f"ExecuTorch: {name}: no {plan[name].precision!r}; known: {', '.join(PRECISIONS)}")
            clamped = name.endswith(".expand") and encoder.config.activation == "relu"
            new = _QuantizedLinear(module, plan[name], clamped=clamped)
        else:
            continue
        parent, _, leaf = name.rpartition(".")
        setattr(copied.get_submodule(parent), leaf, new)
    return copied


@dataclass(frozen=True)
class Delegation:
    """What XNNPACK takes of a graph: operators and multiply-adds a hop, in the delegate and in all. ``left``: the
    names of the operators that it does not take, with how often."""

    nodes: int
    all_nodes: int
    macs: int
    all_macs: int
    parts: int
    left: dict[str, int]

    @property
    def node_share(self) -> float:
        """Share of the operators, 0–1; quantize and dequantize are not counted, since they fuse."""
        return self.nodes / self.all_nodes

    @property
    def mac_share(self) -> float:
        """Share of the multiply-adds, 0–1."""
        return self.macs / self.all_macs


@dataclass(frozen=True)
class Lowered:
    """A .pte program's bytes, and what of it is delegated."""

    model: bytes
    delegation: Delegation


def lower(encoder: Encoder, plan: Plan | None = None) -> Lowered:
    """The step form of ``encoder``, inputs and outputs in the contract's order and in the caller's memory, with each
    layer as ``plan`` says (None: fp32). Raises :class:`ValueError` for a precision that XNNPACK does not have."""
    return _lowered(_Step(_quantized(encoder, plan or {})), _example(encoder))


def lower_window(encoder: Encoder, patches: int, plan: Plan | None = None) -> Lowered:
    """The same for the window form: (1, ``patches``, hop) → scores (1, patches, K), embeddings (1, patches, dim)."""
    return _lowered(_quantized(encoder, plan or {}), (torch.zeros(1, patches, encoder.config.hop),))


def _lowered(form: nn.Module, example: tuple[Tensor, ...]) -> Lowered:
    with quiet_libraries():
        from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
        from executorch.exir import ExecutorchBackendConfig, to_edge_transform_and_lower
        from executorch.exir.passes import MemoryPlanningPass

        exported = torch.export.export(form.eval(), example)
        edge = to_edge_transform_and_lower(exported, partitioner=[XnnpackPartitioner()])
        delegation = _delegation(edge.exported_program().graph_module)
        planning = MemoryPlanningPass(alloc_graph_input=False, alloc_graph_output=False)
        program = edge.to_executorch(ExecutorchBackendConfig(memory_planning_pass=planning))
        return Lowered(bytes(program.buffer), delegation)


def to_executorch(encoder: Encoder, plan: Plan | None = None) -> bytes:
    """:func:`lower`'s program alone."""
    return lower(encoder, plan).model


def _example(encoder: Encoder) -> tuple[Tensor, ...]:
    c = encoder.config
    k, v = encoder.state()
    return torch.zeros(1, c.hop), k, v, torch.zeros(1, 1, c.context)


def _delegation(module: Any) -> Delegation:
    left: dict[str, int] = {}
    nodes = macs = parts = outside = outside_macs = 0
    for node in module.graph.nodes:
        if node.op == "call_function" and "call_delegate" in str(node.target):
            inside = getattr(module, node.args[0].target).original_module.graph
            parts += 1
            nodes += sum(_counts(part) for part in inside.nodes)
            macs += _macs(inside)
        elif _counts(node):
            name = _name(node)
            left[name] = left.get(name, 0) + 1
            outside += 1
    outside_macs = _macs(module.graph)
    return Delegation(nodes, nodes + outside, macs, macs + outside_macs, parts, left)


def _name(node: Node) -> str:
    """``aten.linear.default`` of a graph's node."""
    return str(getattr(node.target, "__name__", node.target))


def _counts(node: Node) -> bool:
    return node.op == "call_function" and not any(
        part in _name(node) for part in ("getitem", "quantize", "choose_qparams", "call_delegate")
    )


def _macs(graph: Graph) -> int:
    """Multiply-adds of the matrix products in ``graph``."""
    total = 0
    for node in graph.nodes:
        if node.op == "call_function" and any(part in _name(node) for part in (".linear.", ".bmm.", "mm.")):
            # All of them end in a product of (…, inner) with the output's columns.
            first = node.args[1] if ".addmm." in _name(node) else node.args[0]
            total += node.meta["val"].numel() * first.meta["val"].shape[-1]
    return total
