"""Engines: state is explicit and exact, shapes are checked, and what is missing or broken is said in one line."""

import importlib
import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import numpy as np
import pytest
import tiny_models
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.bundle import Bundle, EncoderShape, EngineFile, Manifest
from edge.engines import Engine, EngineState, load_engine, open_engine
from edge.engines.engine import MASKED, write_mask
from edge.frontend import FrontendConfig
from firmware_bridge.errors import BadInput
from quantize.export import encoder_shape
from trainer.encoder import MASKED as TRAINED_MASKED
from trainer.encoder import step_mask

CONFIG = tiny_models.CONFIG
SHAPE = encoder_shape(CONFIG)
ENGINES = ("litert", "onnx")


def load(name: Any, threads: int = 1, method: Any = "static") -> Engine:
    return load_engine(name, tiny_models.artefact(name, method).model, SHAPE, CONFIG.hop, threads=threads)


@pytest.fixture(scope="module", params=ENGINES)
def engine(request: pytest.FixtureRequest) -> Engine:
    return load(request.param)


def run(engine: Engine, state: EngineState, patches: Any) -> list[bytes]:
    """Everything a stream of hops gives, to the last bit."""
    out = []
    for patch in patches:
        step = engine.step(state, patch)
        out.append(step.scores.tobytes() + step.embedding.tobytes() + state.k.tobytes() + state.v.tobytes())
    return out


def make_bundle(**changes: Any) -> Bundle:
    """A bundle in memory with both engines; only the engine loader looks at it."""
    contents = {
        tiny_models.artefact(name, "static").file: tiny_models.artefact(name, "static").model for name in ENGINES
    }  # type: ignore[arg-type]
    manifest = Manifest(
        schema=1,
        name="tiny",
        version="0",
        signal="ppg",
        frontend=FrontendConfig(rate=125.0, hop=CONFIG.hop, sos=[[1, 0, 0, 1, 0, 0]], gain_hops=5, clip=8.0),
        encoder=SHAPE,
        warmup_hops=5,
        engines={
            name: EngineFile(tiny_models.artefact(name, "static").file, "static")  # type: ignore[arg-type]
            for name in ENGINES
        },
        novelty=None,
        quality=None,
        rhythm=None,
        metrics={},
        provenance={},
        licence="",
        files={},
    )
    return Bundle(Path("tiny-bundle"), msgspec.structs.replace(manifest, **changes), contents)


def test_outputs_have_the_promised_shapes(engine: Engine) -> None:
    state = engine.start()
    out = engine.step(state, tiny_models.patches(1, 3)[0])
    assert out.scores.shape == (CONFIG.codebook_size,)
    assert out.embedding.shape == (CONFIG.dim,)
    assert out.scores.dtype == out.embedding.dtype == state.k.dtype == state.v.dtype == np.float32
    assert state.hops == 1


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_snapshot_and_restore_are_exact(engine: Engine, data: st.DataObject) -> None:
    hops = data.draw(st.integers(2, 20))
    cut = data.draw(st.integers(0, hops - 1))
    patches = tiny_models.patches(hops, data.draw(st.integers(0, 1000)))
    state = engine.start()
    run(engine, state, patches[:cut])
    snapshot = state.copy()
    first = run(engine, state, patches[cut:])
    # Other streams in between, on the same engine, leave no trace.
    run(engine, engine.start(), tiny_models.patches(3, 5))
    assert run(engine, snapshot.copy(), patches[cut:]) == first
    assert snapshot.hops == cut
    assert run(engine, snapshot, patches[cut:]) == first


def test_outputs_belong_to_the_caller(engine: Engine) -> None:
    state = engine.start()
    first = engine.step(state, tiny_models.patches(1, 3)[0])
    kept = first.scores.copy(), first.embedding.copy()
    snapshot = state.copy()
    ring = snapshot.k.copy()
    for patch in tiny_models.patches(6, 4):
        engine.step(state, patch)
    assert np.array_equal(first.scores, kept[0])
    assert np.array_equal(first.embedding, kept[1])
    assert np.array_equal(snapshot.k, ring)


@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize("method", ["static", "dynamic"])
def test_threads_and_instances_do_not_change_a_bit(name: str, method: str) -> None:
    patches = tiny_models.patches(12, 9)
    one, two = load(name, 1, method), load(name, 2, method)
    assert run(one, one.start(), patches) == run(two, two.start(), patches)


def test_missing_context_is_masked_as_in_training() -> None:
    assert float(MASKED) == TRAINED_MASKED
    mask = np.full((1, 1, CONFIG.context), np.nan, np.float32)
    for hops in range(CONFIG.context + 3):
        write_mask(mask, hops)
        assert np.array_equal(mask, step_mask(CONFIG.context, hops).numpy())


def test_what_lies_in_the_ring_before_the_first_hop_does_not_matter(engine: Engine) -> None:
    clean, dirty = engine.start(), engine.start()
    dirty.k[...] = 3.0
    dirty.v[...] = -2.0
    patches = tiny_models.patches(8, 11)
    for patch in patches:
        a, b = engine.step(clean, patch), engine.step(dirty, patch)
        assert np.array_equal(a.scores, b.scores)


