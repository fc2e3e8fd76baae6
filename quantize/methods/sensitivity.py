"""Which layers mind int8: a measured sweep over the encoder's layers, and which of them it pays to spare.

Every layer is quantized alone, and all but it; the scores are compared with fp32's on validation people, in PyTorch's
simulation of the plan (:mod:`quantize.methods.simulate`), so that the dozens of plans take seconds. The plan that
comes out is then measured in every engine as any other.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from quantize.methods.simulate import simulated
from quantize.plan import LayerPlan, Plan, layers, uniform
from quantize.streams import Streams
from trainer.encoder import Encoder

KEEP_AT_MOST = 0.125  # of all weights
BATCH = 16


@dataclass(frozen=True)
class Change:
    """From fp32: mean KL(fp32 ‖ plan) of a hop, nats, and the share of hops with fp32's token."""

    kl: float
    same_token: float


@dataclass(frozen=True)
class Sensitivity:
    """One layer: its share of all ``weights``, what it costs to quantize it ``alone``, and what all layers together
    cost ``without`` it."""

    layer: str
    weights: float
    alone: Change
    without: Change


@dataclass(frozen=True)
class Sweep:
    """``rows`` from the most sensitive layer on; ``everything``: the change with all of them quantized; ``kept``: those
    to spare, and the change ``with_kept``."""

    rows: list[Sensitivity]
    everything: Change
    kept: list[str]
    with_kept: Change


def scores_of(encoder: Encoder, streams: Streams) -> Tensor:
    """The judged hops' scores, (streams, judged, K), by the window form."""
    with torch.inference_mode():
        found = [
            encoder(torch.from_numpy(streams.patches[i : i + BATCH]))[0][:, streams.warm :]
            for i in range(0, len(streams), BATCH)
        ]
    return torch.cat(found)


def change(wanted: Tensor, found: Tensor) -> Change:
    """Of scores, both (…, K), from fp32's ``wanted``."""
    log_p, log_q = wanted.double().log_softmax(-1), found.double().log_softmax(-1)
    kl = (log_p.exp() * (log_p - log_q)).sum(-1).mean()
    same = (wanted.argmax(-1) == found.argmax(-1)).double().mean()
    return Change(float(kl), float(same))


def sweep(encoder: Encoder, plan: Plan, streams: Streams, advance: Callable[[], None] = lambda: None) -> Sweep:
    """The sensitivity of each layer to its arithmetic in ``plan``, and the layers to spare.

    These are the most sensitive ones for which together at most :data:`KEEP_AT_MOST` of the weights stay wide: a layer
    that no longer fits is passed over. ``advance`` is called for each layer.
    """
    wanted, everything = scores_of(encoder, streams), uniform(encoder, "float")

    def measured(candidate: Mapping[str, LayerPlan]) -> Change:
        return change(wanted, scores_of(simulated(encoder, candidate), streams))

    sizes = {name: layer.weight.numel() for name, layer in layers(encoder).items()}
    rows = []
    for name, size in sizes.items():
        alone = measured({**everything, name: plan[name]})
        without = measured({**plan, name: everything[name]})
        rows.append(Sensitivity(name, size / sum(sizes.values()), alone, without))
        advance()
    rows.sort(key=lambda row: -row.alone.kl)
    kept, room = [], KEEP_AT_MOST
    for row in rows:
        if row.weights <= room:
            kept.append(row.layer)
            room -= row.weights
    spared = {name: everything[name] if name in kept else layer for name, layer in plan.items()}
    return Sweep(rows, measured(plan), kept, measured(spared))
