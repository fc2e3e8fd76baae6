"""What a finished encoder run brings to quantization."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge.frontend import FrontendConfig
from firmware_bridge.block import Signal
from firmware_bridge.errors import BadInput
from trainer.device_heads import HEADS, HeadsFile, load_heads
from trainer.encoder import Encoder
from trainer.run_folder import RunFolder
from trainer.stages import load_student
from trainer.windows import WindowConfig

RUNS = Path("runs")


@dataclass(frozen=True)
class TrainedRun:
    """An encoder with its weights (in evaluation mode), how its windows were cut and behind which front end, and the
    run's own ``evaluation.json`` (empty if it was never evaluated). ``heads``: the device's quality and rhythm models,
    from ``heads.json`` in the run's folder, beside it or in a run ``heads`` beside it."""

    name: str
    signal: Signal
    encoder: Encoder
    windows: WindowConfig
    evaluation: dict[str, Any]
    heads: HeadsFile | None = None

    @property
    def frontend(self) -> FrontendConfig:
        """The front end that the encoder was trained behind."""
        return self.windows.frontend(self.signal)


def find_run(text: str, runs: Path = RUNS) -> Path:
    """The folder of a run given by path or by its name under ``runs``; raises :class:`BadInput`."""
    for path in (Path(text), runs / text):
        if path.is_dir():
            return path
    known = sorted(path.parent.relative_to(runs).as_posix() for path in runs.rglob("encoder.safetensors"))
    hint = f"finished runs in {runs}: {', '.join(known)}" if known else "make one with `pulsecode train default`"
    raise BadInput(f"run {text!r}: no such folder; {hint}")


def load_run(path: Path) -> TrainedRun:
    """Read an encoder run's folder; raises :class:`BadInput` naming the file and field that does not fit."""
    folder = RunFolder(path)
    encoder, signal = load_student(folder)
    windows = WindowConfig()
    if folder.config("encoder").get("windows") != json.loads(json.dumps(windows.to_dict())):
        raise BadInput(
            f"run {path}: config.json: windows were cut in another way than this version does; train it again"
        )
    if encoder.config.hop != windows.hop:
        raise BadInput(f"run {path}: config.json: the model's hop is {encoder.config.hop}, the windows' {windows.hop}")
    for parameter in encoder.parameters():
        parameter.requires_grad_(False)
    return TrainedRun(_name(path), signal, encoder, windows, _evaluation(path), _heads(path, signal))


def _name(path: Path) -> str:
    """``default/ppg`` for ``…/runs/default/ppg``; no machine's paths in what is published."""
    parts = path.resolve().parts
    below = [i for i, part in enumerate(parts[:-1]) if part == RUNS.name]
    return "/".join(parts[below[-1] + 1 :] if below else parts[-1:])


def _evaluation(path: Path) -> dict[str, Any]:
    file = path / "evaluation.json"
    if not file.exists():
        return {}
    try:
        evaluation = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise BadInput(f"run file {file}: cannot be read ({error}); evaluate the run again") from None
    if not isinstance(evaluation, dict):
        raise BadInput(f"run file {file}: is not a JSON object; evaluate the run again")
    return evaluation


def _heads(path: Path, signal: Signal) -> HeadsFile | None:
    """The heads judge a pulse wave, so only a PPG encoder's bundle carries them."""
    beside = path.resolve().parent
    for folder in (path, beside, beside / "heads"):
        if signal == "ppg" and (folder / HEADS).exists():
            return load_heads(folder)
    return None
