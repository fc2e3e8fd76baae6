"""`pulsecode evaluate student`: how well a student names the tokens of people it never saw."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from firmware_bridge.errors import BadInput
from trainer.beat_preparation import prepare_as
from trainer.bootstrap import Interval, over_people
from trainer.consistency import check_consistency, load_tokenizer
from trainer.encoder import Encoder
from trainer.probe import ProbeResult, af_probe, has_both_kinds
from trainer.quantizers import perplexity, usage
from trainer.run_folder import RunFolder, write_json
from trainer.splits import Part
from trainer.stage2 import IGNORED
from trainer.stages import DataChoice, check_windows, file_sha256, load_student, student_rows


@dataclass(frozen=True)
class Accuracy:
    """Token accuracy over all labelled hops, with intervals over people."""

    top1: Interval
    top5: Interval
    hops: int


@torch.no_grad()
def window_hits(encoder: Encoder, patches: torch.Tensor, labels: torch.Tensor) -> NDArray[np.int64]:
    """Top-1 hits, top-5 hits and labelled hops of each window, (windows, 3)."""
    encoder.eval()
    parts = []
    for start in range(0, len(patches), 128):
        some, wanted = patches[start : start + 128], labels[start : start + 128]
        best = encoder(some)[0].topk(5, dim=-1).indices == wanted[..., None]
        parts.append(torch.stack([best[..., 0].sum(1), best.any(-1).sum(1), (wanted != IGNORED).sum(1)], 1))
    return np.asarray(torch.cat(parts).numpy())


def accuracy(hits: NDArray[np.int64], people: NDArray[np.generic]) -> Accuracy:
    """Sums of :func:`window_hits` over rows, with intervals over people."""

    def share(column: int) -> Interval:
        return over_people(lambda rows: float(hits[rows, column].sum() / max(1, hits[rows, 2].sum())), people)

    return Accuracy(share(0), share(1), int(hits[:, 2].sum()))


def _table(result: dict[str, Any], rows: list[tuple[str, str, str]]) -> Table:
    title = f"{result['signal']} student on the {result['part']} part (95 % interval over people)"
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
    for column in ("", "value", "of"):
        table.add_column(column)
    for row in rows:
        table.add_row(*row)
    return table


def evaluate_student(
    student_run: Path, tokenizer_run: Path, part: Part, choice: DataChoice, console: Console
) -> dict[str, Any]:
    """Judge the student on ``part``; print a table and write ``evaluation.json`` into its run folder.

    Raises :class:`BadInput` where a run or the data cannot be used, or the two runs do not belong together.
    """
    run, source = RunFolder(student_run), RunFolder(tokenizer_run)
    encoder, signal = load_student(run)
    tokenizer = load_tokenizer(source)
    if run.config("encoder").get("tokenizer_sha256") != file_sha256(source.weights("tokenizer")):
        raise BadInput(f"run folder {run.path}: was taught by another tokenizer than {source.path}; give --tokenizer")
    prepared = prepare_as(source.config("tokenizer").get("windows"), choice, console)
    check_windows(source, prepared)
    check_consistency(source, tokenizer, prepared.part("validation"))

    windows = prepared.part(part, gated=False)
    rows = student_rows(tokenizer, windows, signal, encoder.config.lookahead)
    patches, labels, ok = rows.tensors
    good, people = ok.numpy(), windows.patients
    hits = window_hits(encoder, patches, labels)
    shown = labels[ok][labels[ok] != IGNORED]
    size = tokenizer.config.quantizer.size
    counts = torch.bincount(shown, minlength=size)
    commonest = float(counts.max() / counts.sum())
    af = prepared.windows.part("held_out", overlap=True, limit=choice.limit)
    probes: dict[str, ProbeResult] = {}
    if has_both_kinds(af):
        torch.manual_seed(0)
        probes = {
            "trained": af_probe(encoder, af, signal),
            "random": af_probe(Encoder(encoder.config), af, signal),
        }
    parts = {"ok": accuracy(hits[good], people[good]), "all": accuracy(hits, people)}
    result: dict[str, Any] = {
        "signal": signal,
        "part": part,
        "limit": choice.limit,
        "student": {name: asdict(value) for name, value in parts.items()},
        "codebook": {"size": size, "perplexity": perplexity(counts), "usage": usage(counts), "commonest": commonest},
        "af_probe": {name: asdict(value) for name, value in probes.items()},
    }
    write_json(run.path / "evaluation.json", result)
    lines = []
    for name, found in parts.items():
        of = f"{found.hops:,} hops, {found.top1.people} people"
        lines += [(f"top-1, {name}", str(found.top1), of), (f"top-5, {name}", str(found.top5), of)]
    lines.append(("commonest token", f"{commonest:.3f}", "what guessing always the same one would reach"))
    lines.append(("codebook perplexity", f"{result['codebook']['perplexity']:.0f}", f"{size} codes"))
    lines.append(("codebook usage", f"{result['codebook']['usage']:.3f}", f"{size} codes"))
    for name, probe in probes.items():
        lines.append((f"AF probe, {name}, windows", str(probe.window_auroc), f"{probe.windows:,} windows of 10 s"))
        lines.append((f"AF probe, {name}, subjects", str(probe.subject_auroc), f"{probe.subject_auroc.people} people"))
    Console().print(_table(result, lines))
    return result
