"""A run folder of a fine-tuned encoder: trained on some people, judged on others, saved so that it can be asked.

Who learns and who judges is settled beforehand by :mod:`trainer.splits`: the test people of the paired data sets and
of MIT-BIH judge, and of MIMIC PERform AF the half that nothing is ever chosen on. Of the others, a share chooses when
to stop.
"""

import io
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.figure import Figure
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from firmware_bridge.block import Signal
from firmware_bridge.errors import BadInput
from trainer.bootstrap import Interval
from trainer.encoder import Encoder, EncoderConfig
from trainer.plots import ECG, FADED, INK, STYLE
from trainer.progress import progress_bar
from trainer.protocols.finetune import Start, Tuned, finetune
from trainer.protocols.learning import Budget, Target, said_by
from trainer.protocols.neural import Neural
from trainer.protocols.scores import Resampling, draws_of, interval
from trainer.protocols.student import Student
from trainer.protocols.task import F32, F64, Bools, Task
from trainer.run_folder import RunFolder, write_json
from trainer.splits import in_choosing_half, part_of

FILE = "evaluation.json"


def judges(people: np.ndarray) -> Bools:
    """True at the rows, (n,), of ``dataset/patient`` who judge; everybody else may be learned from."""
    found = {}
    for person in np.unique(people).tolist():
        dataset, patient = person.split("/", 1)
        part = part_of(dataset, patient)
        found[person] = not in_choosing_half(patient) if part == "held_out" else part == "test"
    return np.array([found[person] for person in people.tolist()], dtype=bool)


@dataclass(frozen=True)
class Finetuned:
    """What a finished run can be asked: ``task`` (its name), ``classes`` or ``unit``, and the network."""

    task: str
    signal: Signal
    classes: tuple[str, ...]
    unit: str
    network: Tuned
    target: Target

    def predict(self, patches: F32) -> F64:
        """(n, hops, hop) → values in ``unit``, (n,), or probabilities, (n, classes)."""
        return self.target.decode(said_by(self.network, torch.from_numpy(patches)[:, None]))


def load_finetuned(path: Path) -> Finetuned:
    """Read a finished run; raises :class:`BadInput`."""
    run = RunFolder(path)
    config = run.config("finetune")
    try:
        signal: Signal = config["signal"]
        target = Target(config["target"]["kind"], int(config["target"]["outputs"]), float(config["target"]["mean"]),
                        float(config["target"]["spread"]))  # fmt: skip
        encoders: dict[Signal, Encoder] = {signal: Encoder(EncoderConfig(**config["model"]))}
        network = Tuned(encoders, target.outputs, frozen=False)
        found = Finetuned(config["task"], signal, tuple(config["classes"]), config["unit"], network, target)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise BadInput(f"run folder {path}: config.json: fine-tuned model cannot be built ({error})") from None
    run.load_weights("finetune", network)
    network.eval()
    return found


def _config(student: Student, task: Task, start: Start, budget: Budget, seed: int, method: Neural) -> dict[str, Any]:
    target, network = method.solved()
    assert isinstance(network, Tuned)
    encoder = network.encoders[0]
    assert isinstance(encoder, Encoder)
    return {
        "kind": "finetune",
        "task": task.name,
        "coverage": task.coverage,
        "signal": student.signal,
        "classes": list(task.classes),
        "unit": task.unit,
        "start": start,
        "encoder_sha256": student.identity,
        "model": encoder.config.to_dict(),
        "target": {"kind": target.task_kind, "outputs": target.outputs, "mean": target.mean, "spread": target.spread},
        "fit": {**budget.to_dict(), "seed": seed},
        "cost": asdict(method.cost),
        "windows": student.windows.to_dict(),
    }


def _metrics(task: Task, rows: Bools, predictions: F64) -> dict[str, Interval]:
    resampling = Resampling(task.people[rows])
    everything = np.full((1, len(task), *predictions.shape[1:]), np.nan)
    everything[0, rows] = predictions
    return {m: interval(v, len(resampling)) for m, v in draws_of(task, everything, rows, resampling).items()}


