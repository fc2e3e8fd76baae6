"""One of the processes that test_torchrun.py starts under torchrun; alone, what they are compared with.

``rank_worker.py OUT DATA CACHE`` writes its runs and what it found into ``OUT``.
"""

import json
import sys
from dataclasses import replace
from pathlib import Path

import torch
from rich.console import Console
from safetensors.torch import save_file

from firmware_bridge.cli import main
from trainer import ranks
from trainer.encoder import EncoderConfig
from trainer.fitting import FitConfig, TensorRows, eval_batches, train_batches
from trainer.phases import PhasedRows
from trainer.quantizers import QuantizerConfig, make_quantizer
from trainer.recipe import WINDOWS
from trainer.stage2 import Augmentation, Objective
from trainer.stages import DataChoice, prepare, train_student

CODEBOOK = QuantizerConfig(size=24, dim=6, start_after=3, decay=0.9)
KINDS = {
    "sphere": CODEBOOK,
    "plain": replace(CODEBOOK, cosine=False, kmeans_start=False),
    "residual": replace(CODEBOOK, kind="residual"),
}
STILL = Augmentation(gain=0.0, noise=0.0, baseline=0.0)
FIT = FitConfig(epochs=2, batch=8, lr=3e-3, warmup=4)
TINY = {"dim": 16, "layers": 1, "heads": 2, "mlp": 2, "context": 5, "dropout": 0.0}


def codebooks() -> dict[str, torch.Tensor]:
    """Every kind's state after 40 batches of 8 windows, of which each rank sees its part. Their spread shrinks, so
    that codes die and are revived."""
    state = {}
    for kind, config in KINDS.items():
        torch.manual_seed(5 + 100 * ranks.rank())  # only rank 0's draws may count
        quantizer = make_quantizer(config).train()
        generator = torch.Generator().manual_seed(0)
        for step in range(40):
            z = torch.randn(8, 25, config.dim, generator=generator) * (0.95**step) + 1.0
            part = 8 // ranks.world_size()
            quantizer(z[ranks.rank() * part : (ranks.rank() + 1) * part])
        state |= {f"{kind}.{name}": tensor for name, tensor in quantizer.state_dict().items()}
    return state


def rows() -> dict[str, list[list[int]]]:
    """Which rows of each batch this rank sees, in training (two epochs) and in validation."""
    numbers = PhasedRows((torch.arange(30.0).view(30, 1, 1).expand(30, 3, 4),), [0])
    training = train_batches(numbers, FitConfig(epochs=2, batch=8, seed=3))
    seen = {}
    for epoch in (0, 1):
        training.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
        seen[f"epoch {epoch}"] = [batch[0][:, 0, 0].int().tolist() for batch in training]
    seen["validation"] = [batch[0].tolist() for batch in eval_batches(TensorRows(torch.arange(29)), 8)]
    return seen


def work(out: Path, data: Path, cache: Path) -> None:
    """Everything that ranks must agree on, written for the test to compare. Stage 1 is a user's command."""
    options = ("--data", str(data), "--cache", str(cache), "--epochs", "2", "--batch", "8")
    assert main(["train", "tokenizer", "--out", str(out / "tokenizer"), *options]) == 0
    me = ranks.rank()
    by_name = ranks.summed_by_name({"all": torch.tensor(1), f"{me}": torch.tensor(7)})
    found = {
        "rank": me,
        "world": ranks.world_size(),
        "shared_out": ranks.shared_out(lambda x: (x * x, me), range(5)),
        "by_name": {name: int(total) for name, total in by_name.items()},
        "rows": rows(),
    }
    save_file(codebooks(), out / f"{me}.safetensors")
    console = Console(quiet=True)
    prepared = prepare(DataChoice(data, cache), console, WINDOWS)
    model = EncoderConfig(hop=prepared.config.hop, codebook_size=512, **TINY)
    train_student(
        out / "student", out / "tokenizer", "ppg", prepared, FIT, console,
        resume=False, model=model, augmentation=STILL, objective=Objective(phases=3),
    )  # fmt: skip
    (out / f"{me}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    torch.set_num_threads(1)
    with ranks.joined():
        work(*map(Path, sys.argv[1:]))
