"""A small data folder of synthetic WFDB recordings, so that training is tested without the real ones."""

from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console
from synthetic_recordings import paired_signals, write_record

from trainer.stages import DataChoice, Prepared, prepare


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    """Models this small only lose by sharing their work between threads."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def synthetic_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty people of one data set, 65 s each, at different heart rates."""
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    for i in range(20):
        ppg, ecg = paired_signals(65, 55 + 3 * i)
        noise = rng.normal(0, 0.02, (2, len(ppg)))
        write_record(folder / "synthetic", f"r{i:02d}", ppg + noise[0], ecg + noise[1])
    return folder


@pytest.fixture(scope="session")
def prepared(synthetic_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    """The windows of :func:`synthetic_data`."""
    choice = DataChoice(synthetic_data, tmp_path_factory.mktemp("cache"))
    return prepare(choice, Console(quiet=True))
