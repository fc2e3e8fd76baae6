"""Rows that are more than another configuration: beats for patches, and both stages trained at once.

Same budget, same people and the same figures as :func:`benchmarks.ablation.measure.measure`. Where a beat is a patch, a
token stands for more time, so bits are also given a second; and the probes answer for the very windows that fixed
patches are asked about, of which some have no pulse to go by (``unanswered``: the probe then says what is usual).
"""

import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
from rich.console import Console

from benchmarks.ablation.budget import Budget
from benchmarks.ablation.measure import F64, PROBE_WINDOWS, Row, count, entropy_of, judge, token_sums
from benchmarks.ablation.variants import Variant
from trainer.beat_patches import BeatWindows
from trainer.beat_preparation import PreparedBeats, prepare_beats
from trainer.beat_probe import pooled_beats, rows_by_window
from trainer.consistency import load_tokenizer
from trainer.encoder import Encoder, EncoderConfig
from trainer.probe import POOLED_SECONDS, ecg_rates, in_fibrillation, probe_scores, told_rates
from trainer.pulse_cutter import seconds_of
from trainer.recipe import STUDENT_FIT, TOKENIZER_FIT, WINDOWS
from trainer.run_folder import RunFolder, write_json
from trainer.single_stage import SINGLE_FIT, JointConfig, train_single_stage
from trainer.splits import in_choosing_half
from trainer.stage2 import IGNORED, Objective
from trainer.stages import (
    DataChoice,
    Prepared,
    load_student,
    prepare,
    student_rows,
    train_student,
    train_tokenizer,
)
from trainer.tokenizer import Tokenizer
from trainer.windows import F32, Windows

CONTEXT_BEATS = 13  # about the 10 s that a student of fixed patches looks back


def measure_beats(variant: Variant, seed: int, budget: Budget, choice: DataChoice, runs: Path, console: Console) -> Row:
    """Both stages on beats; a finished row is read back."""
    folder = runs / f"{variant.slug}-s{seed}"
    if (folder / "row.json").exists():
        return Row.read(folder / "row.json")
    limited = replace(choice, limit=budget.windows)
    prepared, fixed = prepare_beats(limited, console), prepare(limited, console, WINDOWS)
    fit1 = replace(TOKENIZER_FIT, epochs=budget.epochs1, batch=budget.batch, seed=seed)
    fit2 = replace(STUDENT_FIT, epochs=budget.epochs2, batch=budget.batch, seed=seed)
    source, student = runs / f"patches-one-a-heartbeat-s{seed}" / "tokenizer", folder / "student"
    seconds = {"stage 1": _timed(lambda: train_tokenizer(source, prepared, fit1, console, resume=True))}
    shape = EncoderConfig(hop=prepared.config.hop, context=CONTEXT_BEATS)
    if variant.untrained:
        torch.manual_seed(seed)
        encoder, seconds["stage 2"] = Encoder(shape).eval(), 0.0
    else:
        seconds["stage 2"] = _timed(
            lambda: train_student(
                student, source, "ppg", prepared, fit2, console, resume=True, model=shape,
                objective=Objective(phases=budget.phases),
            )
        )  # fmt: skip
        encoder, _ = load_student(RunFolder(student))
    tokenizer = load_tokenizer(RunFolder(source))
    told, people = judge_beats(tokenizer, encoder, prepared, fixed)
    return _write(folder, seed, budget, seconds, (tokenizer, encoder), source, told, people)


def measure_single_stage(
    variant: Variant, seed: int, budget: Budget, choice: DataChoice, runs: Path, console: Console
) -> Row:
    """Tokenizer and PPG student at once, as many epochs as stage 1 has; a finished row is read back."""
    folder = runs / f"{variant.slug}-s{seed}"
    if (folder / "row.json").exists():
        return Row.read(folder / "row.json")
    prepared = prepare(replace(choice, limit=budget.windows), console, WINDOWS)
    fit = replace(SINGLE_FIT, epochs=budget.epochs1, batch=budget.batch, seed=seed)
    joint = JointConfig(predictability=variant.predictability)
    seconds = {
        "both": _timed(lambda: train_single_stage(folder, "ppg", prepared, fit, console, resume=True, joint=joint))
    }
    source = folder / "tokenizer"
    tokenizer, (encoder, _) = load_tokenizer(RunFolder(source)), load_student(RunFolder(folder / "ppg"))
    told, people = judge(tokenizer, encoder, variant, prepared)
    return _write(folder, seed, budget, seconds, (tokenizer, encoder), source, told, people)


def _timed(work: Callable[[], None]) -> float:
    start = time.process_time()
    work()
    return round(time.process_time() - start, 1)


def _write(
    folder: Path, seed: int, budget: Budget, seconds: dict[str, float], models: tuple[Tokenizer, Encoder], source: Path,
    told: dict[str, float], people: dict[str, list[float]],
) -> Row:  # fmt: skip
    of_stage1 = {f"stage 1 {k}": v for k, v in RunFolder(source).history()[-1].items() if k.startswith("val_")}
    parameters = {"tokenizer": count(models[0]), "student": count(models[1])}
    slug = folder.name.removesuffix(f"-s{seed}")
    row = Row(slug, seed, budget.to_dict(), seconds, parameters, {**of_stage1, **told}, people)
    write_json(folder / "row.json", asdict(row))
    return row


