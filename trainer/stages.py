"""The two stages from end to end: windows, training, weights and pictures in a run folder."""

import hashlib
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from firmware_bridge.block import Signal
from firmware_bridge.errors import BadInput
from trainer.consistency import check_consistency, load_tokenizer, save_tokens
from trainer.encoder import Encoder, EncoderConfig
from trainer.fitting import FitConfig, Selection, TensorRows, eval_batches, fit_stage, train_batches
from trainer.phases import PhasedRows, shifted
from trainer.plots import plot_student, plot_tokenizer
from trainer.preparation import CACHE, count_windows, prepare_windows
from trainer.recordings import data_folder
from trainer.run_folder import RunFolder
from trainer.splits import Part
from trainer.stage1 import Stage1, label_patches, label_tokens
from trainer.stage2 import Augmentation, Stage2, student_labels
from trainer.tokenizer import Tokenizer, TokenizerConfig
from trainer.windows import WindowConfig, Windows

# Measured on two CPU cores: stage 1 takes about 13 s an epoch there, stage 2 about 10 s.
TOKENIZER_FIT = FitConfig(epochs=30)
PHASES = 25  # cuts of each window that the student sees; stage 1 sees every one
STUDENT_FIT = FitConfig(epochs=20, weight_decay=0.1)


@dataclass(frozen=True)
class DataChoice:
    """Where the recordings are, where prepared windows are kept, and how many windows of a part to use at most."""

    data: Path
    cache: Path = CACHE
    limit: int | None = None

    @classmethod
    def of(cls, data: str | None, cache: str | None, limit: int | None) -> "DataChoice":
        """From command line values; raises :class:`BadInput` if there is no such folder."""
        return cls(data_folder(data), Path(cache) if cache else CACHE, limit)


@dataclass(frozen=True)
class Prepared:
    """Windows of all parts, cut by ``config``."""

    config: WindowConfig
    windows: Windows
    limit: int | None

    def part(self, part: Part, *, gated: bool = True, overlap: bool = False) -> Windows:
        """One part, never empty: raises :class:`BadInput` if there is nothing to use."""
        found = self.windows.part(part, gated=gated, overlap=overlap, limit=self.limit)
        if not len(found):
            raise BadInput(f"data folder: no usable window in the {part} part; give more recordings")
        return found

    def describe(self) -> dict[str, Any]:
        """What a run folder records of its data: windows by part, data set and the gate's verdict."""
        counts = {
            part: {name: dict(counter) for name, counter in count_windows(self.windows, part).items()}
            for part in ("train", "validation", "test")
        }
        return {"limit": self.limit, "counts": counts}


def prepare(choice: DataChoice, console: Console, config: WindowConfig | None = None) -> Prepared:
    """The windows of ``choice``."""
    config = config or WindowConfig()
    return Prepared(config, prepare_windows(choice.data, config, choice.cache, console), choice.limit)


def train_tokenizer(
    out: Path,
    prepared: Prepared,
    fit: FitConfig,
    console: Console,
    *,
    resume: bool,
    model: TokenizerConfig | None = None,
) -> None:
    """Stage 1 into the run folder ``out``. Raises :class:`BadInput` on a folder or data that cannot be used."""
    run = RunFolder(out)
    model = model or TokenizerConfig(hop=prepared.config.hop)
    train, validation = prepared.part("train", overlap=True), prepared.part("validation")
    batches = max(1, len(train) // fit.batch)
    if batches < 2 * model.quantizer.start_after:  # a run this small must start its codebook within the first epoch
        model = replace(model, quantizer=replace(model.quantizer, start_after=max(1, batches // 2)))
    config = {"kind": "tokenizer", "model": model.to_dict(), "fit": fit.to_dict(),
              "windows": prepared.config.to_dict(), "data": prepared.describe()}  # fmt: skip
    run.start(config, resume=resume)
    if run.weights("tokenizer").exists():
        console.print(f"tokenizer: {run.path} is finished already", soft_wrap=True)
        return
    torch.manual_seed(fit.seed)
    stage = Stage1(Tokenizer(model), fit)
    fit_stage(
        stage,
        run,
        train_batches(PhasedRows((torch.tensor(train.ppg), torch.tensor(train.ecg)), range(prepared.config.hop)), fit),
        eval_batches(TensorRows(torch.tensor(validation.ppg), torch.tensor(validation.ecg)), fit.batch),
        console,
        "tokenizer",
        ("train_loss", "val_loss", "val_perplexity", "val_usage", "val_ppg_r2", "val_ecg_r2"),
    )
    stage.eval()
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
    augmentation = Augmentation()
    config = {"kind": "encoder", "signal": signal, "model": model.to_dict(), "fit": fit.to_dict(),
              "augmentation": augmentation.to_dict(), "tokenizer_sha256": file_sha256(source.weights("tokenizer")),
              "windows": prepared.config.to_dict(), "data": prepared.describe()}  # fmt: skip
    run.start(config, resume=resume)
    if run.weights("encoder").exists():
        console.print(f"{signal} student: {run.path} is finished already", soft_wrap=True)
        return
    torch.manual_seed(fit.seed)
    stage = Stage2(Encoder(model), fit, augmentation)
    training = phased_student_rows(tokenizer, prepared.part("train", overlap=True), signal, model.lookahead)
    validation = student_rows(tokenizer, prepared.part("validation", gated=False), signal, model.lookahead)
    fit_stage(
        stage,
        run,
        train_batches(training, fit),
        eval_batches(validation, fit.batch),
        console,
        f"{signal} student",
        ("train_loss", "val_loss", "train_top1", "val_top1", "val_top5", "val_all_top1"),
        Selection("val_top1", "max"),
    )
    plot_student(run)
    run.save_weights("encoder", stage.encoder)  # last: their presence says the run is finished
    console.print(f"{signal} student: {run.weights('encoder')}, plots in {run.plots}", soft_wrap=True)


def student_rows(tokenizer: Tokenizer, windows: Windows, signal: Signal, lookahead: int) -> TensorRows:
    """Patches of ``signal``, their labels and whether the window passed the gate."""
    labels = student_labels(label_tokens(tokenizer, windows), lookahead, tokenizer.config.left, tokenizer.config.right)
    return TensorRows(torch.tensor(windows.signal(signal)), labels, torch.tensor(windows.ok))


def phased_student_rows(tokenizer: Tokenizer, windows: Windows, signal: Signal, lookahead: int) -> PhasedRows:
    """The same at :data:`PHASES` phases of the hop grid, with the tokens that stage 1 gives at each of them."""
    hop = windows.ppg_hops.shape[1]
    offsets = [round(phase * hop / PHASES) for phase in range(PHASES)]
    config = tokenizer.config
    tokens = [label_patches(tokenizer, shifted(windows.ppg, o), shifted(windows.ecg, o)) for o in offsets]
    labels = torch.stack([student_labels(some, lookahead, config.left, config.right) for some in tokens])
    return PhasedRows(
        (torch.tensor(windows.signal(signal)),), offsets, (labels, torch.tensor(windows.ok).repeat(PHASES, 1))
    )


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
    if run.config("tokenizer").get("windows") != json.loads(json.dumps(prepared.config.to_dict())):
        raise BadInput(f"run folder {run.path}: was trained on windows cut in another way; train the tokenizer again")


def file_sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
