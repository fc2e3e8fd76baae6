"""ExecuTorch: what is lowered computes what PyTorch computes, without torch, and what is missing is said in one line.

Needs a C++ compiler (Debian: g++) and the executorch wheel; CI has both.
"""

import os
import shutil
import subprocess
import sys
import threading
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest
import tiny_executorch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.engines import ENGINES, Engine, EngineState, load_engine
from edge.engines.executorch import build as building
from edge.engines.executorch import library
from edge.engines.inventory import inventory, table
from firmware_bridge.cli import main
from firmware_bridge.errors import BadInput
from quantize.executorch import lower
from quantize.export import TorchStep, encoder_shape
from quantize.plan import uniform

CONFIG = tiny_executorch.CONFIG
SHAPE = encoder_shape(CONFIG)


@pytest.fixture(scope="module", autouse=True)
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The runtime, built once into a cache of its own."""
    if building.compiler() is None or building.installed_wheel() is None:
        if os.environ.get("CI"):
            pytest.fail("CI must not skip: a C++ compiler and the executorch wheel are needed")
        pytest.skip("no C++ compiler (Debian: g++) or no executorch wheel")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield building.build()


def model(*, quantized: bool = True) -> bytes:
    return tiny_executorch.lowered(quantized=quantized).model


@pytest.fixture(scope="module")
def engine(runtime: Path) -> Engine:
    return load_engine("executorch", model(), SHAPE, CONFIG.hop)


def run(engine: Engine, state: EngineState, patches: np.ndarray) -> list[bytes]:
    """Everything a stream of hops gives, to the last bit."""
    out = []
    for patch in patches:
        step = engine.step(state, patch)
        out.append(step.scores.tobytes() + step.embedding.tobytes() + state.k.tobytes() + state.v.tobytes())
    return out


def test_fp32_equals_torch_in_every_output_and_the_rings() -> None:
    lowered = load_engine("executorch", model(quantized=False), SHAPE, CONFIG.hop)
    reference = TorchStep(tiny_executorch.encoder())
    state, wanted_state = lowered.start(), reference.start()
    for patch in tiny_executorch.patches(2 * CONFIG.context, 2):
        out, wanted = lowered.step(state, patch), reference.step(wanted_state, patch)
        for found, right in (
            (out.scores, wanted.scores),
            (out.embedding, wanted.embedding),
            (state.k, wanted_state.k),
            (state.v, wanted_state.v),
        ):
            assert np.abs(found - right).max() < 1e-5


def test_every_precision_stays_close_and_holds_integers(engine: Engine) -> None:
    reference = TorchStep(tiny_executorch.encoder())
    state, wanted_state = engine.start(), reference.start()
    cosines, differences = [], []
    for patch in tiny_executorch.patches(60, 3):
        out, wanted = engine.step(state, patch), reference.step(wanted_state, patch)
        norms = np.linalg.norm(out.embedding) * np.linalg.norm(wanted.embedding)
        cosines.append(out.embedding @ wanted.embedding / norms)
        differences.append(np.abs(out.scores - wanted.scores).max() / np.ptp(wanted.scores))
    assert min(cosines) > 0.98
    assert 0 < np.median(differences) < 0.1  # int8, not fp32 again
    weights = tiny_executorch.encoder().head.weight[0].numpy().tobytes()
    assert weights in model(quantized=False)
    assert weights not in model()


@pytest.mark.parametrize("quantized", [False, True])
def test_the_delegate_takes_every_product(quantized: bool) -> None:
    delegation = tiny_executorch.lowered(quantized=quantized).delegation
    c = CONFIG
    products = c.hop * c.dim + 4 * c.dim**2 + 2 * c.mlp * c.dim**2 + c.dim * c.codebook_size
    attention = 2 * c.dim * c.context
    assert delegation.macs == delegation.all_macs == products + attention
    assert delegation.mac_share == 1.0
    # XNNPACK joins two rings or more; of a single layer's it makes a copy outside.
    assert delegation.left == {"aten.native_layer_norm.default": 3, "aten.cat.default": 2}
    assert delegation.node_share == delegation.nodes / (delegation.nodes + 5) > 0.85


def test_the_same_encoder_and_plan_give_the_same_bytes() -> None:
    assert lower(tiny_executorch.encoder(), tiny_executorch.every_precision()).model == model()


def test_a_precision_without_kernels_is_refused() -> None:
    encoder = tiny_executorch.encoder()
    with pytest.raises(ValueError, match="embed: no 'half'; known: float, dynamic, static, dynamic4"):
        lower(encoder, uniform(encoder, "half"))


@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_snapshot_and_restore_are_exact_at_every_call(engine: Engine, data: st.DataObject) -> None:
    hops = data.draw(st.integers(2, 50))
    cut = data.draw(st.integers(0, hops - 1))
    patches = tiny_executorch.patches(hops, data.draw(st.integers(0, 1000)))
    state = engine.start()
    run(engine, state, patches[:cut])
    snapshot = state.copy()
    first = run(engine, state, patches[cut:])
    run(engine, engine.start(), tiny_executorch.patches(3, 5))
    assert run(engine, snapshot, patches[cut:]) == first


def test_a_hop_allocates_only_what_it_gives_away(engine: Engine) -> None:
    """NumPy tells tracemalloc what it allocates: the outputs, 256 bytes here, and no ring, 8 kB here."""
    patches, state = tiny_executorch.patches(20, 4), engine.start()
    run(engine, state, patches)
    worst = 0
    tracemalloc.start()
    try:
        for patch in patches:
            before = tracemalloc.get_traced_memory()[0]
            tracemalloc.reset_peak()
            out = engine.step(state, patch)
            worst = max(worst, tracemalloc.get_traced_memory()[1] - before)
    finally:
        tracemalloc.stop()
    assert worst < out.scores.nbytes + out.embedding.nbytes + 2000 < state.k.nbytes


def test_threads_and_instances_do_not_change_a_bit(engine: Engine) -> None:
    patches = tiny_executorch.patches(40, 9)
    wanted = run(engine, engine.start(), patches)
    other = load_engine("executorch", model(), SHAPE, CONFIG.hop, threads=2)
    found: list[list[bytes]] = []
    # The guard against ExecuTorch's own pool belongs to a thread: each has to get it.
    workers = [threading.Thread(target=lambda: found.append(run(other, other.start(), patches))) for _ in range(2)]
    for worker in workers:
        worker.start()
        worker.join()
    assert found == [wanted, wanted]


@pytest.mark.parametrize("damage", ["empty", "noise", "half"])
def test_damaged_bytes_are_refused_in_one_line(damage: str, capfd: pytest.CaptureFixture[str]) -> None:
    bad = {"empty": b"", "noise": np.random.default_rng(0).bytes(5000), "half": model()[: len(model()) // 2]}[damage]
    with pytest.raises(BadInput, match=r"^encoder\.pte: not a model that ExecuTorch can run \(") as error:
        load_engine("executorch", bad, SHAPE, CONFIG.hop, label="encoder.pte")
    assert "\n" not in str(error.value)
    assert capfd.readouterr() == ("", "")  # ExecuTorch's own log lines stay out of the live view


@pytest.mark.parametrize(
    ("changes", "hop", "said"),
    [
        ({}, 51, "input 'patch' has shape (1, 50)"),
        ({"layers": 3}, 50, "input 'k' has shape (1, 2, 32, 16)"),
        ({"codebook_size": 64}, 50, "output 'scores' has shape (1, 32)"),
    ],
)
def test_a_model_that_is_not_the_manifests_is_refused(changes: dict[str, int], hop: int, said: str) -> None:
    with pytest.raises(BadInput) as error:
        load_engine("executorch", model(), msgspec.structs.replace(SHAPE, **changes), hop, label="bundle B: encoder")
    assert said in str(error.value)


def test_a_carried_folder_runs_alone_without_torch(runtime: Path, tmp_path: Path) -> None:
    """The folder copied to another user's cache, in a process where neither torch nor executorch can be imported."""
    shutil.copytree(runtime, tmp_path / "pulsecode" / runtime.name)
    program = tmp_path / "encoder.pte"
    program.write_bytes(model())
    script = (
        "import sys, numpy as np\n"
        "sys.modules['torch'] = sys.modules['executorch'] = None\n"
        "from edge.bundle import EncoderShape\n"
        "from edge.engines import load_engine\n"
        f"shape = EncoderShape(**{msgspec.to_builtins(SHAPE)!r})\n"
        f"engine = load_engine('executorch', open({str(program)!r}, 'rb').read(), shape, {CONFIG.hop})\n"
        f"engine.step(engine.start(), np.ones({CONFIG.hop}, np.float32))\n"
        "maps = open('/proc/self/maps').read()\n"
        f"foreign = ('libtorch', 'libc10', 'site-packages/executorch', {str(runtime)!r})\n"
        "sys.exit(any(part in maps for part in foreign))\n"
    )
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_engines_list_names_what_is_ready(capsys: pytest.CaptureFixture[str]) -> None:
    assert [found.engine for found in inventory()] == list(ENGINES)
    assert {found.engine: found.lacks for found in inventory()}["executorch"] == ""
    assert main(["engines", "list"]) == 0
    assert "without torch  ready" in capsys.readouterr().out


