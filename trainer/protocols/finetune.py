"""Full fine-tuning of a pretrained encoder, the same with the encoder frozen, and the same from random weights.

All three share the network, the budget and the loop, so the differences between their rows are what pretraining gave
and what moving the weights gave. The pooling is attentive statistics (Okabe, Koshinaka & Shinoda, "Attentive
Statistics Pooling for Deep Speaker Embedding", Interspeech 2018); it starts as the plain mean and deviation. A lower
rate for lower layers is that of Howard & Ruder, "Universal Language Model Fine-tuning", ACL 2018.
"""

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import replace
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn

from firmware_bridge.block import Signal
from trainer.encoder import Encoder
from trainer.protocols.learning import Budget, Cost, Watch
from trainer.protocols.neural import Neural

Start = Literal["tuned", "frozen", "random"]
NAMES: dict[Start, str] = {
    "tuned": "encoder, fine-tuned",
    "frozen": "encoder, frozen, pooled head",
    "random": "encoder, trained from random weights",
}
BODY_SHARE = 0.3  # of the head's rate, for the topmost block
LAYER_DECAY = 0.75  # and this much less for each layer below
DROPOUT = 0.1
DEFAULT_BUDGET = Budget(windows=20_000, lr=1e-3)


class AttentiveStatistics(nn.Module):
    """(batch, hops, dim) → weighted mean and deviation over hops, (batch, 2 * dim)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.score = nn.Linear(dim, 1)
        nn.init.zeros_(self.score.weight)
        nn.init.zeros_(self.score.bias)

    def forward(self, x: Tensor) -> Tensor:
        weight = self.score(x).softmax(1)
        mean = (weight * x).sum(1)
        variance = (weight * (x - mean[:, None]) ** 2).sum(1)
        return torch.cat([mean, (variance + 1e-5).sqrt()], 1)


class Tuned(nn.Module):
    """One encoder a signal, pooled over the window and joined: (batch, signals, hops, hop) → (batch, outputs)."""

    def __init__(self, encoders: Mapping[Signal, Encoder], outputs: int, *, frozen: bool) -> None:
        super().__init__()
        self.frozen = frozen
        self.encoders = nn.ModuleList(encoders.values())
        dims = [encoder.config.dim for encoder in encoders.values()]
        self.pools = nn.ModuleList(AttentiveStatistics(dim) for dim in dims)
        self.head = nn.Sequential(nn.BatchNorm1d(2 * sum(dims)), nn.Dropout(DROPOUT), nn.Linear(2 * sum(dims), outputs))
        self.encoders.requires_grad_(not frozen)

    def train(self, mode: bool = True) -> "Tuned":
        """As usual, but a frozen encoder keeps its dropout off."""
        super().train(mode)
        if self.frozen:
            self.encoders.eval()
        return self

    def forward(self, x: Tensor) -> Tensor:
        embeddings = [encoder(x[:, i])[1] for i, encoder in enumerate(self.encoders)]
        said: Tensor = self.head(torch.cat([pool(e) for pool, e in zip(self.pools, embeddings, strict=True)], 1))
        return said


def build(encoders: Mapping[Signal, Encoder], start: Start, signals: int, outputs: int) -> Tuned:
    """A network with its own copies of ``encoders``, or with encoders of the same shape and fresh random weights."""
    if signals != len(encoders):
        raise ValueError(f"{len(encoders)} encoders for {signals} signals")
    fresh: dict[Signal, Encoder] = {}
    for signal, encoder in encoders.items():
        fresh[signal] = Encoder(replace(encoder.config, dropout=DROPOUT))
        if start != "random":
            fresh[signal].load_state_dict(deepcopy(encoder.state_dict()))
    return Tuned(fresh, outputs, frozen=start == "frozen")


def groups(network: nn.Module, start: Start, lr: float) -> list[dict[str, Any]]:
    """Parameter groups of AdamW: the heads at ``lr``; a pretrained body lower, the more so the deeper the layer."""
    assert isinstance(network, Tuned)
    heads = [*network.pools.parameters(), *network.head.parameters()]
    found: list[dict[str, Any]] = [{"params": heads, "lr": lr}]
    if start == "frozen":
        return found
    for encoder in network.encoders:
        assert isinstance(encoder, Encoder)
        layers = [list(encoder.embed.parameters()), *(list(block.parameters()) for block in encoder.blocks)]
        layers[-1] += list(encoder.norm.parameters())  # the scores' own layer is not used here
        for depth, parameters in enumerate(reversed(layers)):
            share = BODY_SHARE * LAYER_DECAY**depth if start == "tuned" else 1.0
            found.append({"params": parameters, "lr": lr * share})
    return found


def finetune(
    encoders: Mapping[Signal, Encoder],
    start: Start,
    budget: Budget | None = None,
    *,
    cost: Cost | None = None,
    watch: Watch | None = None,
) -> Neural:
    """``encoders`` (never changed themselves), one for each signal of the task to use, as a method."""
    budget = budget or DEFAULT_BUDGET
    return Neural(
        f"{NAMES[start]} ({' + '.join(encoders)})",
        partial(build, encoders, start),
        tuple(encoders),
        budget,
        groups=lambda network: groups(network, start, budget.lr),
        cost=cost,
        watch=watch,
    )
