"""A protocol from end to end: tasks, the methods compared on them, their scores, and what is written."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from trainer.bootstrap import Interval
from trainer.protocols import folds as folds_module
from trainer.protocols.cache import Arrays, digest, kept
from trainer.protocols.folds import out_of_fold
from trainer.protocols.scores import Resampling, draws_of, interval, lower_is_better
from trainer.protocols.setting import Setting
from trainer.protocols.task import F64, Bools, MakeMethod, Task

ALL = "all"


@dataclass(frozen=True)
class Candidate:
    """A row of a table. ``make`` builds a fresh method for each fold. ``key``: all that its predictions depend on
    beside the task and the source of its method's own module and of ``uses`` (weights, options): they are kept by it.
    ``note`` says what it is; ``slow``: only with ``--slow``."""

    name: str
    make: MakeMethod
    key: str = ""
    uses: tuple[ModuleType, ...] = ()
    note: str = ""
    slow: bool = False


Candidates = Callable[[Setting, Task], list[Candidate]]


@dataclass(frozen=True)
class Protocol:
    """``name``: the files' stem. ``against``: the row that every other one is compared with. ``remarks``: what has to
    be said of the runs that are judged, made when they are."""

    name: str
    title: str
    tasks: Callable[[Setting], list[Task]]
    candidates: Sequence[Candidates]
    against: str
    remarks: Callable[[Setting], list[str]] = lambda setting: []


@dataclass(frozen=True)
class Score:
    """One metric of one row on one subset: its interval, and the paired difference to the row ``against`` (that row
    minus this one; None for itself). ``verdict``: 'better' or 'worse' where the difference's interval excludes 0."""

    subset: str
    metric: str
    value: Interval
    difference: Interval | None
    verdict: str


@dataclass(frozen=True)
class Row:
    """``seconds``: processor time of all folds and seeds; ``spread``: the metric's values by seed, on all windows."""

    method: str
    note: str
    seconds: float
    scores: list[Score]
    spread: dict[str, list[float]]

    def score(self, metric: str, subset: str = ALL) -> Score | None:
        """The score of ``metric`` on ``subset``, if there is one."""
        return next((s for s in self.scores if (s.metric, s.subset) == (metric, subset)), None)


@dataclass(frozen=True)
class Result:
    """All rows of one task. ``sizes``: windows and people of each subset."""

    task: str
    kind: str
    unit: str
    coverage: str
    sizes: dict[str, tuple[int, int]]
    folds: int
    seeds: int
    against: str
    rows: list[Row]


@dataclass(frozen=True)
class Report:
    """What a protocol found, and on what."""

    name: str
    title: str
    machine: str
    runs: dict[str, str]
    remarks: list[str]
    results: list[Result] = field(default_factory=list)


def predictions_of(candidate: Candidate, task: Task, setting: Setting, advance: Callable[[], None]) -> Arrays:
    """Out-of-fold ``predictions`` (seeds, n[, classes]) and ``seconds``, made once and kept."""
    method = sys.modules[type(candidate.make()).__module__]

    def make() -> Arrays:
        found = out_of_fold(candidate.make, task, setting.folds, setting.seeds, advance)
        return {"predictions": found.predictions, "seconds": np.array(found.seconds)}

    told = (task.name, task.labels, task.people, *(a for a in (task.ppg, task.ecg) if a is not None))
    code = (folds_module, method, *candidate.uses)
    key = digest(candidate.name, candidate.key, setting.folds, setting.seeds, *told, *code)
    return kept(setting.cache, "predictions", key, make)


def subsets_of(task: Task) -> dict[str, Bools]:
    """All windows, and the task's subsets that have at least two people (and two classes, where it has classes)."""
    everything = {ALL: np.ones(len(task), dtype=bool), **task.subsets}
    return {
        name: rows
        for name, rows in everything.items()
        if len(np.unique(task.people[rows])) >= 2
        and (task.kind == "regression" or len(np.unique(task.labels[rows])) >= 2)
    }


def judge(task: Task, candidates: Sequence[Candidate], against: str, setting: Setting) -> Result:
    """Every candidate on one task, with the same folds, the same people drawn, and its difference to ``against``."""
    console = setting.console
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    made: dict[str, Arrays] = {}
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        steps = setting.folds * setting.seeds
        bar = progress.add_task("", total=steps * len(candidates))
        for i, candidate in enumerate(candidates):
            progress.update(bar, description=f"{task.name}: {candidate.name}", completed=i * steps)
            made[candidate.name] = predictions_of(candidate, task, setting, lambda: progress.advance(bar))
            if not console.is_terminal:
                console.print(f"{task.name}: {candidate.name}: done", soft_wrap=True)
    drawn: dict[str, dict[tuple[str, str], F64]] = {name: {} for name in made}
    sizes = {}
    for subset, rows in subsets_of(task).items():
        resampling = Resampling(task.people[rows])
        sizes[subset] = (int(rows.sum()), len(resampling))
        for name, arrays in made.items():
            found = draws_of(task, np.asarray(arrays["predictions"], np.float64), rows, resampling)
            drawn[name] |= {(subset, metric): values for metric, values in found.items()}
    table = [
        Row(
            c.name,
            c.note,
            float(made[c.name]["seconds"]),
            paired_scores(drawn, c.name, against, sizes),
            _spread(task, made[c.name]),
        )
        for c in candidates
    ]
    return Result(task.name, task.kind, task.unit, task.coverage, sizes, setting.folds, setting.seeds, against, table)


def paired_scores(
    drawn: dict[str, dict[tuple[str, str], F64]], name: str, against: str, sizes: dict[str, tuple[int, int]]
) -> list[Score]:
    """Every metric of the row ``name`` with its interval and its paired difference to ``against``; ``drawn``: row →
    (subset, metric) → values under every draw; ``sizes``: windows and people of each subset."""
    scores = []
    for (subset, metric), values in drawn[name].items():
        people = sizes[subset][1]
        difference, verdict = None, ""
        if name != against and against in drawn:
            difference = interval(drawn[against][subset, metric] - values, people)
            if difference.low > 0 or difference.high < 0:
                better = (difference.low > 0) == lower_is_better(metric)  # than the row that is compared against
                verdict = "better" if better else "worse"
        scores.append(Score(subset, metric, interval(values, people), difference, verdict))
    return scores


def _spread(task: Task, arrays: Arrays) -> dict[str, list[float]]:
    everybody = Resampling(task.people, draws=0)
    rows = np.ones(len(task), dtype=bool)
    by_seed = [draws_of(task, np.asarray([one], np.float64), rows, everybody) for one in arrays["predictions"]]
    return {metric: [float(found[metric][0]) for found in by_seed] for metric in by_seed[0]}


def run_protocol(protocol: Protocol, setting: Setting, out: Path | None) -> Report:
    """Run ``protocol``, print its tables, and write them into ``out``; raises :class:`BadInput`."""
    from trainer.protocols.machine import machine
    from trainer.protocols.table import show, write

    runs: dict[str, str] = {signal: str(path) for signal, path in setting.runs.items()}
    report = Report(protocol.name, protocol.title, machine(), runs, protocol.remarks(setting))
    for task in protocol.tasks(setting):
        candidates = [c for some in protocol.candidates for c in some(setting, task) if setting.slow or not c.slow]
        report.results.append(judge(task, candidates, protocol.against, setting))
    show(report, Console())
    if out is not None:
        write(report, out)
        setting.console.print(f"{protocol.name}: written into {out}", soft_wrap=True)
    return report
