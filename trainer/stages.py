"""The two stages from end to end: windows, training, weights and pictures in a run folder."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from rich.console import Console
from torch import Tensor

from firmware_bridge.block import Signal
from firmware_bridge.errors import BadInput
from trainer import ranks
from trainer.consistency import check_consistency, load_tokenizer, save_tokens
from trainer.encoder import Encoder, EncoderConfig
from trainer.fitting import Batches, FitConfig, Selection, TensorRows, eval_batches, fit_stage, train_batches
from trainer.intervals import interval_targets
from trainer.lag_jitter import LagJitter
from trainer.noise import NoiseAugmentation
from trainer.phases import PhasedRows, shifted
from trainer.plots import plot_student, plot_tokenizer
from trainer.preparation import CACHE, count_windows, prepare_windows
from trainer.recordings import data_folder
from trainer.run_folder import RunFolder
from trainer.splits import Part
from trainer.stage1 import Stage1, label_patches, label_tokens
from trainer.stage2 import Augmentation, Augmentations, Objective, Stage2, student_labels
from trainer.tokenizer import Tokenizer, TokenizerConfig
from trainer.windows import WindowConfig, Windows, saved_config


@dataclass(frozen=True)
class DataChoice:
    """Where the recordings are, where prepared windows are kept, how many windows of a part to use at most, and data
    sets that training and validation must not see (to judge the recipe on all their people)."""

    data: Path
    cache: Path = CACHE
    limit: int | None = None
    excluded: tuple[str, ...] = ()

    @classmethod
    def of(cls, data: str | None, cache: str | None, limit: int | None, excluded: Sequence[str] = ()) -> "DataChoice":
        """From command line values; raises :class:`BadInput` if there is no such folder."""
        folder = data_folder(data)
        for name in excluded:
            if not (folder / name).is_dir():
                raise BadInput(f"--exclude {name}: there is no such data set in {folder}")
        return cls(folder, Path(cache) if cache else CACHE, limit, tuple(sorted(excluded)))


class Cut(Protocol):
    """How windows were cut: the values of a patch, and the Hz of the grid they come from."""

    @property
    def hop(self) -> int: ...

    @property
    def rate(self) -> float: ...

    def to_dict(self) -> dict[str, object]:
        """For a run folder's config."""


@dataclass(frozen=True)
class Prepared:
    """Windows of all parts, cut by ``config``."""

    config: Cut
    windows: Windows
    limit: int | None
    excluded: tuple[str, ...] = ()

    def part(self, part: Part, *, gated: bool = True, overlap: bool = False) -> Windows:
        """One part, never empty: raises :class:`BadInput` if there is nothing to use."""
        windows = self.windows
        if self.excluded and part in ("train", "validation"):
            datasets = np.array([recording["dataset"] for recording in windows.recordings])[windows.recording]
            windows = windows.take(np.flatnonzero(~np.isin(datasets, self.excluded)))
        found = windows.part(part, gated=gated, overlap=overlap, limit=self.limit)
        if not len(found):
            raise BadInput(f"data folder: no usable window in the {part} part; give more recordings")
        return found

    def phases(self, count: int) -> list[int]:
        """Samples later at which training cuts its windows anew: ``count``, spread evenly over the hop."""
        return [round(phase * self.config.hop / count) for phase in range(count)]

    def augmented(self, augmentation: Augmentation) -> Callable[[Tensor], Tensor]:
        """``augmentation`` as it fits these patches."""
        return augmentation

    def cut_as(self, saved: object) -> bool:
        """Whether a run folder's ``windows`` say that its windows were cut as these."""
        return saved_config(saved) == self.config

    def pairs(self, fit: FitConfig) -> Batches:
        """Stage 1's training batches: both signals, every window at any phase of the hop grid."""
        train = self.part("train", overlap=True)
        signals = (torch.tensor(train.ppg), torch.tensor(train.ecg))
        return train_batches(PhasedRows(signals, self.phases(self.config.hop)), fit)

    def student_batches(
        self, tokenizer: Tokenizer, signal: Signal, lookahead: int, objective: Objective, fit: FitConfig
    ) -> Batches:
        """Stage 2's training batches: :func:`phased_student_rows`."""
        return train_batches(phased_student_rows(tokenizer, self, signal, lookahead, objective), fit)

    def describe(self) -> dict[str, Any]:
        """What a run folder records of its data: windows by part, data set and the gate's verdict."""
        counts = {
            part: {name: dict(counter) for name, counter in count_windows(self.windows, part).items()}
            for part in ("train", "validation", "test")
        }
        return {"limit": self.limit, "excluded": list(self.excluded), "counts": counts}


