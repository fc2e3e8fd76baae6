"""The front end in C is the Python front end, to the last bits of a patch."""

from pathlib import Path

import numpy as np
import pytest
import tiny_mcu
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edge.frontend import Frontend
from quantize.mcu.plan import Plan
from quantize.mcu.vectors import run_program, unpacked
from trainer.encoder import EncoderConfig

CONFIG = EncoderConfig(hop=50, dim=8, layers=1, heads=2, mlp=1, context=2, codebook_size=4)
HOPS = 60
STEP = 2.0**-12

Built = tuple[Plan, Path]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    made = tiny_mcu.plan(tiny_mcu.encoder(CONFIG))
    return made, tiny_mcu.program(made, tmp_path_factory.mktemp("mcu"))


def both(built: Built, samples: NDArray[np.int16]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Patches of the C code and of :class:`Frontend`, (hops, hop), from counts of 16 bits."""
    made, program = built
    hops = samples.reshape(-1, CONFIG.hop)
    frontend = Frontend(tiny_mcu.frontend(CONFIG.hop))
    state = frontend.start()
    wanted = np.stack([frontend.step(state, hop.astype(np.float64))[1] for hop in hops])
    return unpacked(run_program(program, [hops]), made).filtered, wanted


def wave(amplitude: float, level: float, rate: float, seed: int, hops: int = HOPS) -> NDArray[np.int16]:
    rng = np.random.default_rng(seed)
    t = np.arange(hops * CONFIG.hop) / 125
    drift = 3 * np.sin(2 * np.pi * 0.07 * t)
    beat = np.sin(2 * np.pi * rate * t) + 0.4 * np.sin(4 * np.pi * rate * t + 1) + 0.02 * rng.standard_normal(len(t))
    return np.clip(np.rint(level + amplitude * (beat + drift)), -32768, 32767).astype(np.int16)


@settings(max_examples=15, deadline=None)
@given(st.floats(300, 6000), st.floats(-8000, 8000), st.floats(0.6, 3.5), st.integers(0, 99))
def test_patches_are_the_python_front_ends(
    built: Built, amplitude: float, level: float, rate: float, seed: int
) -> None:
    found, wanted = both(built, wave(amplitude, level, rate, seed))
    # At first the gain rests on one hop in which the filter has hardly begun; then on more.
    assert np.abs(found - wanted).max() < 8 * STEP
    assert np.abs(found - wanted)[6:].max() < 3 * STEP


def test_a_pulse_of_twenty_counts_is_still_itself(built: Built) -> None:
    found, wanted = both(built, wave(20, 500, 1.2, 0))
    assert np.abs(found - wanted)[6:].max() < 0.005


def test_a_flat_line_gives_zeros_and_a_jump_is_clipped(built: Built) -> None:
    found, wanted = both(built, np.full(HOPS * CONFIG.hop, 1234, np.int16))
    assert not found.any() and not wanted.any()
    jump = wave(300, 0, 1.2, 1)
    jump[len(jump) // 2 :] += 20_000
    found, wanted = both(built, jump)
    assert found.max() == wanted.max() == 5
    assert np.abs(found - wanted)[6:].max() < 3 * STEP


@pytest.mark.data
def test_a_recordings_counts_give_its_patches(built: Built, shared_data: Path) -> None:
    import wfdb

    header = next(iter(sorted((shared_data / "bidmc").rglob("bidmc01.hea"))))
    record = wfdb.rdrecord(str(header.with_suffix("")), physical=False)
    counts = record.d_signal[:, [name.startswith("PLETH") for name in record.sig_name].index(True)]
    assert record.fs == 125
    found, wanted = both(built, counts[: 300 * CONFIG.hop].astype(np.int16))
    assert np.abs(wanted).mean() > 0.3  # there is a pulse
    assert np.abs(found - wanted)[6:].max() < 0.01
