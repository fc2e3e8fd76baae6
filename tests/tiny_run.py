"""A finished run and prepared windows in miniature: what quantization starts from, made of noise."""

import json
from functools import cache
from pathlib import Path

import numpy as np
import tiny_models

from quantize.run import TrainedRun
from quantize.workflow import Outcome, quantize_run
from trainer.run_folder import RunFolder
from trainer.splits import Part, part_of
from trainer.windows import WindowConfig, Windows

HOPS = 12
CONFIG = WindowConfig(hops=HOPS, settle_hops=2)


def people(part: Part, count: int) -> list[str]:
    """Names that the split sends to ``part``."""
    names = (f"p{i}" for i in range(10_000))
    return [name for name in names if part_of("bidmc", name) == part][:count]


def windows() -> Windows:
    """Four windows each of a few people per part, and of eight held-out subjects, half of them in ``AF`` folders."""
    recordings = [
        {"dataset": "bidmc", "group": "bidmc", "name": name, "patient": name}
        for part, count in (("train", 4), ("validation", 3), ("test", 4))
        for name in people(part, count)  # type: ignore[arg-type]
    ]
    recordings += [
        {"dataset": "mimic_perform_af", "group": group, "name": f"{group}{i}", "patient": f"{group}{i}"}
        for group in ("AF_wfdb", "Non_AF_wfdb")
        for i in range(4)
    ]
    each = 4
    rows = np.concatenate([tiny_models.patches(each * HOPS, seed) for seed in range(len(recordings))])
    first = np.arange(len(recordings) * each) * HOPS
    return Windows(
        ppg_hops=rows,
        ecg_hops=rows,
        hops=HOPS,
        first=first,
        start=first % (each * HOPS),
        recording=np.repeat(np.arange(len(recordings)), each),
        verdict=np.zeros(len(first), np.int8),
        recordings=recordings,
    )


def run() -> TrainedRun:
    evaluation = {"student": {"top1": {"value": 0.25, "low": 0.2, "high": 0.3, "patients": 4}}}
    return TrainedRun("tiny/ppg", "ppg", tiny_models.encoder(), CONFIG, evaluation)


@cache
def outcome() -> Outcome:
    return quantize_run(run(), windows(), methods=("static", "dynamic"), engines=("litert", "onnx"), limit=9)


def write_run(folder: Path) -> Path:
    """The folder of a run as the trainer leaves it, behind the real front end."""
    config = {
        "kind": "encoder",
        "signal": "ppg",
        "model": tiny_models.CONFIG.to_dict(),
        "windows": json.loads(json.dumps(WindowConfig().to_dict())),
    }
    run_folder = RunFolder(folder)
    run_folder.start(config, resume=False)
    run_folder.save_weights("encoder", tiny_models.encoder())
    return folder
