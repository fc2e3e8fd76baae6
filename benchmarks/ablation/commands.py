"""``pulsecode bench ablation`` and ``pulsecode bench published``."""

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from firmware_bridge.errors import BadInput

if TYPE_CHECKING:
    from benchmarks.ablation.budget import Budget
    from benchmarks.ablation.table import Line
    from benchmarks.ablation.variants import Variant


def configure(parser: argparse.ArgumentParser) -> None:
    """The options both share."""
    parser.add_argument("--data", metavar="DIR", help="folder of WFDB data sets (PULSECODE_DATA, or ../shared/data)")
    parser.add_argument("--cache", metavar="DIR", help="where prepared windows are kept (default: cache)")
    parser.add_argument("--runs", metavar="DIR", type=Path, default=Path("runs/ablation"), help="the rows' run folders")
    parser.add_argument("--seeds", type=_seeds, default=[0, 1], metavar="N,N", help="default: 0,1")
    parser.add_argument("--only", metavar="QUESTION", help="rows whose question starts so (the base is always there)")
    parser.add_argument("--windows", type=_positive, metavar="N", help="training windows of the budget")
    parser.add_argument("--epochs", type=_epochs, metavar="N,N", help="epochs of stage 1 and 2 of the budget")
    parser.add_argument("--table-only", action="store_true", help="write the table of the rows that are there")
    parser.add_argument("--out", metavar="DIR", type=Path, help="also write the table (.md, .json) and picture there")


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive whole number")
    return int(text)


def _seeds(text: str) -> list[int]:
    return [int(part) for part in text.split(",") if part.isdecimal()] or _refuse(text, "0,1")


def _epochs(text: str) -> tuple[int, int]:
    parts = text.split(",")
    if len(parts) != 2:
        _refuse(text, "8,10")
    return _positive(parts[0]), _positive(parts[1])


def _refuse(text: str, example: str) -> list[int]:
    raise argparse.ArgumentTypeError(f"{text!r} is not like {example}")


def _rows(args: argparse.Namespace, every: "tuple[Variant, ...]") -> "tuple[list[Line], Budget]":
    import torch

    from benchmarks.ablation.budget import Budget
    from benchmarks.ablation.measure import Row
    from benchmarks.ablation.runner import run_all
    from benchmarks.ablation.table import lines
    from benchmarks.ablation.variants import BASE
    from trainer.fitting import progress_console
    from trainer.stages import DataChoice

    torch.set_num_threads(1)
    budget = Budget()
    if args.windows:
        budget = Budget(windows=args.windows, epochs1=budget.epochs1, epochs2=budget.epochs2)
    if args.epochs:
        budget = Budget(windows=budget.windows, epochs1=args.epochs[0], epochs2=args.epochs[1])
    chosen = [v for v in every if v == BASE or v.question.startswith(args.only or "")]
    if len(chosen) < 2:
        raise BadInput(f"--only {args.only}: no row asks that; known: {', '.join(sorted({v.question for v in every}))}")
    if args.table_only:
        files = [args.runs / f"{v.slug}-s{seed}" / "row.json" for v in chosen for seed in args.seeds]
        rows = [Row.read(file) for file in files if file.exists()]
        if not rows:
            raise BadInput(f"--runs {args.runs}: holds no finished row yet; run without --table-only")
        budget = Budget(**rows[0].budget)
    else:
        choice = DataChoice.of(args.data, args.cache, None)
        rows = run_all(chosen, args.seeds, budget, choice, args.runs, progress_console())
    return lines(chosen, rows, BASE), budget


def ablation(args: argparse.Namespace) -> int:
    """Run what is missing, then the table and the picture."""
    from benchmarks.ablation.plot import draw
    from benchmarks.ablation.present import markdown
    from benchmarks.ablation.variants import VARIANTS

    found, budget = _rows(args, VARIANTS)
    known = {line.variant.slug for line in found}
    missing = [f"{v.question}: {v.name}" for v in VARIANTS if v.slug not in known and not args.only]
    notes = [f"Not run yet: {'; '.join(missing)}."] if missing else []
    text = markdown(found, budget, "What each choice is worth", notes)
    _finish(args, "ablation", text, found, draw(found))
    return 0


def published(args: argparse.Namespace) -> int:
    """The same for the faults of the published code."""
    from benchmarks.ablation.published import FAULTS, markdown

    found, budget = _rows(args, FAULTS)
    _finish(args, "published", markdown(found, budget), found, None)
    return 0


def _finish(args: argparse.Namespace, name: str, text: str, found: "list[Line]", picture: bytes | None) -> None:
    sys.stdout.write(text)
    if args.out is None:
        return
    content = {f"{name}.md": text.encode(), f"{name}.json": _json(found)}
    if picture is not None:
        content[f"{name}.png"] = picture
    try:
        args.out.mkdir(parents=True, exist_ok=True)
        for file, data in content.items():
            (args.out / file).write_bytes(data)
    except OSError as error:
        raise BadInput(f"folder {args.out}: cannot be written ({error.strerror}); give another --out") from None


def _json(found: "list[Line]") -> bytes:
    return json.dumps([line.to_dict() for line in found], indent=1).encode() + b"\n"
