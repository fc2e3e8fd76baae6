"""Small encoders in C, built for this computer with its sanitizers on."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from edge.bundle import load_bundle
from edge.frontend import FrontendConfig
from quantize.export import TorchStep
from quantize.mcu.emit import sources
from quantize.mcu.plan import Plan, make_plan
from quantize.mcu.toolchain import HARNESS, LIBRARY, PACKAGES, STANDARD, call, host_program, tool
from quantize.mcu.vectors import Results, as_patches, run_program, unpacked
from quantize.rounding import nearest
from trainer.encoder import Block, Encoder, EncoderConfig

F32 = NDArray[np.float32]


def need(*tools: str) -> None:
    """Skip where a program is missing, fail where CI lacks it."""
    missing = [name for name in tools if shutil.which(name) is None]
    if missing and os.environ.get("CI"):
        pytest.fail(f"CI must not skip: {', '.join(missing)} missing")
    if missing:
        pytest.skip(f"{', '.join(missing)} missing; on Debian: apt install {PACKAGES[missing[0]]}")


def encoder(config: EncoderConfig, seed: int = 0, spread: float = 1.0) -> Encoder:
    """Random weights ``spread`` times PyTorch's, and gains, biases and age biases that are not trivial either."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        made = Encoder(config).eval()
        with torch.no_grad():
            for name, parameter in made.named_parameters():
                if "norm" in name and not name.endswith("alpha"):
                    parameter.add_(torch.randn_like(parameter) * 0.3)
                elif name.endswith("weight"):
                    parameter.mul_(spread)
            for block in made.blocks:
                assert isinstance(block, Block)
                block.age_bias.normal_(std=0.5)
    return made


def plan(model: Encoder) -> Plan:
    """Weights to the nearest step."""
    return make_plan(model, lambda _, weight, scale: nearest(weight, scale))


def frontend(hop: int) -> FrontendConfig:
    """The shipped front end with another hop."""
    shipped = load_bundle().manifest.frontend
    return FrontendConfig(shipped.rate, hop, shipped.sos, shipped.gain_hops, shipped.clip)


def written(made: Plan, folder: Path) -> Path:
    """The C sources of ``made`` in ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in sources(made, frontend(made.config.hop), 3).items():
        (folder / name).write_text(text)
    return folder


def program(made: Plan, folder: Path) -> Path:
    """The harness of ``made``, with sanitizers."""
    need("gcc")
    return host_program(written(made, folder), folder / "run_vectors", sanitize=True)


def run(made: Plan, built: Path, *streams: F32) -> Results:
    """What the C code says to ``streams`` of patches."""
    return unpacked(run_program(built, [as_patches(stream) for stream in streams]), made)


def patches(config: EncoderConfig, hops: int, seed: int = 0) -> F32:
    """A noisy oscillation of the front end's scale in whole steps of Q12, (hops, hop)."""
    rng = np.random.default_rng(seed)
    t = np.arange(hops * config.hop)
    wave = 1.4 * np.sin(0.06 * t + rng.uniform(0, 6)) + rng.normal(0, 0.5, len(t))
    return (as_patches(wave.reshape(hops, config.hop).astype(np.float32)) / 4096).astype(np.float32)


def in_floats(model: Encoder, stream: F32) -> tuple[F32, F32]:
    """Scores and embeddings of the PyTorch step form, hop by hop."""
    engine = TorchStep(model)
    state = engine.start()
    outputs = [engine.step(state, patch) for patch in stream]
    return np.stack([o.scores for o in outputs]), np.stack([o.embedding for o in outputs])


def call_gcc(folder: Path, into: Path, *flags: str) -> None:
    """Another build of the harness in ``folder``."""
    need("gcc")
    sources_there = [folder / name for name in (*LIBRARY, HARNESS)]
    call([tool("gcc"), *STANDARD, *flags, "-I", folder, *sources_there, "-o", into], folder)
