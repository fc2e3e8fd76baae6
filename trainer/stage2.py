"""Stage 2 of CM-SSL: a causal student learns to name the joint token from one signal alone."""

from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from trainer import ranks
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


@dataclass(frozen=True)
class Augmentations:
    """Several, one after the other."""

    each: tuple[Callable[[Tensor], Tensor], ...]

    def __call__(self, patches: Tensor) -> Tensor:
        """(batch, patches, hop) → same shape."""
        for augmentation in self.each:
            patches = augmentation(patches)
        return patches


@dataclass(frozen=True)
class Objective:
    """What the student is asked for: the token (cross entropy with label ``smoothing``) and, where ``interval_weight``
    is above 0, the R-R interval its signal has just shown (:mod:`trainer.intervals`; absolute error of its logarithm).
    ``phases``: at how many cuts of the hop grid each window is seen (:mod:`trainer.phases`)."""

    smoothing: float = 0.05
    interval_weight: float = 0.0
    phases: int = 25

    def to_dict(self) -> dict[str, float]:
        """For a run folder's config."""
        return asdict(self)


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


def token_hits(scores: Tensor, labels: Tensor) -> Tensor:
    """Top-1 hits, top-5 hits and labels: (n, K), (n,) → (3,) int64."""
    top = scores.topk(min(5, scores.shape[1]), dim=1).indices == labels[:, None]
    return torch.tensor([int(top[:, 0].sum()), int(top.any(1).sum()), len(labels)])


def log_accuracy(stage: Stage, hits: dict[str, Tensor]) -> None:
    """Log ``PART_top1`` and ``PART_top5`` of an epoch from sums of :func:`token_hits`, over all ranks."""
    for part, (top1, top5, count) in ranks.summed_by_name(hits).items():
        stage.log(f"{part}_top1", float(top1) / max(1, int(count)))
        stage.log(f"{part}_top5", float(top5) / max(1, int(count)))


class Stage2(Stage):
    """Batches are ``(patches, labels, ok)``; ``ok`` says the window passed the quality gate; with an interval
    objective a fourth has the intervals' logarithms. Logged: loss and top-1/top-5 accuracy, on validation over all
    windows and over the ok ones; ``val_interval_error``, a share of the interval.

    The head that tells the interval is only there to teach the encoder: it is not part of it.
    """

    def __init__(
        self, encoder: Encoder, fit: FitConfig, augmentation: Callable[[Tensor], Tensor], objective: Objective
    ) -> None:
        super().__init__(fit)
        self.encoder, self.augment, self.objective = encoder, augmentation, objective
        self.interval = nn.Linear(encoder.config.dim, 1) if objective.interval_weight > 0 else None
        self._hits: dict[str, Tensor] = {}

    def _count(self, part: str, scores: Tensor, labels: Tensor) -> None:
        self._hits[part] = self._hits.get(part, torch.zeros(3, dtype=torch.int64)) + token_hits(scores, labels)

    def _interval_error(self, embedding: Tensor, targets: Tensor, where: Tensor) -> Tensor | None:
        """Mean absolute error of the interval's logarithm at ``where`` (batch, hops), 0 if none is known there: its
        head takes part in every step, since data-parallel training waits for each gradient. None without a head."""
        known = where & torch.isfinite(targets)
        if self.interval is None:
            return None
        told = self.interval(embedding[known])[:, 0]
        return functional.l1_loss(told, targets[known], reduction="sum") / known.sum().clamp(min=1)

    def training_step(self, batch: tuple[Tensor, ...], index: int) -> Tensor:
        patches, labels, _, *targets = batch
        scores, embedding = self.encoder(self.augment(patches))
        known = labels != IGNORED
        loss = functional.cross_entropy(scores[known], labels[known], label_smoothing=self.objective.smoothing)
        self._count("train", scores[known].detach(), labels[known])
        self.note({"train_loss": loss.detach()}, batch=len(patches))
        for intervals in targets:
            error = self._interval_error(embedding, intervals, known)
            if error is not None:
                loss = loss + self.objective.interval_weight * error
        return loss

    def validation_step(self, batch: tuple[Tensor, ...], index: int) -> None:
        patches, labels, ok, *targets = batch
        scores, embedding = self.encoder(patches)
        known = labels != IGNORED
        self._count("val_all", scores[known], labels[known])
        known &= ok[:, None]
        if known.any():
            self._count("val", scores[known], labels[known])
            self.note({"val_loss": functional.cross_entropy(scores[known], labels[known])}, batch=int(known.sum()))
        for intervals in targets:
            error = self._interval_error(embedding, intervals, known)
            if error is not None:
                self.note({"val_interval_error": error}, batch=int(known.sum()))

    def on_train_epoch_start(self) -> None:
        super().on_train_epoch_start()
        self._hits = {}

    def on_validation_epoch_end(self) -> None:  # runs after the epoch's last training batch
        super().on_validation_epoch_end()
        log_accuracy(self, self._hits)
