"""`pulsecode train finetune`: all weights of a student, for one labelled task."""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from trainer.actions.options import positive, rate

if TYPE_CHECKING:
    from trainer.protocols.setting import Setting
    from trainer.protocols.task import Task

HELP = "a student with all its weights moved, for one labelled task"
TASKS = ("bidmc-hr", "bidmc-rr", "perform-af", "mitdb-ectopy", "mitdb-rhythm")
STARTS = ("tuned", "frozen", "random")


def configure(parser: argparse.ArgumentParser) -> None:
    """The options."""
    parser.add_argument("--run", required=True, metavar="RUN", help="a finished encoder run")
    parser.add_argument("--task", required=True, choices=TASKS)
    parser.add_argument("--out", required=True, type=Path, metavar="RUN", help="run folder, e.g. runs/hr")
    told = "all weights, from the student's (tuned); its head alone (frozen); all, from chance (random)"
    parser.add_argument("--start", choices=STARTS, default="tuned", help=told)
    parser.add_argument("--windows", type=positive, metavar="N", help="how many windows are shown at most")
    parser.add_argument("--lr", type=rate, help="peak learning rate of the head; the body's is lower")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--data", metavar="DIR", help="folder of WFDB data sets (PULSECODE_DATA, or ../shared/data)")
    parser.add_argument("--cache", metavar="DIR", help="where prepared windows are kept (default: cache)")


def _task(name: str, setting: "Setting") -> "Task":
    from trainer.protocols.tasks_af import atrial_fibrillation
    from trainer.protocols.tasks_bidmc import heart_rate, respiratory_rate
    from trainer.protocols.tasks_mitdb import mitdb_tasks

    if name.startswith("mitdb"):
        ectopy, rhythm, *_ = mitdb_tasks(setting.data, setting.cache, setting.windows)
        return ectopy if name == "mitdb-ectopy" else rhythm
    made = {"bidmc-hr": heart_rate, "bidmc-rr": respiratory_rate, "perform-af": atrial_fibrillation}
    return made[name](setting)


def run(args: argparse.Namespace) -> int:
    """Train, judge on other people, save."""
    from firmware_bridge.errors import BadInput
    from trainer.finetuned import train_finetuned
    from trainer.preparation import CACHE
    from trainer.progress import progress_console
    from trainer.protocols.finetune import DEFAULT_BUDGET
    from trainer.protocols.setting import Setting
    from trainer.protocols.student import read_student
    from trainer.recordings import data_folder

    console, path = progress_console(), Path(args.run)
    student = read_student(path, None)
    if args.task.startswith("mitdb") and student.signal != "ecg":
        raise BadInput(f"run folder {path}: reads the PPG, and MIT-BIH has none; give an ECG student's run")
    cache = Path(args.cache) if args.cache else CACHE
    setting = Setting(data_folder(args.data), cache, {student.signal: path}, None, console)
    given = {"windows": args.windows, "lr": args.lr}
    budget = replace(DEFAULT_BUDGET, **{name: value for name, value in given.items() if value is not None})
    train_finetuned(args.out, student, _task(args.task, setting), args.start, budget, args.seed, console)
    return 0
