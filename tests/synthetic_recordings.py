"""Steady hearts as WFDB records: what the trainer's tests learn from."""

from pathlib import Path

import numpy as np
import wfdb

from trainer.quantizers import QuantizerConfig
from trainer.tokenizer import TokenizerConfig

RATE = 125.0
SMALL = TokenizerConfig(dim=16, heads=2, mlp=2, quantizer=QuantizerConfig(size=32, dim=8, start_after=2))


def paired_signals(seconds: float, bpm: float, rate: float = RATE, delay: float = 0.3) -> tuple[np.ndarray, np.ndarray]:
    """PPG and ECG of a steady heart: narrow R peaks, and a pulse that follows ``delay`` seconds later."""
    t = np.arange(round(seconds * rate)) / rate
    phase = t * bpm / 60
    ecg = np.exp(-0.5 * (((phase % 1) - 0.5) / 0.02) ** 2)
    ppg = np.sin(2 * np.pi * (phase - delay * bpm / 60)) + 0.2 * np.sin(4 * np.pi * (phase - delay * bpm / 60))
    return ppg, ecg


def write_record(
    folder: Path, name: str, ppg: np.ndarray, ecg: np.ndarray, comments: list[str] | None = None, rate: float = RATE
) -> None:
    """A two-channel WFDB record in physical units; NaN becomes WFDB's missing sample."""
    folder.mkdir(parents=True, exist_ok=True)
    wfdb.wrsamp(
        name, fs=rate, units=["NU", "mV"], sig_name=["PLETH,", "II,"], p_signal=np.stack([ppg, ecg], 1),
        fmt=["16", "16"], comments=comments or [], write_dir=str(folder),
    )  # fmt: skip
