"""A set of shards in the place of windows in memory: what the two stages need to learn from it.

Training windows are streamed; validation and test windows, and a few of the training part for what wants to look at
some, are held in memory, at most ``limit`` of each part and kind.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from firmware_bridge.block import Signal
from firmware_bridge.errors import BadInput
from trainer.data.shard_index import ShardIndex, load_index
from trainer.data.shard_loader import ShardBatches, shard_batches
from trainer.data.shard_reader import windows_in_memory
from trainer.fitting import FitConfig
from trainer.intervals import interval_targets
from trainer.stage1 import label_patches
from trainer.stage2 import Objective, student_labels
from trainer.stages import Prepared
from trainer.tokenizer import Tokenizer
from trainer.windows import saved_config

IN_MEMORY = 4096  # windows of each part and kind, about 80 MB


@dataclass(frozen=True)
class StudentTargets:
    """What stage 2 wants of a batch, made as it comes: the signal's patches, stage 1's tokens for these very patches
    as labels, whether the window passed the gate, and the intervals if ``objective`` asks for them.

    The same as :func:`trainer.stages.phased_student_rows` makes beforehand, which a streamed set has no room for (but
    for intervals at a window's edges: R peaks are looked for in the window as it was cut). It costs a forward pass of
    the tokenizer in float64 a batch.
    """

    tokenizer: Tokenizer
    signal: Signal
    lookahead: int
    rate: float
    objective: Objective

    def __call__(self, ppg: Tensor, ecg: Tensor, ok: Tensor) -> tuple[Tensor, ...]:
        """(rows, hops, hop) of both signals and (rows,) → patches, labels (rows, hops), ok, maybe intervals."""
        config = self.tokenizer.config
        tokens = label_patches(self.tokenizer, ppg.numpy(), ecg.numpy())
        labels = student_labels(tokens, self.lookahead, config.left, config.right)
        found = [ppg if self.signal == "ppg" else ecg, labels, ok]
        if self.objective.interval_weight > 0:
            found.append(torch.tensor(interval_targets(ecg.numpy(), [0], self.rate)[0]))
        return tuple(found)


@dataclass(frozen=True)
class Sharded(Prepared):
    """:class:`trainer.stages.Prepared` whose training part is streamed from ``index``."""

    index: ShardIndex = field(kw_only=True)

    def pairs(self, fit: FitConfig) -> ShardBatches:
        """Stage 1's training batches, each window at any phase of the hop grid."""
        return shard_batches(self.index.folder, fit)

    def student_batches(
        self, tokenizer: Tokenizer, signal: Signal, lookahead: int, objective: Objective, fit: FitConfig
    ) -> ShardBatches:
        """Stage 2's training batches."""
        targets = StudentTargets(tokenizer, signal, lookahead, self.config.rate, objective)
        return shard_batches(self.index.folder, fit, phases=objective.phases, transform=targets)

    def describe(self) -> dict[str, Any]:
        """What a run folder records of its data: the shards' key, and windows and people by part."""
        counts = {
            part: {
                "people": len(people),
                "ok": sum(s.windows for s in self.index.shards if s.part == part and s.ok),
                "all": sum(s.windows for s in self.index.shards if s.part == part),
            }
            for part, people in self.index.people.items()
        }
        return {"limit": self.limit, "excluded": [], "shards": self.index.key, "counts": counts}


def prepare_shards(folder: Path, limit: int = IN_MEMORY) -> Sharded:
    """The shards of ``folder``, ready to learn from. Raises :class:`BadInput` where they cannot be used."""
    index = load_index(folder)
    config = saved_config(index.config)
    if config is None:
        raise BadInput(f"{folder}: its windows were cut in a way that is not known here; shard the recordings again")
    windows = windows_in_memory(index, ["train", "validation", "test", "held_out"], limit)
    return Sharded(config, windows, None, index=index)