def judge_beats(
    tokenizer: Tokenizer, encoder: Encoder, prepared: PreparedBeats, fixed: Prepared
) -> tuple[dict[str, float], dict[str, list[float]]]:
    """As :func:`benchmarks.ablation.measure.judge`, of a student of beats; the probes are asked about ``fixed``'s
    windows. ``rate error of intervals``: the heart rate by the cutter's own intervals, without any model."""
    assert isinstance(prepared.windows, BeatWindows)
    beats, hop_seconds = prepared.windows, fixed.config.hop / fixed.config.rate
    validation = prepared.part("validation")
    patches, labels, _ = student_rows(tokenizer, validation, "ppg", encoder.config.lookahead).tensors
    sums = token_sums(encoder, patches, labels)
    named = (labels != IGNORED).numpy()
    lasts = seconds_of(validation.ppg[..., -1].astype(np.float64))[named].mean()

    hops = round(POOLED_SECONDS / hop_seconds)
    known, asked = fixed.windows.part("train", limit=PROBE_WINDOWS), fixed.part("validation")
    features, unknown = (pooled_beats(encoder, beats, some, hop_seconds) for some in (known, asked))
    truth, wanted = (ecg_rates(some, hops, fixed.config.rate) for some in (known, asked))
    usual = np.nanmean(features, 0)
    error = np.abs(told_rates(_filled(features, usual), truth, _filled(unknown, usual)) - wanted)
    found = np.isfinite(error)
    plain = np.abs(_interval_rates(beats, asked, hop_seconds) - wanted)

    rows: dict[str, F64] = {str(person): np.zeros(6) for person in {*validation.patients, *asked.patients}}
    for person, row in zip(validation.patients, sums, strict=True):
        rows[str(person)][:4] += row
    for person, good, miss in zip(asked.patients, found, error, strict=True):
        rows[str(person)][4:] += (good, miss if good else 0.0)
    labelled, top1, top5, nats = sums.sum(0)
    bits = (entropy_of(labels, tokenizer.config.quantizer.size) - nats / labelled) / np.log(2)
    figures = {
        "top1": top1 / labelled,
        "top5": top5 / labelled,
        "bits": bits,
        "bits per second": bits / lasts,
        "rate error": error[found].mean(),
        "rate error of intervals": plain[np.isfinite(plain)].mean(),
        "unanswered": float(np.isnan(unknown[:, 0]).mean()),
        **_wave_r2(tokenizer, validation),
        **_af_figures(encoder, beats, fixed, hop_seconds),
    }
    return {name: round(float(value), 5) for name, value in figures.items()}, {p: r.tolist() for p, r in rows.items()}


def _filled(features: F32, usual: F32) -> F32:
    return np.where(np.isnan(features), usual, features)


def _interval_rates(beats: BeatWindows, windows: Windows, hop_seconds: float) -> F64:
    """Heart rate by the median interval of the pulses known in the last 10 s, bpm, (windows,); NaN where none is."""
    rates = np.full(len(windows), np.nan)
    for i, (first, after, since) in enumerate(rows_by_window(beats, windows, hop_seconds)):
        spans = beats.seconds[first:after]
        spans = spans[spans[:, 1] > since]
        if len(spans):
            rates[i] = 60 / np.median(spans[:, 1] - spans[:, 0])
    return rates


@torch.no_grad()
def _wave_r2(tokenizer: Tokenizer, windows: Windows) -> dict[str, float]:
    """Variance of the waves, without their tempo, that the tokens explain; and of the tempo about its mean."""
    figures = {}
    rebuilt = tokenizer.eval()(torch.tensor(windows.ppg), torch.tensor(windows.ecg))
    for name, true, told in (("PPG", windows.ppg, rebuilt.ppg), ("ECG", windows.ecg, rebuilt.ecg)):
        missed, tempo = (told.numpy() - true) ** 2, true[..., -1]
        figures[f"{name} wave R2"] = 1 - missed[..., :-1].sum() / (true[..., :-1] ** 2).sum()
        figures[f"{name} tempo R2"] = 1 - missed[..., -1].sum() / ((tempo - tempo.mean()) ** 2).sum()
    return figures


def _af_figures(encoder: Encoder, beats: BeatWindows, fixed: Prepared, hop_seconds: float) -> dict[str, float]:
    """AUROC of a linear AF probe, on the subjects of MIMIC PERform AF that are there for choosing; empty without."""
    from sklearn.metrics import roc_auc_score

    held = fixed.windows.part("held_out", gated=False)
    chosen = held.take(np.flatnonzero([in_choosing_half(str(p).partition("/")[2]) for p in held.patients]))
    labels, people = in_fibrillation(chosen), chosen.patients
    if any(len(np.unique(people[labels == value])) < 2 for value in (True, False)):
        return {}
    features = pooled_beats(encoder, beats, chosen, hop_seconds)
    scores = probe_scores(_filled(features, np.nanmean(features, 0)), labels, people)
    persons, first = np.unique(people, return_index=True)
    by_person = [scores[people == person].mean() for person in persons]
    return {
        "AF window AUROC": float(roc_auc_score(labels, scores)),
        "AF subject AUROC": float(roc_auc_score(labels[first], by_person)),
    }
