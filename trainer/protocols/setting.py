"""What a protocol is run with: recordings, trained runs, folds and seeds."""

import argparse
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from rich.console import Console

from firmware_bridge.block import Signal
from firmware_bridge.errors import BadInput
from trainer.fitting import progress_console
from trainer.preparation import CACHE
from trainer.protocols.student import Student, read_student
from trainer.recordings import data_folder
from trainer.windows import WindowConfig


@dataclass(frozen=True)
class Setting:
    """``runs``: the encoder runs by signal; ``tokenizer``: the run that taught them, None if there is none;
    ``people``: at most so many of each data set and kind, None for all; ``slow``: networks trained per fold, too."""

    data: Path
    cache: Path
    runs: dict[Signal, Path]
    tokenizer: Path | None
    console: Console
    folds: int = 5
    seeds: int = 2
    people: int | None = None
    slow: bool = False

    @cached_property
    def students(self) -> dict[Signal, Student]:
        """The trained encoders; raises :class:`BadInput` where a run cannot be used or reads the other signal."""
        found = {signal: read_student(path, self.tokenizer) for signal, path in self.runs.items()}
        for signal, student in found.items():
            if student.signal != signal:
                raise BadInput(f"run folder {student.run}: reads {student.signal}; a run that reads {signal} is needed")
        return found

    @property
    def windows(self) -> WindowConfig:
        """How the PPG student's windows were cut (the ECG student's, where it is alone): so are the tasks'. Their ECG
        is left where it was recorded."""
        student = self.students["ppg" if "ppg" in self.runs else "ecg"]
        return replace(student.windows, align=False, ecg_delay=0.0)


def read_setting(args: argparse.Namespace) -> Setting:
    """From the arguments of :func:`trainer.protocols.options.protocol_arguments`; raises :class:`BadInput`."""
    run = Path(args.run)
    beside = run.parent
    runs: dict[Signal, Path] = {"ppg": run}
    if args.ecg or (beside / "ecg" / "config.json").exists():
        runs["ecg"] = Path(args.ecg) if args.ecg else beside / "ecg"
    tokenizer = Path(args.tokenizer) if args.tokenizer else beside / "tokenizer"
    if args.folds < 2:
        raise BadInput("--folds: at least 2 folds of people are needed, one to learn from and one to judge")
    return Setting(
        data=data_folder(args.data),
        cache=Path(args.cache) if args.cache else CACHE,
        runs=runs,
        tokenizer=tokenizer if args.tokenizer or tokenizer.is_dir() else None,
        console=progress_console(),
        folds=args.folds,
        seeds=args.seeds,
        people=args.people,
        slow=args.slow,
    )
