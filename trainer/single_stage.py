"""Both stages of CM-SSL in one: the tokenizer learns to rebuild while the student learns to name its current tokens.

Two stages freeze the tokenizer before the student has said what it can tell from its one signal. Here they learn
together, and ``predictability`` lets the student answer back: each vector is drawn, through the straight-through
gradient, to the codes near it that the student finds likely ("predictable codes"), in the spirit of the soft targets
of online clustering (Caron et al., SwAV, 2020) and of commitment in van den Oord et al. 2017.

The targets move while the student learns, most of all early on, so the student starts some epochs after the
tokenizer, and only the last epoch's weights are kept: a top-1 accuracy against the tokens of one epoch cannot be
compared with that against another's. The two come out as a tokenizer run and an encoder run like any other.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from torch import Tensor
from torch.nn import functional

from firmware_bridge.block import Signal
from firmware_bridge.errors import BadInput
from trainer import ranks
from trainer.consistency import save_tokens
from trainer.encoder import Encoder, EncoderConfig
from trainer.fitting import FitConfig, TensorRows, eval_batches, fit_stage, train_batches
from trainer.phases import PhasedRows
from trainer.plots import plot_student, plot_tokenizer
from trainer.quantizers import Quantized
from trainer.run_folder import History, RunFolder, write_json
from trainer.stage1 import Stage1
from trainer.stage2 import IGNORED, Augmentation, log_accuracy, student_labels, token_hits
from trainer.stages import Prepared, file_sha256
from trainer.tokenizer import Tokenizer, TokenizerConfig

SINGLE_FIT = FitConfig(epochs=30, weight_decay=0.1)
OF_STUDENT = ("student_loss", "top1", "top5")


@dataclass(frozen=True)
class JointConfig:
    """``alone``: epochs in which the tokenizer learns before the student joins; ``student``: weight of the student's
    cross entropy (label ``smoothing``) beside the reconstruction; ``predictability``: weight of what the student sends
    back to the tokenizer, 0 for nothing."""

    alone: int = 1
    student: float = 1.0
    smoothing: float = 0.05
    predictability: float = 0.0

    def to_dict(self) -> dict[str, float]:
        """For a run folder's config."""
        return asdict(self)


def unpredictability(quantized: Quantized, codes: Tensor, log_p: Tensor, spread: Tensor) -> Tensor:
    """Expected surprise of the student over the codes near each vector, nats: ``-Σ_k q(k) log p(k)``.

    ``quantized.values`` (n, dim) carry the straight-through gradient, ``codes`` (K, dim), ``log_p`` (n, K) the
    student's log probabilities (constants here). ``q`` falls off with the squared distance from the code over
    ``spread``, the mean squared distance of vectors from their own codes: as far as a vector might be moved unnoticed.
    """
    distance = torch.cdist(quantized.values, codes) ** 2
    q = torch.softmax(-distance / spread.clamp(min=1e-6), -1)
    return -(q * log_p.detach()).sum(-1).mean()


class SingleStage(Stage1):
    """Batches are ``(ppg, ecg)`` patches; the student reads ``signal`` of them.

    Logged beside stage 1's figures: ``*_student_loss`` (nats, without smoothing on validation) and ``*_top1`` and
    ``*_top5`` against the tokenizer's tokens of that moment; ``train_unpredictability``.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        encoder: Encoder,
        signal: Signal,
        fit: FitConfig,
        augmentation: Callable[[Tensor], Tensor],
        joint: JointConfig,
    ) -> None:
        super().__init__(tokenizer, fit)
        self.encoder, self.student_signal, self.augment, self.joint = encoder, signal, augmentation, joint
        self._hits: dict[str, Tensor] = {}

    def _labels(self, tokens: Tensor) -> Tensor:
        config = self.tokenizer.config
        named = student_labels(
            tokens.cpu().numpy().astype(np.int16), self.encoder.config.lookahead, config.left, config.right
        )
        return named.to(tokens.device)

    def training_step(self, batch: tuple[Tensor, ...], index: int) -> Tensor:
        ppg, ecg = batch
        loss, quantized = self.rebuild(ppg, ecg, "train")
        if quantized.indices is None or self.current_epoch < self.joint.alone:
            # Its parameters take part in every step all the same: data-parallel training waits for each gradient.
            return loss + 0.0 * torch.stack([p.sum() for p in self.encoder.parameters()]).sum()
        scores, _ = self.encoder(self.augment(ppg if self.student_signal == "ppg" else ecg))
        labels = self._labels(quantized.indices)
        known = labels != IGNORED
        told, wanted = scores[known], labels[known]
        entropy = functional.cross_entropy(told, wanted, label_smoothing=self.joint.smoothing)
        self._count("train", told.detach(), wanted)
        self.note({"train_student_loss": entropy.detach()}, batch=int(known.sum()))
        loss = loss + self.joint.student * entropy
        if self.joint.predictability > 0:
            loss = loss + self.joint.predictability * self._unpredictability(quantized, known, told)
        return loss

    def _unpredictability(self, quantized: Quantized, known: Tensor, told: Tensor) -> Tensor:
        quantizer, lookahead = self.tokenizer.quantizer, self.encoder.config.lookahead
        # What is named at patch t + lookahead is the token of patch t.
        values = quantized.values[:, : known.shape[1] - lookahead][known[:, lookahead:]]
        spread = quantized.loss.detach() / quantizer.config.commitment
        surprise = unpredictability(
            replace(quantized, values=values), quantizer.codes(), functional.log_softmax(told, -1), spread
        )
        self.note({"train_unpredictability": surprise.detach()}, batch=len(values))
        return surprise

    def validation_step(self, batch: tuple[Tensor, ...], index: int) -> None:
        ppg, ecg = batch
        _, quantized = self.rebuild(ppg, ecg, "val")
        if quantized.indices is None or self.current_epoch < self.joint.alone:
            return
        scores, _ = self.encoder(ppg if self.student_signal == "ppg" else ecg)
        labels = self._labels(quantized.indices)
        known = labels != IGNORED
        self._count("val", scores[known], labels[known])
        entropy = functional.cross_entropy(scores[known], labels[known])
        self.note({"val_student_loss": entropy}, batch=int(known.sum()))

    def _count(self, part: str, scores: Tensor, labels: Tensor) -> None:
        self._hits[part] = self._hits.get(part, torch.zeros(3, dtype=torch.int64)) + token_hits(scores, labels)

    def on_train_epoch_start(self) -> None:
        super().on_train_epoch_start()
        self._hits = {}

    def on_validation_epoch_end(self) -> None:  # runs after the epoch's last training batch
        super().on_validation_epoch_end()
        log_accuracy(self, self._hits)


def _of_student(history: History) -> History:
    """The student's share of the history, under the names stage 2 gives it."""
    kept = []
    for entry in history:
        found = {n.replace("student_", ""): v for n, v in entry.items() if n.partition("_")[2] in OF_STUDENT}
        kept.append({"epoch": entry["epoch"], **found, "lr": entry["lr"]})
    return [entry for entry in kept if "val_loss" in entry]


