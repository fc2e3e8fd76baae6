"""`pulsecode train respiration`."""

import argparse
from pathlib import Path

from trainer.actions.options import positive

HELP = "the device's respiratory rate, from BIDMC's annotated breaths"


def configure(parser: argparse.ArgumentParser) -> None:
    """The options."""
    parser.add_argument("--out", required=True, metavar="RUN", help="run folder, e.g. runs/default/respiration")
    parser.add_argument("--heads", metavar="RUN", help="the heads run whose quality model says when a rate is valid "
                                                       "(default: heads beside --out, where there is one)")  # fmt: skip
    parser.add_argument("--data", metavar="DIR", help="folder of data sets (PULSECODE_DATA, or ../shared/data)")
    parser.add_argument("--cache", metavar="DIR", help="where prepared windows are kept (default: cache)")
    parser.add_argument("--folds", type=positive, default=10, metavar="K", help="folds of people (default 10)")
    parser.add_argument("--people", type=positive, metavar="N", help="a quick look: N people of each data set and kind")


def run(args: argparse.Namespace) -> int:
    """Fit, judge, and write the run."""
    from trainer.preparation import CACHE
    from trainer.recordings import data_folder

    out = Path(args.out)
    heads = Path(args.heads) if args.heads else out.parent / "heads"
    fit(out, heads, data_folder(args.data), Path(args.cache or CACHE), folds=args.folds, people=args.people)
    return 0


def fit(out: Path, heads: Path, data: Path, cache: Path, *, folds: int = 10, people: int | None = None) -> None:
    """The respiratory model into the run folder ``out``; raises :class:`firmware_bridge.errors.BadInput`."""
    import msgspec

    from trainer.progress import progress_console
    from trainer.ranks import rank
    from trainer.respiration.report import metrics, show, write_report
    from trainer.respiration.run_file import RESPIRATION, RespirationFile
    from trainer.respiration.training import (
        fit_respiration,
        judge_all,
        needs_people,
        quality_model,
        read_material,
        shipping_people,
    )
    from trainer.run_folder import write_json

    if rank() != 0:
        return
    console = progress_console()
    material = read_material(data, cache, quality_model(heads), console, people)
    needs_people(material.windows, folds)
    model = fit_respiration(material.windows.take(shipping_people(material.windows)), folds)
    judged = judge_all(model, material, folds)
    show(judged[0], console)
    write_report(out, judged)
    write_json(out / RESPIRATION, msgspec.to_builtins(RespirationFile(model, metrics(judged[0]))))
    console.print(f"respiration: written into {out}", soft_wrap=True)
