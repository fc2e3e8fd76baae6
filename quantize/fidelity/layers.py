"""Where int8's noise enters: the signal to quantization noise of each layer, against fp32 at the same hop.

Every engine gives up each layer's newest key and value (they are outputs of the step graph, with the embedding and the
scores), so those are measured as deployed. What lies between is read from inside the graph where the engine allows it;
a tensor is found by having fp32's values in the same engine's fp32 graph, and then by its name, which the quantizers
keep. Streams run on the graph's own state, so noise that comes back through the rings is in the figures.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from edge.engines import Engine, EngineState
from edge.engines.engine import INPUTS, OUTPUTS, write_mask
from quantize.export import TorchStep
from quantize.fidelity.figures import Layer
from quantize.quiet import quiet_libraries
from trainer.encoder import Encoder

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
Values = dict[str, F64]

SAME = 1e-3  # of the largest value: a tensor of the fp32 graph that is that close to PyTorch's is the same one
PROBED_HOPS = 4  # to tell by


class Inner(Protocol):
    """A graph of which every intermediate tensor can be read."""

    note: str

    def run(self, feed: Mapping[str, F32]) -> tuple[list[F32], Callable[[str], F64 | None], list[str]]:
        """Feed :data:`INPUTS` → :data:`OUTPUTS`, a look-up of any tensor's real values by name, and all names."""
        ...


class Noise:
    """Sums up signal and noise by name."""

    def __init__(self) -> None:
        self._signal: dict[str, float] = defaultdict(float)
        self._noise: dict[str, float] = defaultdict(float)

    def add(self, wanted: Values, found: Values) -> None:
        """One hop; what was not found is left out."""
        for name, value in wanted.items():
            if name in found:
                self._signal[name] += float(np.square(value).sum())
                self._noise[name] += float(np.square(value - found[name]).sum())

    def layers(self) -> list[Layer]:
        """In the order of the first hop."""
        return [Layer(name, self._ratio(name)) for name in self._signal]

    def _ratio(self, name: str) -> float | None:
        noise, signal = self._noise[name], self._signal[name]
        return round(float(10 * np.log10(signal / noise)), 2) if noise > 0 and signal > 0 else None


def outputs_of(state: EngineState, scores: F32, embedding: F32) -> Values:
    """The newest key and value of each layer, the embedding and the scores."""
    named: Values = {}
    for i, (k, v) in enumerate(zip(state.k, state.v, strict=True)):
        named[f"block {i + 1} key"] = np.ravel(k[:, -1]).astype(np.float64)
        named[f"block {i + 1} value"] = np.ravel(v[:, -1]).astype(np.float64)
    return {**named, "embedding": embedding.astype(np.float64), "scores": scores.astype(np.float64)}


