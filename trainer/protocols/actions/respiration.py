"""`pulsecode evaluate respiration`."""

import argparse
from pathlib import Path

from trainer.protocols.options import data_arguments, positive

HELP = "respiratory rate of the device: by modulation, fused, learned; BIDMC and MIMIC PERform AF"


def configure(parser: argparse.ArgumentParser) -> None:
    """Its arguments."""
    parser.add_argument("--run", required=True, metavar="RUN", help="a finished run of `pulsecode train respiration`")
    parser.add_argument("--heads", metavar="RUN", help="the heads run whose quality model says when a rate is valid "
                                                       "(default: heads beside --run, where there is one)")  # fmt: skip
    data_arguments(parser)
    parser.add_argument("--folds", type=positive, default=10, metavar="K", help="folds of people (default 10)")
    parser.add_argument("--people", type=positive, metavar="N", help="a quick look: N people of each data set and kind")
    parser.add_argument("--out", type=Path, metavar="DIR", help="write the tables and pictures there")


def run(args: argparse.Namespace) -> int:
    """Print the tables and, with ``--out``, write them."""
    from rich.console import Console

    from trainer.preparation import CACHE
    from trainer.progress import progress_console
    from trainer.recordings import data_folder
    from trainer.respiration.report import show, write_report
    from trainer.respiration.run_file import load_respiration
    from trainer.respiration.training import judge_all, needs_people, quality_model, read_material

    console, folder = progress_console(), Path(args.run)
    model = load_respiration(folder).model
    heads = Path(args.heads) if args.heads else folder.parent / "heads"
    material = read_material(
        data_folder(args.data), Path(args.cache or CACHE), quality_model(heads), console, args.people
    )
    needs_people(material.windows, args.folds)
    judged = judge_all(model, material, args.folds)
    show(judged[0], Console())
    if args.out is not None:
        write_report(args.out, judged)
        console.print(f"respiration: written into {args.out}", soft_wrap=True)
    return 0
