"""What a finished encoder run brings to quantization."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.frontend import FrontendConfig
from firmware_bridge.block import Signal
from firmware_bridge.errors import BadInput
from trainer.encoder import Encoder
from trainer.heads.run_file import HEADS, HeadsFile, load_heads, load_readouts
from trainer.respiration.run_file import RESPIRATION, RespirationFile, load_respiration
from trainer.run_folder import RunFolder
from trainer.stages import file_sha256, load_student
from trainer.windows import WindowConfig, saved_config

RUNS = Path("runs")


@dataclass(frozen=True)
class TrainedRun:
    """An encoder with its weights (in evaluation mode), how its windows were cut and behind which front end, and the
    run's own ``evaluation.json`` (empty if it was never evaluated). ``heads``: what the device judges with, from
    ``heads.json`` in the run's folder, beside it or in a run ``heads`` beside it; ``readouts``: their table, where they
    read the embedding. ``respiration``: the same for ``respiration.json`` and a run ``respiration``."""

    name: str
    signal: Signal
    encoder: Encoder
    windows: WindowConfig
    evaluation: dict[str, Any]
    heads: HeadsFile | None = None
    readouts: NDArray[np.float32] | None = None
    respiration: RespirationFile | None = None

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
    saved = saved_config(folder.config("encoder").get("windows"))
    # How the teacher's ECG was put beside the PPG does not change what the student reads.
    if saved is None or replace(saved, align=windows.align, ecg_delay=windows.ecg_delay) != windows:
        raise BadInput(
            f"run {path}: config.json: windows were cut in another way than this version does; train it again"
        )
    if encoder.config.hop != windows.hop:
        raise BadInput(f"run {path}: config.json: the model's hop is {encoder.config.hop}, the windows' {windows.hop}")
    for parameter in encoder.parameters():
        parameter.requires_grad_(False)
    heads, readouts = _heads(path, signal)
    if heads is not None and readouts is not None and heads.encoder_sha256 != file_sha256(folder.weights("encoder")):
        raise BadInput(
            f"run {path}: its heads read another encoder's embedding; make them again with "
            f"`pulsecode train heads --run {path} --out {path.parent / 'heads'}`"
        )
    return TrainedRun(
        _name(path), signal, encoder, windows, _evaluation(path), heads, readouts, find_respiration(path, signal)
    )


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


def _heads(path: Path, signal: Signal) -> tuple[HeadsFile | None, NDArray[np.float32] | None]:
    """The heads judge a pulse wave, so only a PPG encoder's bundle carries them."""
    beside = path.resolve().parent
    for folder in (path, beside, beside / "heads"):
        if signal == "ppg" and (folder / HEADS).exists():
            heads = load_heads(folder)
            return heads, load_readouts(folder) if heads.readout else None
    return None, None


def find_respiration(path: Path, signal: Signal) -> RespirationFile | None:
    """The respiration model in the run's folder, beside it or in a run ``respiration`` beside it; for a pulse wave."""
    beside = path.resolve().parent
    for folder in (path, beside, beside / "respiration"):
        if signal == "ppg" and (folder / RESPIRATION).exists():
            return load_respiration(folder)
    return None