class Probe:
    """PyTorch's own step form with what flows between its layers: ``values`` of the last hop, each (channels,)."""

    def __init__(self, encoder: Encoder) -> None:
        self.step = TorchStep(encoder)
        self.values: Values = {}
        self._handles = []
        following = [*(block.norm_attention for block in list(encoder.blocks)[1:]), encoder.norm]
        for i, (block, after) in enumerate(zip(encoder.blocks, following, strict=True)):
            for module, name in (
                (block.norm_mlp, f"block {i + 1} after attention"),
                (block.contract, f"block {i + 1} hidden"),
                (after, f"block {i + 1} output"),
            ):
                assert isinstance(module, nn.Module)
                self._handles.append(module.register_forward_pre_hook(self._keep(name)))

    def _keep(self, name: str) -> Callable[[nn.Module, tuple[torch.Tensor, ...]], None]:
        def hook(_: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
            self.values[name] = inputs[0].detach().numpy().ravel().astype(np.float64)

        return hook

    def close(self) -> None:
        """Take the hooks off the encoder."""
        for handle in self._handles:
            handle.remove()


class LiteRTInner:
    """LiteRT with all tensors kept. That needs the reference kernels in the place of the delegate (XNNPACK), whose
    inner tensors nobody can read: sums are rounded in another order, and dynamic int8 takes one scale a tensor."""

    note = "LiteRT's reference kernels, since the delegate's inner tensors cannot be read"

    def __init__(self, model: bytes) -> None:
        from ai_edge_litert.interpreter import Interpreter, OpResolverType

        self._interpreter = Interpreter(
            model_content=model,
            num_threads=1,
            experimental_preserve_all_tensors=True,
            experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        )
        self._interpreter.allocate_tensors()
        runner = self._interpreter.get_signature_runner()
        inputs, outputs = runner.get_input_details(), runner.get_output_details()
        self._inputs = {name: inputs[name]["index"] for name in INPUTS}
        self._outputs = [outputs[name]["index"] for name in OUTPUTS]
        self._details = {detail["name"]: detail for detail in self._interpreter.get_tensor_details()}

    def run(self, feed: Mapping[str, F32]) -> tuple[list[F32], Callable[[str], F64 | None], list[str]]:
        """As :class:`Inner`."""
        for name, index in self._inputs.items():
            self._interpreter.set_tensor(index, feed[name])
        self._interpreter.invoke()
        return [self._interpreter.get_tensor(index) for index in self._outputs], self._look_up, list(self._details)

    def _look_up(self, name: str) -> F64 | None:
        detail = self._details.get(name)
        if detail is None:
            return None
        try:
            stored = self._interpreter.get_tensor(detail["index"])
        except ValueError:  # nothing was ever written there
            return None
        values = np.ravel(stored).astype(np.float64)
        if detail["dtype"] is np.float32:
            return values
        scale, zero = detail["quantization"]
        return (values - zero) * scale if scale else None


class OnnxInner:
    """ONNX Runtime with every float tensor made an output, which keeps it from fusing some nodes."""

    note = "ONNX Runtime with every tensor made an output, which keeps it from fusing some nodes"

    def __init__(self, model: bytes) -> None:
        import onnx
        import onnxruntime

        graph = onnx.shape_inference.infer_shapes(onnx.load_from_string(model))
        contract = [output.name for output in graph.graph.output]
        typed = {value.name: value.type.tensor_type.elem_type for value in graph.graph.value_info}
        inside = [
            name
            for node in graph.graph.node
            for name in node.output
            if name not in contract and typed.get(name) == onnx.TensorProto.FLOAT
        ]
        graph.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in inside)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(
            graph.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        self._contract, self._inside = contract, inside
        self._last: dict[str, F32] = {}

    def run(self, feed: Mapping[str, F32]) -> tuple[list[F32], Callable[[str], F64 | None], list[str]]:
        """As :class:`Inner`."""
        found = self._session.run([*self._contract, *self._inside], dict(feed))
        self._last = dict(zip([*self._contract, *self._inside], found, strict=True))
        return found[: len(OUTPUTS)], self._look_up, self._inside

    def _look_up(self, name: str) -> F64 | None:
        value = self._last.get(name)
        return None if value is None else np.ravel(value).astype(np.float64)


INNER: dict[str, Callable[[bytes], Inner]] = {"litert": LiteRTInner, "onnx": OnnxInner}


class _Runner:
    """An inner graph along a stream, with its state."""

    def __init__(self, graph: Inner, reference: TorchStep) -> None:
        self.graph, self._reference = graph, reference
        self._state = reference.start()

    def restart(self) -> None:
        self._state = self._reference.start()

    def step(self, patch: F32) -> tuple[Callable[[str], F64 | None], list[str]]:
        context = self._state.k.shape[2] + 1
        mask = np.zeros((1, 1, context), np.float32)
        write_mask(mask, self._state.hops)
        feed = {"patch": patch[None], "k": self._state.k, "v": self._state.v, "mask": mask}
        (_, _, k, v), look_up, names = self.graph.run(feed)
        self._state.k, self._state.v, self._state.hops = k.copy(), v.copy(), self._state.hops + 1
        return look_up, names


def _close(a: F64, b: F64 | None) -> bool:
    return b is not None and a.shape == b.shape and bool(np.abs(a - b).max() <= SAME * np.abs(a).max())


def tensor_names(encoder: Encoder, engine: str, fp32: bytes, patches: F32) -> dict[str, list[str]]:
    """Which tensors of an engine's fp32 graph hold what flows between PyTorch's layers, by :class:`Probe`'s names."""
    probe = Probe(encoder)
    try:
        with quiet_libraries():
            runner = _Runner(INNER[engine](fp32), probe.step)
        state = probe.step.start()
        same: dict[str, list[str]] = {}
        for hop, patch in enumerate(patches[:PROBED_HOPS]):
            look_up, names = runner.step(patch)
            probe.step.step(state, patch)
            for wanted, value in probe.values.items():
                candidates = names if hop == 0 else same[wanted]
                same[wanted] = [name for name in candidates if _close(value, look_up(name))]
        return same
    finally:
        probe.close()


def inner_layers(
    encoder: Encoder, engine: str, fp32: bytes | None, model: bytes, streams: F32, warm: int
) -> tuple[list[Layer], str]:
    """SQNR inside the graph on ``streams`` (n, hops, hop), the first ``warm`` hops of each not counted; and how it was
    read. Empty, with the reason, where the engine keeps its tensors to itself."""
    if engine not in INNER:
        return [], f"{engine} does not give up the tensors inside its graph"
    if fp32 is None:
        return [], f"{engine}'s fp32 graph was not made, by which they are found"
    same = tensor_names(encoder, engine, fp32, streams[0])
    try:
        with quiet_libraries():
            graph = INNER[engine](model)
    except (ValueError, RuntimeError):
        return [], f"{engine} cannot run this graph with its inner tensors kept"
    probe, noise = Probe(encoder), Noise()
    try:
        runner = _Runner(graph, probe.step)
        for patches in streams:
            runner.restart()
            state = probe.step.start()
            for i, patch in enumerate(patches):
                look_up, _ = runner.step(patch)
                probe.step.step(state, patch)
                if i >= warm:
                    noise.add(probe.values, _found(same, look_up))
    finally:
        probe.close()
    layers = noise.layers()
    return layers, graph.note if layers else "its tensors have other names than in fp32's graph"


def _found(same: Mapping[str, list[str]], look_up: Callable[[str], F64 | None]) -> Values:
    """The quantizers keep a tensor's name; ONNX Runtime's puts what became of a quantized one under another."""
    found: Values = {}
    for wanted, names in same.items():
        for name in (*names, *(f"{name}_DequantizeLinear_Output" for name in names)):
            value = look_up(name)
            if value is not None:
                found[wanted] = value
                break
    return found


def deployed_layers(encoder: Encoder, engine: Engine, streams: F32, warm: int) -> list[Layer]:
    """SQNR of each layer's newest key and value, the embedding and the scores, as the engine runs on a device."""
    reference, noise = TorchStep(encoder), Noise()
    for patches in streams:
        wanted_state, state = reference.start(), engine.start()
        for i, patch in enumerate(patches):
            wanted, found = reference.step(wanted_state, patch), engine.step(state, patch)
            if i >= warm:
                noise.add(
                    outputs_of(wanted_state, wanted.scores, wanted.embedding),
                    outputs_of(state, found.scores, found.embedding),
                )
    return noise.layers()