def _of_tokenizer(history: History) -> History:
    return [{n: v for n, v in entry.items() if n.partition("_")[2] not in OF_STUDENT} for entry in history]


def train_single_stage(
    out: Path,
    signal: Signal,
    prepared: Prepared,
    fit: FitConfig,
    console: Console,
    *,
    resume: bool,
    joint: JointConfig | None = None,
    model: TokenizerConfig | None = None,
    student: EncoderConfig | None = None,
    augmentation: Augmentation | None = None,
) -> None:
    """Train both at once; ``out`` holds the checkpoints, ``out/tokenizer`` and ``out/<signal>`` the two runs.

    Raises :class:`BadInput` on a folder or data that cannot be used.
    """
    joint, augmentation = joint or JointConfig(), augmentation or Augmentation()
    if fit.epochs <= joint.alone:
        raise BadInput(f"--epochs {fit.epochs}: the student joins after epoch {joint.alone}; give more epochs")
    model = model or TokenizerConfig(hop=prepared.config.hop)
    student = student or EncoderConfig(hop=prepared.config.hop, codebook_size=model.quantizer.size)
    train, validation = prepared.part("train", overlap=True), prepared.part("validation")
    batches = max(1, len(train) // fit.batch)
    if batches < 2 * model.quantizer.start_after:  # a run this small must start its codebook within the first epoch
        model = replace(model, quantizer=replace(model.quantizer, start_after=max(1, batches // 2)))
    common = {"fit": fit.to_dict(), "joint": joint.to_dict(), "windows": prepared.config.to_dict(),
              "data": prepared.describe()}  # fmt: skip
    taught = {"signal": signal, "augmentation": augmentation.to_dict()}
    run = RunFolder(out)
    run.start(
        {"kind": "single-stage", "tokenizer": model.to_dict(), "encoder": student.to_dict(), **taught, **common},
        resume=resume,
    )
    of_tokenizer, of_student = RunFolder(out / "tokenizer"), RunFolder(out / signal)
    if of_student.weights("encoder").exists():
        console.print(f"single stage: {run.path} is finished already", soft_wrap=True)
        return
    torch.manual_seed(fit.seed)
    stage = SingleStage(Tokenizer(model), Encoder(student), signal, fit, prepared.augmented(augmentation), joint)
    fit_stage(
        stage,
        run,
        train_batches(
            PhasedRows((torch.tensor(train.ppg), torch.tensor(train.ecg)), prepared.phases(prepared.config.hop)), fit
        ),
        eval_batches(TensorRows(torch.tensor(validation.ppg), torch.tensor(validation.ecg)), fit.batch),
        console,
        "single stage",
        ("train_loss", "val_loss", "val_perplexity", "val_ppg_r2", "val_ecg_r2", "val_top1", "val_top5"),
    )
    stage.eval()
    of_tokenizer.start({"kind": "tokenizer", "model": model.to_dict(), **common}, resume=True)
    history = run.history()
    if ranks.rank() == 0:
        write_json(of_tokenizer.path / "history.json", _of_tokenizer(history))
        save_tokens(of_tokenizer, stage.tokenizer, validation)
        plot_tokenizer(of_tokenizer, stage.tokenizer, validation)
    of_tokenizer.save_weights("tokenizer", stage.tokenizer)
    sha256 = file_sha256(of_tokenizer.weights("tokenizer"))
    of_student.start(
        {"kind": "encoder", **taught, "model": student.to_dict(), "tokenizer_sha256": sha256, **common}, resume=True
    )
    if ranks.rank() == 0:
        write_json(of_student.path / "history.json", _of_student(history))
        plot_student(of_student)
    of_student.save_weights("encoder", stage.encoder)  # last: their presence says the run is finished
    console.print(
        f"single stage: {of_tokenizer.weights('tokenizer')} and {of_student.weights('encoder')}", soft_wrap=True
    )
