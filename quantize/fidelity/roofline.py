"""What one thread of this machine reaches on a large product of matrices, and how much of it an engine's hop uses.

The product is a fully connected layer in the engine's own format, so it runs the kernels that the encoder runs. It is
far larger than a hop's products, which have one row and are bound by reading their weights once: the roofline is what
arithmetic alone would allow, and a hop stays well below it.
"""

import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from quantize.fidelity.figures import Roofline
from quantize.litert import to_litert
from quantize.quiet import quiet_libraries
from trainer.encoder import EncoderConfig

F32 = NDArray[np.float32]

ROWS, WIDTH = 256, 1024
ROUNDS = 12


def operations(config: EncoderConfig) -> int:
    """Of one hop's products, two a multiply-add; attention over a full context included."""
    d = config.dim
    block = 4 * d * d + 2 * config.mlp * d * d + 2 * config.context * d
    return 2 * (config.hop * d + config.layers * block + d * config.codebook_size)


class _Product(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(WIDTH, WIDTH)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"y": self.layer(x)}


def _litert() -> tuple[Callable[[], object], Callable[[], object]]:
    """LiteRT's int8 (dynamic) and fp32 layer, ready to run."""
    fp32 = to_litert(_Product(), {"x": torch.zeros(ROWS, WIDTH)})
    loaded = []
    with quiet_libraries():
        from ai_edge_litert.interpreter import Interpreter
        from ai_edge_quantizer import qtyping, quantizer, recipe_manager

        recipe = recipe_manager.RecipeManager()
        recipe.add_dynamic_config(".*", qtyping.TFLOperationName.FULLY_CONNECTED, num_bits=8)
        tool = quantizer.Quantizer(bytearray(fp32), recipe.get_quantization_recipe())
        for model in (bytes(tool.quantize(None).quantized_model), fp32):
            interpreter: Any = Interpreter(model_content=model, num_threads=1)
            interpreter.allocate_tensors()
            interpreter.set_tensor(interpreter.get_input_details()[0]["index"], _rows())
            loaded.append(interpreter.invoke)
    return loaded[0], loaded[1]


def _onnx() -> tuple[Callable[[], object], Callable[[], object]]:
    """ONNX Runtime's u8·s8 and fp32 product, ready to run."""
    import onnx
    import onnxruntime
    from onnx import helper, numpy_helper

    rng = np.random.default_rng(0)
    weights = {
        "MatMulInteger": rng.integers(-127, 128, (WIDTH, WIDTH), np.int8),
        "MatMul": rng.standard_normal((WIDTH, WIDTH)).astype(np.float32),
    }
    inputs = {"MatMulInteger": rng.integers(0, 256, (ROWS, WIDTH), np.uint8), "MatMul": _rows()}
    kinds = {
        "MatMulInteger": (onnx.TensorProto.UINT8, onnx.TensorProto.INT32),
        "MatMul": (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT),
    }
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    loaded = []
    for op, (kind, result) in kinds.items():
        graph = helper.make_graph(
            [helper.make_node(op, ["x", "w"], ["y"])],
            "product",
            [helper.make_tensor_value_info("x", kind, [ROWS, WIDTH])],
            [helper.make_tensor_value_info("y", result, [ROWS, WIDTH])],
            [numpy_helper.from_array(weights[op], "w")],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        loaded.append(_bound(session, inputs[op]))
    return loaded[0], loaded[1]


def _bound(session: Any, x: NDArray[Any]) -> Callable[[], object]:
    return lambda: session.run(["y"], {"x": x})


def _rows() -> F32:
    return np.random.default_rng(1).standard_normal((ROWS, WIDTH)).astype(np.float32)


PRODUCTS: dict[str, Callable[[], tuple[Callable[[], object], Callable[[], object]]]] = {
    "litert": _litert,
    "onnx": _onnx,
}


def measure_roofline(engines: tuple[str, ...], config: EncoderConfig) -> Roofline | None:
    """The throughput of those of ``engines`` whose product is known, taking turns; the fastest round of each counts,
    since whatever else the machine does can only slow it. None if none is known."""
    known = [engine for engine in engines if engine in PRODUCTS]
    if not known:
        return None
    products = {(engine, i): run for engine in known for i, run in enumerate(PRODUCTS[engine]())}
    best = dict.fromkeys(products, float("inf"))
    for _ in range(ROUNDS):
        for key, run in products.items():
            begun = time.perf_counter()
            run()
            best[key] = min(best[key], time.perf_counter() - begun)
    amount = 2 * ROWS * WIDTH * WIDTH / 1e9
    rates = {engine: (round(amount / best[engine, 0], 1), round(amount / best[engine, 1], 1)) for engine in known}
    return Roofline(max(r[0] for r in rates.values()), max(r[1] for r in rates.values()), rates, operations(config))


def share(roofline: Roofline, ms: float, *, integer: bool) -> float:
    """Of a hop of ``ms``: what its operations alone would take at the roofline of its arithmetic."""
    rate = roofline.int8 if integer else roofline.fp32
    return roofline.operations / (rate * 1e6) / ms


def times_fp32(ms: Mapping[str, float], engine: str, method: str) -> float | None:
    """A hop's time as a share of the same engine's fp32; None where that was not timed."""
    fp32 = ms.get(f"{engine} fp32")
    return None if fp32 is None else ms[f"{engine} {method}"] / fp32
