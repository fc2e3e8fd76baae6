"""Who is timed: the shipped engines and, on the same signal, what one would otherwise use."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edge.bundle import Bundle
from edge.engines import ENGINES, Engine, open_engine
from edge.frontend import Frontend
from firmware_bridge.block import SampleBlock
from firmware_bridge.errors import BadInput
from firmware_bridge.source import open_source

if TYPE_CHECKING:
    from trainer.encoder import Encoder

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

WINDOW_SECONDS = 10.0
SIGNAL_SECONDS = 60


@dataclass(frozen=True)
class Contender:
    """Something to time. ``hop``: one call, as it would be made for each hop; ``block``: calls a round (slow ones get
    fewer). ``hop`` is None with ``missing`` saying why where it cannot run here."""

    name: str
    what: str
    hop: Callable[[], object] | None
    block: int = 50
    missing: str = ""


@dataclass(frozen=True)
class Material:
    """The virtual patient's signal: ``raw`` (samples,) on the bundle's grid, and ``patches`` (hops, hop)."""

    raw: F64
    patches: F32


def material(bundle: Bundle) -> Material:
    """A minute of sinus rhythm through the bundle's own front end."""
    config = bundle.manifest.frontend
    uri = f"sim:sinus?duration={SIGNAL_SECONDS}&rate={config.rate:g}&seed=1"
    source = open_source(uri, bundle.manifest.signal)
    blocks = [block.values for block in source if isinstance(block, SampleBlock)]
    raw = np.concatenate(blocks).astype(np.float64) * source.info.scale
    frontend = Frontend(config)
    state = frontend.start()
    hops = raw[: len(raw) // config.hop * config.hop].reshape(-1, config.hop)
    return Material(raw, np.stack([frontend.step(state, hop)[1] for hop in hops]))


class _Circle:
    """The patches one after the other, for ever."""

    def __init__(self, patches: F32) -> None:
        self._patches, self._next = patches, 0

    def __call__(self) -> F32:
        patch: F32 = self._patches[self._next % len(self._patches)]
        self._next += 1
        return patch


def _stepping(engine: Engine, patches: F32) -> Callable[[], object]:
    state, patch = engine.start(), _Circle(patches)
    return lambda: engine.step(state, patch())


def engines(bundle: Bundle, patches: F32) -> list[Contender]:
    """(a) and (b): the bundle's own engines, one thread."""
    found = []
    for name in ENGINES:
        shipped = bundle.manifest.engines.get(name)
        what = f"shipped step, {shipped.method}" if shipped else "shipped step"
        if shipped is None:
            found.append(Contender(name, what, None, missing="not in this bundle"))
            continue
        try:
            engine = open_engine(bundle, name)
        except BadInput as error:
            missing = "not installed" if "not installed" in str(error) else str(error)
            found.append(Contender(name, what, None, missing=missing))
            continue
        found.append(Contender(name, what, _stepping(engine, patches)))
    return found


def random_encoder(bundle: Bundle) -> "Encoder":
    """An encoder of the bundle's shape with random weights: they cost the same time. (Its MLP is 4 times as wide as
    the model, which the manifest does not say.)"""
    from trainer.encoder import Encoder, EncoderConfig

    shape = bundle.manifest.encoder
    config = EncoderConfig(
        hop=bundle.manifest.frontend.hop,
        dim=shape.heads * shape.head_dim,
        layers=shape.layers,
        heads=shape.heads,
        mlp=4,
        context=shape.context,
        codebook_size=shape.codebook_size,
        lookahead=shape.lookahead,
    )
    return Encoder(config).eval()


def run_encoder(bundle: Bundle, run: Path) -> "Encoder":
    """The encoder of ``run``; raises :class:`BadInput` if it cannot be read or is not of the bundle's shape."""
    from quantize.export import encoder_shape
    from quantize.run import load_run

    encoder = load_run(run).encoder
    if (encoder_shape(encoder.config), encoder.config.hop) != (bundle.manifest.encoder, bundle.manifest.frontend.hop):
        raise BadInput(f"run {run}: its encoder is not of the shape of bundle {bundle.path}; name the run it is from")
    return encoder


def torch_forms(bundle: Bundle, patches: F32, run: Path | None) -> list[Contender]:
    """(c) and (d): the same model in PyTorch eager, fp32, as a step and as the whole window again at every hop.

    Raises :class:`BadInput` as :func:`run_encoder` does.
    """
    names = ("torch step", "torch window")
    try:
        import torch
    except ImportError:
        return [Contender(name, "fp32, eager", None, missing="not installed") for name in names]
    from quantize.export import TorchStep

    encoder = run_encoder(bundle, run) if run else random_encoder(bundle)
    weights = "the run's weights" if run else "random weights"
    torch.set_num_threads(1)
    context = bundle.manifest.encoder.context
    window = torch.from_numpy(patches[:context].copy())[None]

    def again() -> object:
        with torch.inference_mode():
            return encoder(window)

    return [
        Contender(names[0], f"fp32, eager, one hop with state ({weights})", _stepping(TorchStep(encoder), patches), 20),
        Contender(names[1], f"fp32, eager, {context} hops again at every hop ({weights})", again, 10),
    ]


def neurokit(bundle: Bundle, raw: F64) -> Contender:
    """(e): NeuroKit2's whole PPG analysis of the same ten seconds, as one would call it for a fresh window."""
    name = "NeuroKit2"
    if bundle.manifest.signal != "ppg":
        return Contender(name, "ppg_process on 10 s", None, missing="the bundle is for ECG")
    try:
        import neurokit2
    except ImportError:
        return Contender(name, "ppg_process on 10 s", None, missing="not installed")
    rate = bundle.manifest.frontend.rate
    window = raw[: round(WINDOW_SECONDS * rate)]

    def process() -> object:
        return neurokit2.ppg_process(window, sampling_rate=round(rate))

    return Contender(name, "ppg_process on 10 s", process, 1)


def all_contenders(bundle: Bundle, run: Path | None) -> list[Contender]:
    """Everyone; the first one is what the others are compared with."""
    signal = material(bundle)
    return [
        *engines(bundle, signal.patches),
        *torch_forms(bundle, signal.patches, run),
        neurokit(bundle, signal.raw),
    ]