def prepare(choice: DataChoice, console: Console, config: WindowConfig | None = None) -> Prepared:
    """The windows of ``choice``."""
    config = config or WindowConfig()
    with ranks.first_first():
        windows = prepare_windows(choice.data, config, choice.cache, console)
    return Prepared(config, windows, choice.limit, choice.excluded)


def train_tokenizer(
    out: Path,
    prepared: Prepared,
    fit: FitConfig,
    console: Console,
    *,
    resume: bool,
    model: TokenizerConfig | None = None,
    jitter: LagJitter | None = None,
) -> None:
    """Stage 1 into the run folder ``out``. Raises :class:`BadInput` on a folder or data that cannot be used."""
    run = RunFolder(out)
    model = model or TokenizerConfig(hop=prepared.config.hop)
    pairs, validation = prepared.pairs(fit), prepared.part("validation")
    batches = max(1, len(pairs))
    if batches < 2 * model.quantizer.start_after:  # a run this small must start its codebook within the first epoch
        model = replace(model, quantizer=replace(model.quantizer, start_after=max(1, batches // 2)))
    config = {"kind": "tokenizer", "model": model.to_dict(), "fit": fit.to_dict(),
              "windows": prepared.config.to_dict(), "data": prepared.describe()}  # fmt: skip
    if jitter is not None:
        config["jitter"] = jitter.to_dict()
    run.start(config, resume=resume)
    if run.weights("tokenizer").exists():
        console.print(f"tokenizer: {run.path} is finished already", soft_wrap=True)
        return
    torch.manual_seed(fit.seed)
    stage = Stage1(Tokenizer(model), fit, jitter)
    fit_stage(
        stage,
        run,
        pairs,
        eval_batches(TensorRows(torch.tensor(validation.ppg), torch.tensor(validation.ecg)), fit.batch),
        console,
        "tokenizer",
        ("train_loss", "val_loss", "val_perplexity", "val_usage", "val_ppg_r2", "val_ecg_r2"),
    )
    stage.eval()
    if ranks.rank() == 0:
        save_tokens(run, stage.tokenizer, validation)
        plot_tokenizer(run, stage.tokenizer, validation)
    run.save_weights("tokenizer", stage.tokenizer)  # last: their presence says the run is finished
    console.print(f"tokenizer: {run.weights('tokenizer')}, plots in {run.plots}", soft_wrap=True)


def train_student(
    out: Path,
    tokenizer_run: Path,
    signal: Signal,
    prepared: Prepared,
    fit: FitConfig,
    console: Console,
    *,
    resume: bool,
    model: EncoderConfig | None = None,
    augmentation: Augmentation | None = None,
    noise: NoiseAugmentation | None = None,
    objective: Objective | None = None,
) -> None:
    """Stage 2 into the run folder ``out``: a student of ``signal`` taught the tokens of ``tokenizer_run``.

    Raises :class:`BadInput` on a folder or data that cannot be used, or if the tokenizer fails the consistency check.
    """
    source, run = RunFolder(tokenizer_run), RunFolder(out)
    tokenizer = load_tokenizer(source)
    check_windows(source, prepared)
    checked = check_consistency(source, tokenizer, prepared.part("validation"))
    console.print(
        f"consistency: all {checked.tokens:,} tokens of {checked.windows:,} held-out windows are stage 1's own",
        soft_wrap=True,
    )
    size = tokenizer.config.quantizer.size
    model = model or EncoderConfig(hop=prepared.config.hop, codebook_size=size)
    augmentation, objective = augmentation or Augmentation(), objective or Objective()
    config = {"kind": "encoder", "signal": signal, "model": model.to_dict(), "fit": fit.to_dict(),
              "augmentation": augmentation.to_dict(), "objective": objective.to_dict(),
              "tokenizer_sha256": file_sha256(source.weights("tokenizer")),
              "windows": prepared.config.to_dict(), "data": prepared.describe()}  # fmt: skip
    if noise is not None:
        config["noise"] = noise.config.to_dict()
    run.start(config, resume=resume)
    if run.weights("encoder").exists():
        console.print(f"{signal} student: {run.path} is finished already", soft_wrap=True)
        return
    torch.manual_seed(fit.seed)
    augment = prepared.augmented(augmentation)
    disturb = augment if noise is None else Augmentations((noise, augment))
    stage = Stage2(Encoder(model), fit, disturb, objective)
    training = prepared.student_batches(tokenizer, signal, model.lookahead, objective, fit)
    validation = student_rows(tokenizer, prepared.part("validation", gated=False), signal, model.lookahead,
                              rate=prepared.config.rate, objective=objective)  # fmt: skip
    fit_stage(
        stage,
        run,
        training,
        eval_batches(validation, fit.batch),
        console,
        f"{signal} student",
        ("train_loss", "val_loss", "train_top1", "val_top1", "val_top5", "val_all_top1"),
        Selection("val_top1", "max"),
    )
    if ranks.rank() == 0:
        plot_student(run)
    run.save_weights("encoder", stage.encoder)  # last: their presence says the run is finished
    console.print(f"{signal} student: {run.weights('encoder')}, plots in {run.plots}", soft_wrap=True)


def student_rows(
    tokenizer: Tokenizer,
    windows: Windows,
    signal: Signal,
    lookahead: int,
    *,
    rate: float = 125.0,
    objective: Objective | None = None,
) -> TensorRows:
    """Patches of ``signal``, their labels, whether the window passed the gate, and the intervals if ``objective`` asks
    for them (``rate``: Hz)."""
    labels = student_labels(label_tokens(tokenizer, windows), lookahead, tokenizer.config.left, tokenizer.config.right)
    rows = [torch.tensor(windows.signal(signal)), labels, torch.tensor(windows.ok)]
    if objective is not None and objective.interval_weight > 0:
        rows.append(torch.tensor(interval_targets(windows.ecg, [0], rate, hops=labels.shape[1])[0]))
    return TensorRows(*rows)


def phased_student_rows(
    tokenizer: Tokenizer, prepared: Prepared, signal: Signal, lookahead: int, objective: Objective
) -> PhasedRows:
    """The same of the training part, at several phases of the hop grid, with the tokens that stage 1 gives at each of
    them."""
    windows = prepared.part("train", overlap=True)
    offsets = prepared.phases(objective.phases)
    config = tokenizer.config
    tokens = ranks.shared_out(
        lambda o: label_patches(tokenizer, shifted(windows.ppg, o), shifted(windows.ecg, o)), offsets
    )
    labels = [torch.stack([student_labels(some, lookahead, config.left, config.right) for some in tokens])]
    labels.append(torch.tensor(windows.ok).repeat(len(offsets), 1))
    if objective.interval_weight > 0:
        hops = labels[0].shape[2]
        labels.append(torch.tensor(interval_targets(windows.ecg, offsets, prepared.config.rate, hops=hops)))
    return PhasedRows((torch.tensor(windows.signal(signal)),), offsets, labels)


def load_student(run: RunFolder) -> tuple[Encoder, Signal]:
    """The encoder of a finished stage 2 run, in eval mode, and the signal it reads."""
    config = run.config("encoder")
    try:
        encoder, signal = Encoder(EncoderConfig(**config["model"])), config["signal"]
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise BadInput(f"run folder {run.path}: config.json: model cannot be built ({error})") from None
    if signal not in ("ppg", "ecg"):
        raise BadInput(f"run folder {run.path}: config.json: signal must be ppg or ecg, not {signal!r}")
    run.load_weights("encoder", encoder)
    return encoder.eval(), signal


def check_windows(run: RunFolder, prepared: Prepared) -> None:
    """Raise :class:`BadInput` unless the tokenizer ``run`` was trained on windows cut as these are."""
    if not prepared.cut_as(run.config("tokenizer").get("windows")):
        raise BadInput(f"run folder {run.path}: was trained on windows cut in another way; train the tokenizer again")


def file_sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
