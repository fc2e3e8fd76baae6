"""Every combination of norm and activation, as trained and with what is linear folded away, on every engine.

Structure and time do not depend on the weights, so these are random; what a form loses is read from the ablation's
rows, each of them trained within the same budget.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Literal, get_args

import msgspec
import numpy as np
import torch

from benchmarks.ablation.measure import Row as Trained
from benchmarks.ablation.variants import BASE, VARIANTS
from benchmarks.forms.delegated import litert_delegated
from edge.engines import ENGINES, load_engine
from quantize.export import ENGINE_NAMES, Artefact, EngineName, convert, encoder_shape, one_thread, quantized
from quantize.fidelity.roofline import measure_roofline, share
from quantize.folding import folded
from quantize.plan import Plan, uniform
from quantize.replay import hop_times
from trainer.encoder import Encoder, EncoderConfig, NormName

Activation = Literal["gelu", "relu"]
NORM_NAMES: tuple[NormName, ...] = get_args(NormName)
ACTIVATIONS: tuple[Activation, ...] = get_args(Activation)


class FormRow(msgspec.Struct, frozen=True):
    """One form on one engine. ``operators``: of the int8 graph, ``delegated`` the share of them, and ``mac_delegated``
    of the multiply-adds, that its int8 delegate takes (None: the engine has none, or does not tell); ``left``: the
    operators that it does not. ``ms`` a hop, int8 and fp32; ``of_roofline``: share of this machine's int8 roofline."""

    norm: str
    activation: str
    folded: bool
    engine: str
    operators: int | None
    delegated: float | None
    mac_delegated: float | None
    left: dict[str, int]
    bytes: int
    ms: float
    fp32_ms: float
    of_roofline: float | None


class Accuracy(msgspec.Struct, frozen=True):
    """What a form reached when trained within the ablation's budget, mean over ``seeds``."""

    norm: str
    activation: str
    seeds: int
    bits_per_second: float
    rate_error: float
    af: float


@dataclass(frozen=True)
class Forms:
    """Everything measured."""

    rows: list[FormRow]
    accuracy: list[Accuracy]


def accuracies(runs: Path, seeds: list[int]) -> list[Accuracy]:
    """From the ablation's finished rows of those forms under ``runs``; those that are there."""
    found = []
    for norm, activation in product(NORM_NAMES, ACTIVATIONS):
        shape = {"norm": norm, "activation": activation}
        plain = {name: value for name, value in shape.items() if value != getattr(EncoderConfig(), name)}
        variant = BASE if not plain else next((v for v in VARIANTS if v.student == plain), None)
        files = [runs / f"{variant.slug}-s{seed}" / "row.json" for seed in seeds] if variant else []
        rows = [Trained.read(file).figures for file in files if file.exists()]
        if rows:
            mean = {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
            found.append(
                Accuracy(
                    norm, activation, len(rows), mean["bits per second"], mean["rate error"], mean["AF window AUROC"]
                )
            )
    return found


def _structure(artefact: Artefact, encoder: Encoder, plan: Plan) -> tuple[int, float, float, dict[str, int]] | None:
    """Operators, share delegated, share of multiply-adds delegated, and what is left; None where nobody tells."""
    if artefact.engine == "litert":
        found = litert_delegated(artefact.model)
        products = sum(found.left.get(name, 0) for name in ("FULLY_CONNECTED", "BATCH_MATMUL", "CONV_2D"))
        return found.operators, found.share, 1.0 if not products else float("nan"), found.left
    if artefact.engine == "executorch":
        from quantize.executorch import lower

        taken = lower(encoder, plan).delegation
        return taken.all_nodes, taken.node_share, taken.mac_share, taken.left
    return None


def measure_forms(
    config: EncoderConfig, engines: tuple[EngineName, ...], advance: Callable[[str], None]
) -> list[FormRow]:
    """The rows of every form of ``config``; ``advance`` is told what is being done. Dynamic int8; one thread; the
    engines of a form take turns."""
    rows = []
    shape = encoder_shape(config)
    patches = np.random.default_rng(0).standard_normal((60, config.hop)).astype(np.float32)
    advance("roofline")
    roofline = measure_roofline(engines, config)
    for norm, activation in product(NORM_NAMES, ACTIVATIONS):
        torch.manual_seed(0)
        fields = {**config.to_dict(), "norm": norm, "activation": activation}
        plain = Encoder(EncoderConfig(**fields)).eval()  # type: ignore[arg-type]
        for fold, encoder in ((False, plain), (True, folded(plain))):
            advance(f"{norm}, {activation}{', folded' if fold else ''}")
            plan = uniform(encoder, "dynamic")
            made: dict[EngineName, tuple[Artefact, Artefact]] = {}
            with one_thread():
                for engine in engines:
                    fp32 = convert(encoder, engine)
                    made[engine] = fp32, quantized(fp32, encoder, plan, "dynamic")
                loaded = {
                    f"{engine} {part.method}": load_engine(engine, part.model, shape, config.hop)
                    for engine, parts in made.items()
                    for part in parts
                }
                ms = {name: 1e3 * float(np.median(spent)) for name, spent in hop_times(loaded, patches).items()}
            for engine, (_, int8) in made.items():
                told = _structure(int8, encoder, plan)
                spent = ms[f"{engine} dynamic"]
                rows.append(
                    FormRow(
                        norm=norm,
                        activation=activation,
                        folded=fold,
                        engine=engine,
                        operators=told[0] if told else None,
                        delegated=round(told[1], 4) if told else None,
                        mac_delegated=round(told[2], 4) if told else None,
                        left=told[3] if told else {},
                        bytes=len(int8.model),
                        ms=round(spent, 4),
                        fp32_ms=round(ms[f"{engine} fp32"], 4),
                        of_roofline=round(share(roofline, spent, integer=True), 4) if roofline else None,
                    )
                )
    return rows


def usable_engines() -> tuple[EngineName, ...]:
    """Those of :data:`ENGINE_NAMES` that can run here."""
    return tuple(name for name in ENGINE_NAMES if ENGINES[name].installed())
