"""One row of the ablation: train both stages within the budget, and ask the result on people it never saw.

Everything is asked of the *validation* people (and, for atrial fibrillation, of the half of MIMIC PERform AF that is
there for choosing): the rows choose what ships, so the people who judge what ships must not be among them.
"""

import json
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from torch.nn import functional

from benchmarks.ablation.budget import Budget
from benchmarks.ablation.claim import claim
from benchmarks.ablation.segments import by_segment
from benchmarks.ablation.variants import Variant
from firmware_bridge.errors import BadInput
from trainer.consistency import load_tokenizer, save_tokens
from trainer.encoder import Encoder, EncoderConfig
from trainer.fitting import FitConfig
from trainer.lag_jitter import LagJitter
from trainer.probe import in_fibrillation, pooled_embeddings, probe_scores, rate_probe
from trainer.quantizers import QuantizerConfig
from trainer.recipe import OBJECTIVE, STUDENT_FIT, TOKENIZER_FIT, WINDOWS, measured_noise
from trainer.run_folder import RunFolder, write_json
from trainer.splits import in_choosing_half
from trainer.stage1 import label_tokens
from trainer.stage2 import IGNORED, Augmentation
from trainer.stages import (
    DataChoice,
    Prepared,
    load_student,
    prepare,
    student_rows,
    train_student,
    train_tokenizer,
)
from trainer.tokenizer import Tokenizer, TokenizerConfig
from trainer.windows import Windows

PROBE_WINDOWS = 2000
F64 = NDArray[np.float64]


@dataclass(frozen=True)
class Row:
    """What one variant reached with one seed. ``people``: person → sums, from which the paired intervals are made:
    labelled hops, top-1 hits, top-5 hits, nats of cross entropy, windows with a rate, absolute error of the rate."""

    slug: str
    seed: int
    budget: dict[str, int]
    cpu_seconds: dict[str, float]
    parameters: dict[str, int]
    figures: dict[str, float]
    people: dict[str, list[float]]

    @classmethod
    def read(cls, file: Path) -> "Row":
        """A row written by :func:`measure`; raises :class:`BadInput`."""
        try:
            return cls(**json.loads(file.read_text()))
        except (OSError, ValueError, TypeError) as error:
            raise BadInput(f"ablation row {file}: cannot be read ({error}); delete it and run again") from None


def tokenizer_folder(variant: Variant, seed: int, runs: Path) -> Path:
    """Where the tokenizer of a row lives: rows that change nothing before stage 2 share one."""
    if not (variant.windows or variant.tokenizer or variant.fit1 or variant.jitter or variant.by_segment):
        return runs / f"base-s{seed}" / "tokenizer"
    return runs / f"{variant.slug}-s{seed}" / "tokenizer"


def _config(variant: Variant) -> TokenizerConfig:
    fields = dict(variant.tokenizer)
    quantizer = QuantizerConfig(**fields.pop("quantizer", {}))
    return TokenizerConfig(quantizer=quantizer, **fields)


def measure(variant: Variant, seed: int, budget: Budget, choice: DataChoice, runs: Path, console: Console) -> Row:
    """Train (or go on training) one row under ``runs`` and judge it; a finished row is read back."""
    folder = runs / f"{variant.slug}-s{seed}"
    file = folder / "row.json"
    if file.exists():
        return Row.read(file)
    cut = replace(WINDOWS, **variant.windows)
    honest = prepare(replace(choice, limit=budget.windows), console, cut)
    prepared = replace(honest, windows=by_segment(honest.windows)) if variant.by_segment else honest
    fit1 = replace(TOKENIZER_FIT, epochs=budget.epochs1, batch=budget.batch, seed=seed, **variant.fit1)
    fit2: FitConfig = replace(STUDENT_FIT, epochs=budget.epochs2, batch=budget.batch, seed=seed, **variant.fit2)
    source = tokenizer_folder(variant, seed, runs)
    model = _config(variant)
    seconds = {"stage 1": 0.0}
    jitter = LagJitter(variant.jitter) if variant.jitter else None
    spent = source / "cpu_seconds.json"
    while not spent.exists():
        if not claim(source):  # another process trains the tokenizer that this row shares with its
            time.sleep(2)
            continue
        start = time.process_time()
        train_tokenizer(source, prepared, fit1, console, resume=True, model=model, jitter=jitter)
        write_json(spent, round(time.process_time() - start, 1))
    seconds["stage 1"] = json.loads(spent.read_text())
    teacher = tampered(source, folder / "tampered", prepared) if variant.tampered else source
    tokenizer = load_tokenizer(RunFolder(source))
    shape = EncoderConfig(**{"codebook_size": tokenizer.config.quantizer.size, **variant.student})
    start = time.process_time()
    if variant.untrained:
        torch.manual_seed(seed)
        encoder = Encoder(shape).eval()
    else:
        train_student(
            folder / "student", teacher, variant.signal, prepared, fit2, console, resume=True, model=shape,
            augmentation=Augmentation(**variant.augmentation),
            noise=measured_noise(variant.signal, cut, choice, console) if variant.noise else None,
            objective=replace(OBJECTIVE, **{"phases": budget.phases, **variant.objective}),
        )  # fmt: skip
        encoder, _ = load_student(RunFolder(folder / "student"))
    seconds["stage 2"] = round(time.process_time() - start, 1)
    figures = {f"stage 1 {k}": v for k, v in RunFolder(source).history()[-1].items() if k.startswith("val_")}
    told, people = judge(tokenizer, encoder, variant, prepared)
    if variant.by_segment:  # what was apparent on windows of known people, and what is true of others
        apparent, (told, people) = told, judge(tokenizer, encoder, variant, honest)
        told |= {f"apparent {name}": apparent[name] for name in ("top1", "bits per second", "rate error")}
    validation = honest.part("validation")
    taught = label_tokens(load_tokenizer(RunFolder(teacher)), validation)
    told["agreement"] = float((taught == label_tokens(tokenizer, validation)).mean())
    row = Row(
        variant.slug, seed, budget.to_dict(), seconds,
        {"tokenizer": count(tokenizer), "student": count(encoder)}, {**figures, **told}, people,
    )  # fmt: skip
    write_json(file, asdict(row))
    return row