@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize(
    ("changes", "hop", "said"),
    [
        ({}, CONFIG.hop + 1, "input 'patch' has shape (1, 50)"),
        ({"layers": 3}, CONFIG.hop, "input 'k' has shape (2, 2, 4, 8)"),
        ({"context": 9}, CONFIG.hop, "input 'k' has shape"),
        ({"codebook_size": 64}, CONFIG.hop, "output 'scores' has shape (1, 32)"),
    ],
)
def test_a_model_that_is_not_the_manifests_is_refused(name: str, changes: dict[str, int], hop: int, said: str) -> None:
    shape: EncoderShape = msgspec.structs.replace(SHAPE, **changes)
    model = tiny_models.artefact(name, "static").model  # type: ignore[arg-type]
    with pytest.raises(BadInput) as error:
        load_engine(name, model, shape, hop, label="bundle B: encoder")
    assert said in str(error.value)
    assert str(error.value).startswith("bundle B: encoder: ")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize("damage", ["empty", "noise", "half"])
def test_damaged_bytes_are_refused_in_one_line(name: str, damage: str) -> None:
    good = tiny_models.artefact(name, "static").model  # type: ignore[arg-type]
    noise = np.random.default_rng(0).bytes(5000)
    bad = {"empty": b"", "noise": noise, "half": good[: len(good) // 2]}[damage]
    with pytest.raises(BadInput, match=r"^encoder\.bin: not a ") as error:
        load_engine(name, bad, SHAPE, CONFIG.hop, label="encoder.bin")
    assert "\n" not in str(error.value)


def test_litert_is_preferred_and_a_name_is_obeyed() -> None:
    bundle = make_bundle()
    assert open_engine(bundle).name == "litert"
    assert open_engine(bundle, "onnx").name == "onnx"
    only_onnx = make_bundle(engines={"onnx": bundle.manifest.engines["onnx"]})
    assert open_engine(only_onnx).name == "onnx"


def test_unknown_and_unshipped_engines_are_named() -> None:
    bundle = make_bundle()
    with pytest.raises(BadInput, match="tiny-bundle: has no engine 'tpu'; it ships litert, onnx"):
        open_engine(bundle, "tpu")
    with pytest.raises(BadInput, match="ships engines tpu; this version runs litert, executorch, onnx"):
        open_engine(make_bundle(engines={"tpu": EngineFile("encoder.tpu", "static")}))
    with pytest.raises(BadInput, match="threads must be at least 1"):
        open_engine(bundle, threads=0)


def test_an_engine_that_is_not_built_is_passed_over(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    engines = {"executorch": EngineFile("encoder-dynamic.pte", "dynamic"), **make_bundle().manifest.engines}
    del engines["litert"]
    assert open_engine(make_bundle(engines=engines)).name == "onnx"
    del engines["onnx"]
    bundle = make_bundle(engines=engines)
    bundle._contents["encoder-dynamic.pte"] = b"never read"
    with pytest.raises(BadInput, match="not installed; build it with `pulsecode engines build executorch`"):
        open_engine(bundle)


def hide(monkeypatch: pytest.MonkeyPatch, *packages: str) -> None:
    """Make ``packages`` look as if they were not installed."""
    real_import, real_find = importlib.import_module, importlib.util.find_spec

    def import_module(name: str, package: str | None = None) -> ModuleType:
        if name.partition(".")[0] in packages:
            raise ImportError(name)
        return real_import(name, package)

    monkeypatch.setattr(importlib, "import_module", import_module)
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, package=None: None if name in packages else real_find(name, package)
    )
    for package in packages:
        monkeypatch.setitem(sys.modules, package, None)


def test_a_missing_package_is_named_with_the_extra_that_brings_it(monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = make_bundle()
    hide(monkeypatch, "ai_edge_litert", "tflite_runtime")
    assert open_engine(bundle).name == "onnx"
    with pytest.raises(BadInput, match=r"pip install 'pulsecode\[device\]'"):
        open_engine(bundle, "litert")
    hide(monkeypatch, "ai_edge_litert", "tflite_runtime", "onnxruntime")
    with pytest.raises(BadInput, match=r"pip install 'pulsecode\[onnx\]'"):
        open_engine(bundle, "onnx")
    with pytest.raises(BadInput, match=r"pip install 'pulsecode\[device\]'"):
        open_engine(bundle)


@pytest.mark.parametrize("name", ENGINES)
def test_a_device_process_stays_silent_and_free_of_torch(name: str, tmp_path: Path) -> None:
    """In a process of its own: nothing on stdout or stderr, and none of the heavy libraries is loaded."""
    model = tmp_path / "model"
    model.write_bytes(tiny_models.artefact(name, "static").model)  # type: ignore[arg-type]
    script = (
        "import sys, numpy as np\n"
        "from edge.bundle import EncoderShape\n"
        "from edge.engines import load_engine\n"
        f"shape = EncoderShape(**{msgspec.to_builtins(SHAPE)!r})\n"
        f"engine = load_engine({name!r}, open({str(model)!r}, 'rb').read(), shape, {CONFIG.hop})\n"
        f"engine.step(engine.start(), np.ones({CONFIG.hop}, np.float32))\n"
        "heavy = {'torch', 'scipy', 'jax', 'matplotlib'} & set(sys.modules)\n"
        "sys.exit(f'loaded {heavy}' if heavy else 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
