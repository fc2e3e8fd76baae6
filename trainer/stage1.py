"""Stage 1 of CM-SSL: learn the shared codebook by rebuilding paired ECG and PPG from joint tokens."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from trainer.fitting import FitConfig, Stage
from trainer.quantizer import perplexity, usage
from trainer.tokenizer import Tokenizer
from trainer.windows import Windows


class Stage1(Stage):
    """Loss: squared error of both signals (weighted) plus commitment. Batches are ``(ppg, ecg)`` patches.

    Logged a epoch: ``train_*`` and ``val_*`` loss, codebook perplexity and usage; on validation also the share of each
    signal's variance that is explained (``val_ppg_r2``, ``val_ecg_r2``).
    """

    def __init__(self, tokenizer: Tokenizer, fit: FitConfig) -> None:
        super().__init__(fit)
        self.tokenizer = tokenizer
        self._counts: dict[str, Tensor] = {}
        self._energy = torch.zeros(4, dtype=torch.float64)

    def _loss(self, batch: tuple[Tensor, Tensor], part: str) -> Tensor:
        ppg, ecg = batch
        rebuilt = self.tokenizer(ppg, ecg)
        ppg_error, ecg_error = functional.mse_loss(rebuilt.ppg, ppg), functional.mse_loss(rebuilt.ecg, ecg)
        weight = self.tokenizer.config.ecg_weight
        loss: Tensor = (1 - weight) * ppg_error + weight * ecg_error + rebuilt.quantized.loss
        self.note(
            {f"{part}_loss": loss.detach(), f"{part}_commitment": rebuilt.quantized.loss.detach()}, batch=len(ppg)
        )
        size = self.tokenizer.config.quantizer.size
        counts = self._counts.setdefault(part, torch.zeros(size, dtype=torch.int64))
        if rebuilt.quantized.indices is not None:
            counts += torch.bincount(rebuilt.quantized.indices.flatten(), minlength=size)
        if part == "val":
            n = float(ppg.numel())
            errors = [ppg_error * n, (ppg**2).sum(), ecg_error * n, (ecg**2).sum()]
            self._energy += torch.stack(errors).double()
        return loss

    def training_step(self, batch: tuple[Tensor, Tensor], index: int) -> Tensor:
        return self._loss(batch, "train")

    def validation_step(self, batch: tuple[Tensor, Tensor], index: int) -> None:
        self._loss(batch, "val")

    def on_train_epoch_start(self) -> None:
        super().on_train_epoch_start()
        self._counts, self._energy = {}, torch.zeros(4, dtype=torch.float64)

    def on_validation_epoch_end(self) -> None:  # runs after the epoch's last training batch
        for part, counts in self._counts.items():
            self.log(f"{part}_perplexity", perplexity(counts))
            self.log(f"{part}_usage", usage(counts))
        ppg_error, ppg_energy, ecg_error, ecg_energy = self._energy.tolist()
        self.log("val_ppg_r2", 1 - ppg_error / max(ppg_energy, 1e-12))
        self.log("val_ecg_r2", 1 - ecg_error / max(ecg_energy, 1e-12))


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