def count(module: torch.nn.Module) -> int:
    """Parameters."""
    return sum(p.numel() for p in module.parameters())


def tampered(source: Path, to: Path, prepared: Prepared) -> Path:
    """A copy of a tokenizer run whose projection is random again, as ``strict=False`` left it in the published code,
    and which vouches for the tokens it gives now: stage 2 cannot tell."""
    run, copy = RunFolder(source), RunFolder(to)
    copy.start(run.config("tokenizer"), resume=True)
    broken = load_tokenizer(run)
    torch.manual_seed(0)
    broken.projection.reset_parameters()
    save_tokens(copy, broken, prepared.part("validation"))
    copy.save_weights("tokenizer", broken)
    return to


@torch.no_grad()
def token_sums(encoder: Encoder, patches: torch.Tensor, labels: torch.Tensor) -> F64:
    """Labelled hops, top-1 hits, top-5 hits, nats of each window, (windows, 4)."""
    parts = []
    for i in range(0, len(patches), 128):
        scores, wanted = encoder(patches[i : i + 128])[0], labels[i : i + 128]
        best = scores.topk(5, dim=-1).indices == wanted[..., None]
        nats = functional.cross_entropy(scores.transpose(1, 2), wanted, ignore_index=IGNORED, reduction="none")
        parts.append(
            torch.stack([(wanted != IGNORED).sum(1), best[..., 0].sum(1), best.any(-1).sum(1), nats.sum(1)], 1)
        )
    return np.asarray(torch.cat(parts).double().numpy())


def entropy_of(labels: torch.Tensor, size: int) -> float:
    shares = torch.bincount(labels[labels != IGNORED], minlength=size).double()
    shares = shares / shares.sum()
    return float(-torch.special.xlogy(shares, shares).sum())


def judge(
    tokenizer: Tokenizer, encoder: Encoder, variant: Variant, prepared: Prepared
) -> tuple[dict[str, float], dict[str, list[float]]]:
    """Figures of a student against the tokens of the (true) ``tokenizer``, and of its embeddings; and their sums by
    person."""
    rate, signal = prepared.config.rate, variant.signal
    validation = prepared.part("validation")
    rows = student_rows(tokenizer, validation, signal, encoder.config.lookahead)
    patches, labels, _ = rows.tensors
    sums = token_sums(encoder, patches, labels)
    known = prepared.windows.part("train", limit=PROBE_WINDOWS)
    error = rate_probe(encoder, known, validation, signal, rate=rate)
    found = np.isfinite(error)
    per_window = np.column_stack([sums, found, np.abs(np.where(found, error, 0.0))])
    names, who = np.unique(validation.patients, return_inverse=True)
    people = {str(name): per_window[who == i].sum(0).tolist() for i, name in enumerate(names)}
    hops, top1, top5, nats = sums.sum(0)
    entropy = entropy_of(labels, tokenizer.config.quantizer.size)
    seconds = prepared.config.hop / rate
    figures = {
        "top1": top1 / hops,
        "top5": top5 / hops,
        "bits": (entropy - nats / hops) / np.log(2),
        "bits per second": (entropy - nats / hops) / np.log(2) / seconds,
        "rate error": float(per_window[:, 5].sum() / max(1, found.sum())),
        **af_figures(encoder, prepared.windows, signal, rate),
    }
    return {name: round(float(value), 5) for name, value in figures.items()}, people


def af_figures(encoder: Encoder, windows: Windows, signal: str, rate: float) -> dict[str, float]:
    """AUROC of a linear AF probe by window and subject, on the subjects of MIMIC PERform AF that are there for
    choosing: all their windows without a missing sample, readable or not. Empty without that data set."""
    from sklearn.metrics import roc_auc_score

    held = windows.part("held_out", gated=False)
    chosen = held.take(np.flatnonzero([in_choosing_half(str(p).partition("/")[2]) for p in held.patients]))
    labels, people = in_fibrillation(chosen), chosen.patients
    if any(len(np.unique(people[labels == value])) < 2 for value in (True, False)):
        return {}
    features = pooled_embeddings(encoder, chosen, "ppg" if signal == "ppg" else "ecg", rate=rate)
    scores = probe_scores(features, labels, people)
    persons, first = np.unique(people, return_index=True)
    by_person = [scores[people == person].mean() for person in persons]
    return {
        "AF window AUROC": float(roc_auc_score(labels, scores)),
        "AF subject AUROC": float(roc_auc_score(labels[first], by_person)),
    }
