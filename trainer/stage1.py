"""Stage 1 of CM-SSL: learn the shared codebook by rebuilding paired ECG and PPG from joint tokens."""

from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from trainer import ranks
from trainer.fitting import FitConfig, Stage
from trainer.lag_jitter import LagJitter
from trainer.quantizers import Quantized, perplexity, usage
from trainer.tokenizer import Tokenizer
from trainer.windows import Windows


class Stage1(Stage):
    """Loss: squared error of the signals it sees (both: weighted) plus commitment. Batches are ``(ppg, ecg)`` patches.

    Logged a epoch: ``train_*`` and ``val_*`` loss, codebook perplexity and usage; on validation also the share of each
    seen signal's variance that is explained (``val_ppg_r2``, ``val_ecg_r2``). With ``jitter`` the training pairs, and
    only they, are shifted against one another.
    """

    def __init__(self, tokenizer: Tokenizer, fit: FitConfig, jitter: LagJitter | None = None) -> None:
        super().__init__(fit)
        self.tokenizer, self.jitter = tokenizer, jitter
        self._counts: dict[str, Tensor] = {}
        self._energy: dict[str, Tensor] = {}  # of each signal on validation: error's and signal's

    def rebuild(self, ppg: Tensor, ecg: Tensor, part: Literal["train", "val"]) -> tuple[Tensor, Quantized]:
        """The loss of one batch, which is counted under ``part``, and what the quantizer said."""
        rebuilt = self.tokenizer(ppg, ecg)
        joint, weight = self.tokenizer.config.signals == "joint", self.tokenizer.config.ecg_weight
        loss: Tensor = rebuilt.quantized.loss
        for name, true, told, share in (("ppg", ppg, rebuilt.ppg, 1 - weight), ("ecg", ecg, rebuilt.ecg, weight)):
            if told is None:
                continue
            error = functional.mse_loss(told, true)
            loss = loss + (share if joint else 1.0) * error
            if part == "val":
                sums = torch.stack([error.detach() * true.numel(), (true**2).sum()]).double().cpu()
                self._energy[name] = self._energy.get(name, torch.zeros(2, dtype=torch.float64)) + sums
        self.note(
            {f"{part}_loss": loss.detach(), f"{part}_commitment": rebuilt.quantized.loss.detach()}, batch=len(ppg)
        )
        size = self.tokenizer.config.quantizer.size
        counts = self._counts.setdefault(part, torch.zeros(size, dtype=torch.int64))
        if rebuilt.quantized.indices is not None:
            counts += torch.bincount(rebuilt.quantized.indices.flatten(), minlength=size).cpu()
        return loss, rebuilt.quantized

    def training_step(self, batch: tuple[Tensor, ...], index: int) -> Tensor:
        ppg, ecg = batch
        if self.jitter is not None:
            ppg, ecg = self.jitter(ppg, ecg)
        return self.rebuild(ppg, ecg, "train")[0]

    def validation_step(self, batch: tuple[Tensor, ...], index: int) -> None:
        ppg, ecg = batch
        self.rebuild(ppg, ecg, "val")

    def on_train_epoch_start(self) -> None:
        super().on_train_epoch_start()
        self._counts, self._energy = {}, {}

    def on_validation_epoch_end(self) -> None:  # runs after the epoch's last training batch
        super().on_validation_epoch_end()
        for part, counts in ranks.summed_by_name(self._counts).items():
            self.log(f"{part}_perplexity", perplexity(counts))
            self.log(f"{part}_usage", usage(counts))
        for name, (error, energy) in ranks.summed_by_name(self._energy).items():
            self.log(f"val_{name}_r2", 1 - float(error) / max(float(energy), 1e-12))


def label_tokens(tokenizer: Tokenizer, windows: Windows, batch: int = 128) -> NDArray[np.int16]:
    """Tokens of every patch of ``windows``, (windows, hops) int16.

    See :func:`label_patches`.
    """
    parts = []
    for start in range(0, len(windows), batch):
        some = windows.take(slice(start, start + batch))
        parts.append(label_patches(tokenizer, some.ppg, some.ecg, batch))
    return np.concatenate(parts) if parts else np.zeros((0, windows.hops), np.int16)


@torch.no_grad()
def label_patches(
    tokenizer: Tokenizer, ppg: NDArray[np.float32], ecg: NDArray[np.float32], batch: int = 128
) -> NDArray[np.int16]:
    """Tokens of paired patches, each (windows, hops, hop) → (windows, hops) int16.

    Computed in float64 whatever the tokenizer was trained in: in float32 the batch size, the number of threads or
    the machine would flip a near tie now and then, and a label must be the same wherever it is computed.
    """
    exact = Tokenizer(tokenizer.config).double().eval()
    exact.load_state_dict(tokenizer.state_dict())
    parts = [
        exact.encode(torch.tensor(ppg[i : i + batch]).double(), torch.tensor(ecg[i : i + batch]).double())
        for i in range(0, len(ppg), batch)
    ]
    return torch.cat(parts).numpy().astype(np.int16)
