"""tflite-runtime 2.14: models that it would get wrong are repaired to what was meant, and nothing else is touched."""

import contextlib
import sys
import tracemalloc
from types import ModuleType

import numpy as np
import pytest
from ai_edge_litert import interpreter, schema_py_generated
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.bundle import Bundle, load_bundle
from edge.engines import Engine, load_engine, open_engine
from edge.engines.old_tflite import FLOAT32, FULLY_CONNECTED, INT4, INT8, repaired
from firmware_bridge.errors import BadInput


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return load_bundle(None)


@pytest.fixture(scope="module")
def shipped(bundle: Bundle) -> bytes:
    """The shipped LiteRT model, whose products have int8 weights with a scale for each output channel."""
    model = bundle.read(bundle.manifest.engines["litert"].file)
    assert INT8 in weight_types(model)
    return model


def weight_types(model: bytes) -> list[int]:
    graph_model = schema_py_generated.ModelT.InitFromPackedBuf(model, 0)
    (graph,) = graph_model.subgraphs
    return [
        graph.tensors[operator.inputs[1]].type
        for operator in graph.operators
        if graph_model.operatorCodes[operator.opcodeIndex].builtinCode == FULLY_CONNECTED
    ]


def packed(model: bytes, change: dict[int, int] | None = None) -> bytes:
    """The same model with its buffers inside the flatbuffer, and the type of its weights changed."""
    import flatbuffers

    loaded = schema_py_generated.ModelT.InitFromPackedBuf(model, 0)
    for buffer in loaded.buffers:
        if buffer.offset and buffer.offset > 1:
            buffer.data = np.frombuffer(model, np.uint8, buffer.size, buffer.offset)
            buffer.offset = buffer.size = 0
    for tensor in loaded.subgraphs[0].tensors:
        tensor.type = (change or {}).get(tensor.type, tensor.type)
    builder = flatbuffers.Builder(len(model))
    builder.Finish(loaded.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def stream(hop: int, hops: int = 60) -> np.ndarray:
    t = np.arange(hop * hops)
    wave = 1.4 * np.sin(t * 0.06) + np.random.default_rng(0).normal(0, 0.3, len(t))
    return wave.reshape(hops, hop).astype(np.float32)


def scores(engine: Engine, patches: np.ndarray) -> np.ndarray:
    state = engine.start()
    return np.stack([engine.step(state, patch).scores for patch in patches])


@pytest.mark.parametrize("inside", [False, True])
def test_the_weights_become_float_and_mean_the_same(bundle: Bundle, shipped: bytes, inside: bool) -> None:
    model = packed(shipped) if inside else shipped
    fixed = repaired(model)
    assert set(weight_types(fixed)) == {FLOAT32}
    m = bundle.manifest
    patches = stream(m.frontend.hop)
    wanted = scores(load_engine("litert", model, m.encoder, m.frontend.hop), patches)
    found = scores(load_engine("litert", fixed, m.encoder, m.frontend.hop), patches)
    # The same weights; only the activations' rounding at every hop is gone.
    assert 0 < np.abs(found - wanted).mean() < 0.02 * np.ptp(wanted)
    assert repaired(fixed) == fixed


def test_four_bits_are_refused_in_words(shipped: bytes) -> None:
    with pytest.raises(ValueError, match="cannot run weights of 4 bits"):
        repaired(packed(shipped, {INT8: INT4}))


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_damaged_bytes_end_in_a_value_error_or_in_bytes(shipped: bytes, data: st.DataObject) -> None:
    damaged = bytearray(shipped[: data.draw(st.integers(0, 60_000))])
    for _ in range(data.draw(st.integers(0, 20))):
        if damaged:
            damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(ValueError):
        # Where the damage lies in the numbers the model stays readable, and nothing of it is lost.
        assert len(repaired(bytes(damaged))) >= len(damaged)


def test_the_engine_repairs_for_the_old_runtime_only(
    bundle: Bundle, shipped: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    m = bundle.manifest
    patches = stream(m.frontend.hop, 10)
    meant = scores(load_engine("litert", repaired(shipped), m.encoder, m.frontend.hop), patches)
    new = scores(open_engine(bundle, "litert"), patches)
    assert not np.array_equal(new, meant)
    # The old package's interpreter has the same calls; only its name tells them apart.
    for name in ("ai_edge_litert", "ai_edge_litert.interpreter"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setitem(sys.modules, "tflite_runtime", ModuleType("tflite_runtime"))
    monkeypatch.setitem(sys.modules, "tflite_runtime.interpreter", interpreter)
    assert np.array_equal(scores(load_engine("litert", shipped, m.encoder, m.frontend.hop), patches), meant)
    with pytest.raises(BadInput, match=r"^encoder: not a LiteRT model .* cannot run weights of 4 bits"):
        load_engine("litert", packed(shipped, {INT8: INT4}), m.encoder, m.frontend.hop, label="encoder")


@pytest.mark.parametrize("name", ["litert", "onnx"])
def test_a_hop_allocates_only_what_it_gives_away(bundle: Bundle, name: str) -> None:
    """NumPy tells tracemalloc what it allocates: the outputs, 2.4 kB, and no ring, 37 kB each."""
    engine = open_engine(bundle, name)
    patches, state = stream(bundle.manifest.frontend.hop, 20), engine.start()
    worst = 0
    for patch in patches:
        engine.step(state, patch)
    tracemalloc.start()
    try:
        for patch in patches:
            before = tracemalloc.get_traced_memory()[0]
            tracemalloc.reset_peak()
            out = engine.step(state, patch)
            worst = max(worst, tracemalloc.get_traced_memory()[1] - before)
    finally:
        tracemalloc.stop()
    assert worst < out.scores.nbytes + out.embedding.nbytes + 4000 < state.k.nbytes
