"""`pulsecode data throughput`: how fast windows come from shards, beside memory, and what that means for a large set.

Rates are windows a second a core: windows by the CPU time of all threads. So a busy machine does not spoil them, but
they leave out what a slow disk would add; the page cache holds a small set after the first pass.
"""

import json
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from firmware_bridge.errors import BadInput
from trainer.data.shard_index import ShardIndex
from trainer.data.shard_loader import ShardBatches, shard_batches
from trainer.data.shard_reader import windows_in_memory
from trainer.fitting import FitConfig, train_batches
from trainer.phases import PhasedRows
from trainer.stage1 import Stage1
from trainer.tokenizer import Tokenizer, TokenizerConfig

IN_MEMORY = 8192  # windows at most that the comparison loads
CORES = 2
GPU_FLOPS = 5e12  # assumed, sustained: a tenth of what a large GPU promises in float32, as these products are small
TRAINING = 3  # forward and backward cost about three forwards


def _epochs(batches: ShardBatches) -> Iterator[tuple[Tensor, ...]]:
    for epoch in range(1 << 30):
        batches.set_epoch(epoch)
        yield from batches


def _rate(batches: Iterable[tuple[Tensor, ...]], seconds: float, stage: Stage1 | None = None) -> float:
    """Windows a second of CPU time, over ``seconds`` by the clock; with ``stage`` a step is trained on each batch."""
    optimizer = torch.optim.AdamW(stage.parameters()) if stage else None
    iterator = iter(batches)
    count, until = 0, time.monotonic() + seconds
    _step(stage, optimizer, next(iterator))  # the first block is read and the codebook started outside the measurement
    start = time.process_time()
    while time.monotonic() < until or not count:
        batch = next(iterator)
        _step(stage, optimizer, batch)
        count += len(batch[0])
    return count / (time.process_time() - start)


def _step(stage: Stage1 | None, optimizer: torch.optim.Optimizer | None, batch: tuple[Tensor, ...]) -> None:
    if stage is None or optimizer is None:
        return
    optimizer.zero_grad()
    torch.autograd.backward(stage.rebuild(batch[0], batch[1], "train")[0])
    optimizer.step()


def _from_memory(index: ShardIndex, fit: FitConfig) -> Iterator[tuple[Tensor, ...]]:
    windows = windows_in_memory(index, ["train"], IN_MEMORY)
    rows = PhasedRows((torch.tensor(windows.ppg), torch.tensor(windows.ecg)), range(index.hop))
    batches = train_batches(rows, fit)
    while True:
        yield from batches


def _flops(tokenizer: Tokenizer, batch: tuple[Tensor, ...]) -> float:
    """Floating-point operations of one forward pass, a window."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter, torch.no_grad():
        tokenizer(batch[0], batch[1])
    return float(counter.get_total_flops()) / len(batch[0])


def measure(folder: Path, batch: int, seconds: float, windows: int) -> dict[str, float]:
    """Rates (windows/s a core), and the estimate for a set of ``windows`` windows, as :data:`FORMULAS` say.

    Raises :class:`BadInput` where the shards cannot be used or are too few for one batch.
    """
    fit = FitConfig(1, batch=batch)
    loader = shard_batches(folder, fit)
    if loader.windows < 2 * batch:
        raise BadInput(f"{folder}: {loader.windows} training windows are too few; give a smaller --batch")
    index, threads = loader.index, torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        config = TokenizerConfig(hop=index.hop)
        stage = Stage1(Tokenizer(replace(config, quantizer=replace(config.quantizer, start_after=1))), fit)
        found = {
            "shards": _rate(_epochs(loader), seconds),
            "memory": _rate(_from_memory(index, fit), seconds),
            "training": _rate(_epochs(loader), seconds, stage),
            "bytes": sum(s.bytes for s in index.shards) / sum(s.windows for s in index.shards),
            "seconds": index.hops * index.hop / float(index.config["rate"]),
            "flops": _flops(stage.tokenizer, next(iter(loader))),
            "windows": windows,
        }
    finally:
        torch.set_num_threads(threads)
    found["disk"] = windows * found["bytes"]
    found["hours_reading"] = windows / (found["shards"] * CORES) / 3600
    found["hours_training"] = windows / (found["training"] * CORES) / 3600
    found["hours_gpu"] = windows * TRAINING * found["flops"] / GPU_FLOPS / 3600
    found["cores_for_gpu"] = GPU_FLOPS / (TRAINING * found["flops"]) / found["shards"]
    return found


FORMULAS = (
    ("measured", "from shards", "{shards:,.0f} windows/s a core"),
    ("measured", "from memory", "{memory:,.0f} windows/s a core"),
    ("measured", "from shards, training stage 1", "{training:,.0f} windows/s a core"),
    ("measured", "on disk", "{bytes:,.0f} bytes a window of {seconds:g} s"),
    ("estimate", "disk", "{windows:,.0f} windows x {bytes:,.0f} bytes = {gigabytes:,.1f} GB"),
    ("estimate", "an epoch's reading", "{windows:,.0f} / ({shards:,.0f} x {cores} cores) = {hours_reading:.2g} h"),
    ("estimate", "an epoch of stage 1", "{windows:,.0f} / ({training:,.0f} x {cores} cores) = {hours_training:.2g} h"),
    ("assumed", "the same on a GPU that sustains {teraflops:g} TFLOP/s",
     "{windows:,.0f} x {training_cost} x {megaflops:,.0f} MFLOP / {teraflops:g} TFLOP/s = {hours_gpu:.2g} h"),
    ("assumed", "cores that read for it",
     "{teraflops:g} TFLOP/s / ({training_cost} x {megaflops:,.0f} MFLOP) / {shards:,.0f} = {cores_for_gpu:.2g}"),
)  # fmt: skip


def report_throughput(folder: Path, batch: int, seconds: float, windows: int, *, as_json: bool = False) -> None:
    """Measure and print, each figure with the formula it comes from. Raises as :func:`measure` does."""
    found = measure(folder, batch, seconds, windows)
    if as_json:
        print(json.dumps({"type": "throughput", "cores": CORES, "gpu_flops": GPU_FLOPS, **found}))
        return
    values = found | {
        "gigabytes": found["disk"] / 1e9, "megaflops": found["flops"] / 1e6, "teraflops": GPU_FLOPS / 1e12,
        "cores": CORES, "training_cost": TRAINING,
    }  # fmt: skip
    for kind, what, formula in FORMULAS:
        print(f"{kind:<9} {what.format(**values)}: {formula.format(**values)}")
