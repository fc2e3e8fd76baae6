"""The generated C: the same function as the encoder, in integers, without undefined behaviour."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny_mcu
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from firmware_bridge.errors import BadInput
from quantize.mcu.plan import MAX_HOP
from quantize.mcu.vectors import as_patches, run_program
from trainer.encoder import EncoderConfig

CONFIG = EncoderConfig(hop=20, dim=12, layers=2, heads=2, mlp=2, context=4, codebook_size=21)

configs = st.builds(
    lambda hop, heads, head_dim, layers, mlp, context, codes, norm, activation: EncoderConfig(
        hop=hop,
        dim=heads * head_dim,
        layers=layers,
        heads=heads,
        mlp=mlp,
        context=context,
        codebook_size=codes,
        norm=norm,
        activation=activation,
    ),
    st.integers(3, 60),
    st.integers(1, 3),
    st.integers(2, 9),
    st.integers(1, 3),
    st.integers(1, 4),
    st.integers(2, 7),
    st.integers(2, 40),
    st.sampled_from(["layer", "rms", "tanh"]),
    st.sampled_from(["gelu", "relu"]),
)


def check_close(folder: Path, config: EncoderConfig, seed: int, spread: float) -> None:
    """The C code is as near to the encoder with its own weights in fp32 as 16 bits are to numbers of that size."""
    made = tiny_mcu.plan(tiny_mcu.encoder(config, seed, spread))
    stream = tiny_mcu.patches(config, 3 * config.context + 2, seed)
    found = tiny_mcu.run(made, tiny_mcu.program(made, folder), stream)
    scores, embeddings = tiny_mcu.in_floats(made.float_twin, stream)
    assert np.array_equal(found.tokens, found.scores.argmax(1))
    assert np.abs(found.embeddings - embeddings).max() < 0.004 * max(1.0, np.abs(embeddings).max())
    assert np.abs(found.scores - scores).max() < 0.004 * max(1.0, np.abs(scores).max())


@pytest.mark.parametrize("activation", ["gelu", "relu"])
@pytest.mark.parametrize("norm", ["layer", "rms", "tanh"])
def test_every_norm_and_activation_is_the_encoders(norm: str, activation: str, tmp_path: Path) -> None:
    config = replace(CONFIG, norm=norm, activation=activation)  # type: ignore[arg-type]
    check_close(tmp_path, config, seed=1, spread=2.0)


@settings(max_examples=3, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(config=configs, seed=st.integers(0, 1000), spread=st.sampled_from([0.5, 1.0, 3.0]))
def test_any_shape_is_the_encoders(
    config: EncoderConfig, seed: int, spread: float, tmp_path_factory: pytest.TempPathFactory
) -> None:
    check_close(tmp_path_factory.mktemp("mcu"), config, seed, spread)


def test_streams_start_afresh_and_depend_on_their_context(tmp_path: Path) -> None:
    made = tiny_mcu.plan(tiny_mcu.encoder(CONFIG, 2))
    built = tiny_mcu.program(made, tmp_path)
    first, second = (tiny_mcu.patches(CONFIG, 11, seed) for seed in (3, 4))
    both, alone = tiny_mcu.run(made, built, first, second), tiny_mcu.run(made, built, second)
    assert np.array_equal(both.scores[11:], alone.scores)  # pc_init forgets the first stream
    # What is older than the context of all layers together is forgotten, and what is inside it is not.
    reach = CONFIG.layers * (CONFIG.context - 1)
    changed = second.copy()
    changed[0] += 1
    other = tiny_mcu.run(made, built, changed)
    moved = (other.scores != alone.scores).any(1)
    assert moved[0] and moved[CONFIG.context - 1]
    assert not moved[reach + 1 :].any()


def test_no_patch_however_wild_overflows(tmp_path: Path) -> None:
    """The sanitizers stop the program at the first undefined operation; results stay in their formats."""
    config = replace(CONFIG, norm="rms")
    made = tiny_mcu.plan(tiny_mcu.encoder(config, 5, spread=4.0))
    rng = np.random.default_rng(0)
    shape = (30, config.hop)
    streams = [
        np.full(shape, 9.0),
        np.full(shape, -9.0),
        np.zeros(shape),
        rng.choice([-9.0, 9.0], shape),
        rng.normal(0, 1e-3, shape),
    ]
    found = tiny_mcu.run(made, tiny_mcu.program(made, tmp_path), *[s.astype(np.float32) for s in streams])
    assert (found.tokens >= 0).all() and (found.tokens < config.codebook_size).all()
    assert np.isfinite(found.scores).all()


def test_nothing_depends_on_the_optimizer(tmp_path: Path) -> None:
    made = tiny_mcu.plan(tiny_mcu.encoder(CONFIG, 6))
    stream = [as_patches(tiny_mcu.patches(CONFIG, 15))]
    sanitized = tiny_mcu.program(made, tmp_path)
    fast = tmp_path / "fast"
    tiny_mcu.call_gcc(tmp_path, fast, "-O3", "-funroll-loops")
    assert run_program(sanitized, stream) == run_program(fast, stream)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(BadInput, match=f"takes at most {MAX_HOP}"):
        tiny_mcu.plan(tiny_mcu.encoder(replace(CONFIG, hop=MAX_HOP + 1)))
    with pytest.raises(BadInput, match="codebook_size is 40000"):
        tiny_mcu.plan(tiny_mcu.encoder(replace(CONFIG, codebook_size=40_000)))
    with pytest.raises(BadInput, match="too large for fixed point"):
        tiny_mcu.plan(tiny_mcu.encoder(CONFIG, spread=1e5))