def test_without_the_runtime_each_missing_part_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert not ENGINES["executorch"].installed()
    with pytest.raises(BadInput, match="its runtime is not installed; build it with `pulsecode engines build"):
        load_engine("executorch", model(), SHAPE, CONFIG.hop)
    assert "not built: `pulsecode engines build executorch`\n" in table()
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    assert "which needs a C++ compiler (Debian: `sudo apt install g++`)" in table()
    with pytest.raises(BadInput, match="no C\\+\\+ compiler found"):
        building.build()
    monkeypatch.setattr(building.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(BadInput, match="pip install --no-deps 'executorch"):
        building.build()


def test_a_compiler_that_fails_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    failing = tmp_path / "cxx"
    failing.write_text("#!/bin/sh\necho 'shim.cpp:1: error: no such thing' >&2\nexit 1\n")
    failing.chmod(0o755)
    monkeypatch.setenv("CXX", str(failing))
    with pytest.raises(BadInput, match=r"could not build shim\.cpp: shim\.cpp:1: error: no such thing"):
        building.build()
    assert list((tmp_path / "pulsecode").iterdir()) == []


def test_a_runtime_that_does_not_load_is_said_in_one_line(
    runtime: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    broken = tmp_path / "pulsecode" / runtime.name
    broken.mkdir(parents=True)
    (broken / library.SHIM).write_bytes(b"not a library")
    with pytest.raises(BadInput, match=r"does not load .* build it again with `pulsecode engines build") as error:
        load_engine("executorch", model(), SHAPE, CONFIG.hop)
    assert "\n" not in str(error.value)


def test_an_older_shim_is_not_used_and_the_newest_wheel_wins(
    runtime: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    machine, source = runtime.name.split("-")[2:]
    for name in (f"1.6.0-{machine}-000000000000", f"1.9.0-{machine}-{source}", f"1.10.0-{machine}-{source}"):
        folder = tmp_path / "pulsecode" / f"executorch-{name}"
        folder.mkdir(parents=True)
        (folder / library.SHIM).touch()
    found = library.built()
    assert found is not None
    assert library.built_version(found) == "1.10.0"


def test_lowering_needs_no_gradient_and_leaves_the_encoder_as_it_was() -> None:
    before = {name: value.clone() for name, value in tiny_executorch.encoder().state_dict().items()}
    model()
    after = tiny_executorch.encoder().state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