def train_finetuned(
    out: Path, student: Student, task: Task, start: Start, budget: Budget, seed: int, console: Console
) -> dict[str, Interval]:
    """Fine-tune ``student`` on ``task`` into the new run folder ``out``; returns the metrics on the judging people.

    Raises :class:`BadInput` if ``out`` holds a run already or cannot be written, or nobody is left to learn or judge.
    """
    run = RunFolder(out)
    if (out / "config.json").exists():
        raise BadInput(f"run folder {out}: already holds a run; give another --out")
    try:
        run.checkpoints.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(f"run folder {out}: cannot be written ({error.strerror})") from None
    judging = judges(task.people)
    for who, rows in (("judge", judging), ("learn from", ~judging)):
        if not rows.any() or (task.kind == "classification" and len(np.unique(task.labels[rows])) < len(task.classes)):
            raise BadInput(f"task {task.name}: the people to {who} do not show every class; give more recordings")
    learning = np.flatnonzero(~judging)
    torch.manual_seed(seed)
    with progress_bar(console) as progress:
        bar = progress.add_task(f"{task.name}: {student.signal} encoder, {start}", total=budget.windows)
        method = finetune(
            {student.signal: student.encoder},
            start,
            budget,
            watch=lambda done, of: progress.update(bar, completed=done),
        )
        method.fit(task, learning)
    predictions = method.predict(task, np.flatnonzero(judging))
    metrics = _metrics(task, judging, predictions)
    run.start(_config(student, task, start, budget, seed, method), resume=False)
    write_json(out / "history.json", method.history)
    people = {"learned from": len(np.unique(task.people[~judging])), "judged": len(np.unique(task.people[judging]))}
    write_json(out / FILE, {"task": task.name, "people": people, "windows": int(judging.sum()),
                            "metrics": {name: asdict(value) for name, value in metrics.items()}})  # fmt: skip
    run.plots.mkdir(exist_ok=True)
    (run.plots / "finetune.png").write_bytes(_picture(task, task.labels[judging], predictions, method.history))
    run.save_weights("finetune", method.solved()[1])  # last: their presence says the run is finished
    console.print(f"finetune: {run.weights('finetune')}; {method.cost}", soft_wrap=True)
    _show(task, metrics, people, int(judging.sum()))
    return metrics


def _show(task: Task, metrics: dict[str, Interval], people: dict[str, int], windows: int) -> None:
    unit = f", {task.unit}" if task.unit else ""
    table = Table(title=f"{task.name}{unit} (95 % interval over people)", title_justify="left", box=SIMPLE_HEAD)
    table.add_column("")
    table.add_column("value")
    for name, value in metrics.items():
        table.add_row(name, str(value))
    console = Console()
    console.print(table)
    console.print(f"{windows:,} windows of {people['judged']} people that nothing learned from or stopped on; "
                  f"{people['learned from']} people learned from.", style="dim")  # fmt: skip


def _picture(task: Task, truth: F64, predictions: F64, history: list[dict[str, float]]) -> bytes:
    """Losses on the way, and what was said of the judging people against the truth."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(9, 3.6), layout="constrained")
        left, right = figure.subplots(1, 2)
        for name, colour in (("train_loss", FADED), ("stop_loss", INK)):
            known = [(entry["epoch"], entry[name]) for entry in history if name in entry]
            if known:
                left.plot(*zip(*known, strict=True), color=colour, label=name.replace("_", " "))
        left.set(title="Loss", xlabel="epoch")
        left.legend()
        if task.kind == "regression":
            right.plot(truth, predictions, ".", color=ECG, markersize=2)
            ends = [float(truth.min()), float(truth.max())]
            right.plot(ends, ends, color=INK, linewidth=0.8)
            right.set(title=f"{task.name}, people who judge", xlabel=f"true, {task.unit}", ylabel=f"said, {task.unit}")
        else:
            for index, name in enumerate(task.classes):
                right.hist(predictions[truth == index, -1], bins=np.linspace(0, 1, 26).tolist(), density=True,
                           histtype="step", label=f"truly {name}")  # fmt: skip
            right.set(
                title=f"{task.name}, people who judge", xlabel=f"probability of {task.classes[-1]}", ylabel="density"
            )
            right.legend()
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png")
    return buffer.getvalue()
