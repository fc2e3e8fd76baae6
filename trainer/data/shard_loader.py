"""Training batches streamed from shards: bounded memory, a random order that depends on seed and epoch alone, shared
out among ranks, resumable at any batch.

An epoch's order: the shards are shuffled and taken in blocks of at least ``buffer`` windows; within a block the windows
are shuffled. Which window is where follows from the index and the seed, so going on in the middle of an epoch reads
one block and no more, and the order is the same for any number of ranks. In memory are the block in use and the next
one, which a thread reads ahead. Every rank reads every block and takes its rows: right for a few ranks; for many, give
each machine its own copy of the shards.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from firmware_bridge.errors import BadInput
from trainer import ranks
from trainer.data.shard_index import Shard, ShardIndex, load_index
from trainer.data.shard_reader import apart_in, patches_of, read_shard
from trainer.fitting import FitConfig
from trainer.splits import Part
from trainer.windows import F32

BUFFER = 8192  # windows a block: about 160 MB of windows of 20 s
STATE = 1

# What a stage wants of a batch: (ppg, ecg, ok) → its tensors; ppg and ecg (rows, hops, hop), ok (rows,) bool.
Transform = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, ...]]


def both_signals(ppg: Tensor, ecg: Tensor, ok: Tensor) -> tuple[Tensor, ...]:
    """What stage 1 wants: ``(ppg, ecg)``."""
    return ppg, ecg


@dataclass
class _Rows:
    """Windows read from one or more shards, a row each: ``ppg`` and ``ecg`` (n, hops · hop), ``ok`` (n,)."""

    ppg: F32
    ecg: F32
    ok: NDArray[np.bool_]


@dataclass(frozen=True)
class _Block:
    """Consecutive shards of an epoch's order; ``first`` is its first window's place in the epoch."""

    number: int
    shards: tuple[Shard, ...]
    first: int
    windows: int


@dataclass
class ShardBatches:
    """Batches of one part's windows; iterate it once an epoch, as a DataLoader. See :func:`shard_batches`,
    :func:`shard_eval_batches`.

    ``training``: shuffled, each window at a random one of ``phases`` cuts of the hop grid (as
    :class:`trainer.phases.PhasedRows` makes them), overlapping windows and all, the last smaller batch left out unless
    it is the only one. Otherwise: in order, whole, apart, all of them. ``batch`` counts windows over all ranks.
    """

    index: ShardIndex
    part: Part
    batch: int
    training: bool
    seed: int = 0
    gated: bool = True
    phases: int | None = None
    buffer: int = BUFFER
    transform: Transform = both_signals
    rank: int = field(default_factory=ranks.rank)
    world: int = field(default_factory=ranks.world_size)
    epoch: int = field(default=0, init=False)
    _done: int = field(default=0, init=False)  # batches of this epoch that were handed out
    _go_on: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        self._shards = [s for s in self.index.chosen(self.part, gated=self.gated) if self._count(s)]
        self.windows = sum(self._count(shard) for shard in self._shards)
        if self.windows < self.world:
            raise BadInput(
                f"{self.index.folder}: {self.windows} windows in the {self.part} part for {self.world} ranks"
            )
        if self.training:
            self.batch = min(self.batch, self.windows)
        if self.batch % self.world and self.training:
            raise BadInput(f"--batch {self.batch}: cannot be shared out evenly among {self.world} processes")

    def _count(self, shard: Shard) -> int:
        return shard.windows if self.training else shard.apart

    @property
    def sampler(self) -> "ShardBatches":
        """Itself: Lightning calls ``loader.sampler.set_epoch``."""
        return self

    @property
    def batch_sampler(self) -> None:
        """None: a DataLoader has one, and Lightning looks for it."""

    def set_epoch(self, epoch: int) -> None:
        """The order of another epoch; a place loaded for that very epoch is kept."""
        if epoch != self.epoch:
            self.epoch, self._done, self._go_on = epoch, 0, False

    def __len__(self) -> int:
        """Batches an epoch, for each rank."""
        return self.windows // self.batch if self.training else -(-self.windows // self.batch)

    def state_dict(self) -> dict[str, Any]:
        """Where it stands: JSON values, good for any number of ranks."""
        return {"version": STATE, "epoch": self.epoch, "batches": self._done, **self._identity()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on there: the next iteration yields what was still to come. Raises :class:`BadInput` on another set's."""
        mine = {"version": STATE, **self._identity()}
        if any(state.get(name) != value for name, value in mine.items()):
            raise BadInput(f"{self.index.folder}: the saved place belongs to other shards, another batch size or seed")
        self.epoch, self._done = int(state["epoch"]), int(state["batches"])
        self._go_on = self._done < len(self)

    def _identity(self) -> dict[str, Any]:
        return {
            "key": self.index.key, "part": self.part, "windows": self.windows, "batch": self.batch,
            "seed": self.seed, "buffer": self.buffer,
        }  # fmt: skip

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        self._done = self._done if self._go_on else 0
        self._go_on = False
        blocks = self._blocks()
        firsts = [block.first for block in blocks]
        with _Reader(self, blocks) as reader:
            while self._done < len(self):
                low, high = self._mine(self._done)
                pieces = []
                while low < high:
                    block = blocks[bisect_right(firsts, low) - 1]
                    end = min(high, block.first + block.windows)
                    pieces.append(reader.take(block, low - block.first, end - block.first))
                    low = end
                self._done += 1
                ppg, ecg, ok = (torch.cat(some) if len(some) > 1 else some[0] for some in zip(*pieces, strict=True))
                yield self.transform(ppg, ecg, ok)

    def _mine(self, number: int) -> tuple[int, int]:
        """This rank's places of batch ``number`` in the epoch's order: the ranks' parts in a row are the batch."""
        low, high = number * self.batch, min((number + 1) * self.batch, self.windows)
        share = [low + (high - low) * rank // self.world for rank in (self.rank, self.rank + 1)]
        return share[0], share[1]

    def _blocks(self) -> list[_Block]:
        order = np.arange(len(self._shards))
        if self.training:
            order = np.random.default_rng([self.seed, self.epoch]).permutation(len(order))
        blocks: list[_Block] = []
        some: list[Shard] = []
        first = 0
        for place, number in enumerate(order):
            some.append(self._shards[number])
            count = sum(self._count(shard) for shard in some)
            if count >= self.buffer or place == len(order) - 1:
                blocks.append(_Block(len(blocks), tuple(some), first, count))
                first, some = first + count, []
        return blocks


class _Reader:
    """Holds the block in use and reads the next one ahead."""

    def __init__(self, batches: ShardBatches, blocks: list[_Block]) -> None:
        self.batches, self.blocks = batches, blocks
        self._thread = ThreadPoolExecutor(1)
        self._ahead: tuple[int, Future[_Rows]] | None = None
        self._here: tuple[int, _Rows, NDArray[np.int64], NDArray[np.int64]] | None = None

    def __enter__(self) -> "_Reader":
        return self

    def __exit__(self, *about: object) -> None:
        self._thread.shutdown(cancel_futures=True)

    def take(self, block: _Block, low: int, high: int) -> tuple[Tensor, Tensor, Tensor]:
        """Windows ``low`` to ``high`` of the block's order: ppg, ecg, ok."""
        if self._here is None or self._here[0] != block.number:
            self._here = None  # before the next but one is read
            self._here = (block.number, self._rows(block), *self._order(block))
        _, rows, order, offsets = self._here
        chosen, at = order[low:high], offsets[low:high]
        ppg, ecg = (self._cut(signal, chosen, at) for signal in (rows.ppg, rows.ecg))
        return ppg, ecg, torch.from_numpy(rows.ok[chosen])

    def _cut(self, signal: F32, rows: NDArray[np.int64], offsets: NDArray[np.int64]) -> Tensor:
        index = self.batches.index
        hops = index.hops - 1 if self.batches.training else index.hops
        out = np.empty((len(rows), hops * index.hop), np.float32)
        for i, (row, offset) in enumerate(zip(rows.tolist(), offsets.tolist(), strict=True)):
            out[i] = signal[row, offset : offset + out.shape[1]]
        return torch.from_numpy(out.reshape(len(rows), hops, index.hop))

    def _order(self, block: _Block) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The block's rows in order, and at how many samples later each is cut."""
        batches, n, hop = self.batches, block.windows, self.batches.index.hop
        if not batches.training:
            return np.arange(n), np.zeros(n, np.int64)
        chance = np.random.default_rng([batches.seed, batches.epoch, block.number])
        phases = batches.phases or hop
        return chance.permutation(n), np.round(chance.integers(phases, size=n) * hop / phases).astype(np.int64)

    def _rows(self, block: _Block) -> _Rows:
        ahead, self._ahead = self._ahead, None
        rows = ahead[1].result() if ahead and ahead[0] == block.number else self._read(block)
        if block.number + 1 < len(self.blocks):
            following = self.blocks[block.number + 1]
            self._ahead = (following.number, self._thread.submit(self._read, following))
        return rows

    def _read(self, block: _Block) -> _Rows:
        index = self.batches.index
        width = index.hops * index.hop
        rows = _Rows(
            np.empty((block.windows, width), np.float32), np.empty((block.windows, width), np.float32),
            np.empty(block.windows, bool),
        )  # fmt: skip
        first = 0
        for shard in block.shards:
            table = read_shard(index, shard, ["ppg", "ecg", "start"])
            chosen: NDArray[np.int64] | slice = slice(None) if self.batches.training else apart_in(table, index.hops)
            count = shard.windows if self.batches.training else shard.apart
            rows.ppg[first : first + count] = patches_of(table, "ppg")[chosen]
            rows.ecg[first : first + count] = patches_of(table, "ecg")[chosen]
            rows.ok[first : first + count] = shard.ok
            first += count
        return rows


def shard_batches(
    folder: Path,
    fit: FitConfig,
    *,
    phases: int | None = None,
    transform: Transform = both_signals,
    buffer: int = BUFFER,
) -> ShardBatches:
    """The training part's windows that passed the gate, as :func:`trainer.fitting.train_batches` would give them from
    memory: ``(ppg, ecg)``, each (rows, hops - 1, hop) float32, or what ``transform`` makes of them.

    ``phases``: at how many cuts of the hop grid windows are seen, all by default. Raises :class:`BadInput`.
    """
    return ShardBatches(
        load_index(folder), "train", fit.batch, True, fit.seed, phases=phases, buffer=buffer, transform=transform
    )


def shard_eval_batches(
    folder: Path, part: Part, batch: int, *, gated: bool = True, transform: Transform = both_signals
) -> ShardBatches:
    """One part's windows in order, none overlapping: ``(ppg, ecg)``, each (rows, hops, hop). Raises BadInput."""
    return ShardBatches(load_index(folder), part, batch, False, gated=gated, transform=transform)
