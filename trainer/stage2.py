"""Stage 2 of CM-SSL: a causal student learns to name the joint token from one signal alone."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from trainer.encoder import Encoder
from trainer.fitting import FitConfig, Stage

IGNORED = -100  # cross entropy's own value for "no label here"


@dataclass(frozen=True)
class Augmentation:
    """What the same pulse may look like on another skin: gain jitter (log-normal σ), white noise and a slow baseline
    wave (σ of their amplitudes, in units of the running RMS)."""

    gain: float = 0.15
    noise: float = 0.05
    baseline: float = 0.1

    def to_dict(self) -> dict[str, float]:
        """For a run folder's config."""
        return {"gain": self.gain, "noise": self.noise, "baseline": self.baseline}

    def __call__(self, patches: Tensor) -> Tensor:
        """(batch, patches, hop) → same shape."""
        batch, count, hop = patches.shape
        one = torch.randn(batch, 4, 1)
        # Half a wave to three waves over the window: respiration and slow movement, as the band-pass leaves them.
        cycles = torch.rand(batch, 1) * 2.5 + 0.5
        phase = torch.linspace(0, 2 * torch.pi, count * hop)[None] * cycles + one[:, 0] * torch.pi
        wave = self.baseline * one[:, 1] * torch.sin(phase)
        noise = self.noise * one[:, 2:3].abs() * torch.randn_like(patches)
        return patches * torch.exp(self.gain * one[:, 3:4]) + wave.view(batch, count, hop) + noise


def student_labels(tokens: NDArray[np.int16], lookahead: int, left: int, right: int) -> Tensor:
    """What the student is to say at each hop: (windows, hops) → same shape, int64.

    At hop t that is the token of patch t - ``lookahead``. Positions without one, and tokens that lack the tokenizer's
    own context of ``left`` and ``right`` patches because the window is cut there, are :data:`IGNORED`.
    """
    whole = torch.as_tensor(tokens.astype(np.int64))
    hops = whole.shape[1]
    whole[:, :left] = IGNORED
    whole[:, hops - right :] = IGNORED
    labels = torch.full_like(whole, IGNORED)
    labels[:, lookahead:] = whole[:, : hops - lookahead]
    return labels


class Stage2(Stage):
    """Cross entropy with label smoothing. Batches are ``(patches, labels, ok)``; ``ok`` says the window passed the
    quality gate. Logged: loss and top-1/top-5 accuracy, on validation over all windows and over the ok ones."""

    def __init__(self, encoder: Encoder, fit: FitConfig, augmentation: Augmentation, smoothing: float = 0.05) -> None:
        super().__init__(fit)
        self.encoder, self.augment, self.smoothing = encoder, augmentation, smoothing
        self._hits: dict[str, Tensor] = {}

    def _count(self, part: str, scores: Tensor, labels: Tensor) -> None:
        top = scores.topk(min(5, scores.shape[1]), dim=1).indices == labels[:, None]
        hits = torch.stack([top[:, 0].sum(), top.any(1).sum(), torch.tensor(len(labels))])
        self._hits[part] = self._hits.get(part, torch.zeros(3, dtype=torch.int64)) + hits

    def _loss(self, scores: Tensor, labels: Tensor) -> Tensor:
        return functional.cross_entropy(scores, labels, label_smoothing=self.smoothing)

    def training_step(self, batch: tuple[Tensor, Tensor, Tensor], index: int) -> Tensor:
        patches, labels, _ = batch
        scores, _ = self.encoder(self.augment(patches))
        known = labels != IGNORED
        loss = self._loss(scores[known], labels[known])
        self._count("train", scores[known].detach(), labels[known])
        self.note({"train_loss": loss.detach()}, batch=len(patches))
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor, Tensor], index: int) -> None:
        patches, labels, ok = batch
        scores, _ = self.encoder(patches)
        known = labels != IGNORED
        self._count("val_all", scores[known], labels[known])
        known &= ok[:, None]
        if known.any():
            self._count("val", scores[known], labels[known])
            self.note({"val_loss": functional.cross_entropy(scores[known], labels[known])}, batch=int(known.sum()))

    def on_train_epoch_start(self) -> None:
        super().on_train_epoch_start()
        self._hits = {}

    def on_validation_epoch_end(self) -> None:  # runs after the epoch's last training batch
        for part, (top1, top5, count) in self._hits.items():
            self.log(f"{part}_top1", float(top1) / max(1, int(count)))
            self.log(f"{part}_top5", float(top5) / max(1, int(count)))
