"""Two processes under torchrun against one, on the CPU, over gloo.

What differs is the order of float sums. Stage 1 has neither dropout nor noise, so its loss curve is the same to five
digits; stage 2 is compared with both turned off.
"""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rank_worker
import torch
from safetensors.torch import load_file

from firmware_bridge.errors import BadInput
from trainer import ranks
from trainer.fitting import FitConfig, TensorRows, eval_batches, train_batches
from trainer.phases import PhasedRows
from trainer.run_folder import RunFolder


def same_curve(one: RunFolder, other: RunFolder) -> None:
    ours, theirs = one.history(), other.history()
    assert len(ours) == len(theirs) == 2
    for name in ours[0]:
        np.testing.assert_allclose(
            [entry[name] for entry in ours], [entry[name] for entry in theirs], err_msg=name, rtol=1e-4, atol=1e-5
        )


@pytest.fixture(scope="module")
def runs(synthetic_data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """What one process made, and what two did."""
    out, cache = tmp_path_factory.mktemp("torchrun"), tmp_path_factory.mktemp("torchrun-cache")
    given = (str(synthetic_data), str(cache))
    start = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"]
    quiet = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    done = subprocess.run(
        [*start, rank_worker.__file__, str(out / "two"), *given],
        env=os.environ | quiet, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("preparing the windows") == 1, "rank 0 alone prepares"
    assert done.stderr.count("tokenizer epoch 1/2") == 1, "and speaks"
    rank_worker.work(out / "one", *map(Path, given))
    return out / "one", out / "two"


@pytest.fixture(scope="module")
def found(runs: tuple[Path, Path]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """What the only process saw, and what each of two did."""
    one, two = runs
    return json.loads((one / "0.json").read_text()), [json.loads((two / f"{r}.json").read_text()) for r in (0, 1)]


def test_the_command_gives_the_loss_curve_of_one_process(runs: tuple[Path, Path]) -> None:
    one, two = (RunFolder(path / "tokenizer") for path in runs)
    assert one.config("tokenizer") == two.config("tokenizer")
    same_curve(one, two)
    alone, together = (load_file(run.weights("tokenizer")) for run in (one, two))
    for name, tensor in alone.items():
        torch.testing.assert_close(together[name], tensor, rtol=1e-3, atol=1e-4, msg=name)
    with np.load(one.tokens) as a, np.load(two.tokens) as b:
        assert (a["tokens"] == b["tokens"]).mean() > 0.999
    assert sorted(p.name for p in two.path.rglob("*")) == sorted(p.name for p in one.path.rglob("*"))


def test_a_student_without_noise_too(runs: tuple[Path, Path]) -> None:
    same_curve(*(RunFolder(path / "student") for path in runs))


def test_ranks_hold_one_codebook_the_one_of_a_single_process(runs: tuple[Path, Path]) -> None:
    one, two = runs
    expected = load_file(one / "0.safetensors")
    first, second = (load_file(two / f"{rank}.safetensors") for rank in (0, 1))
    assert len(expected) == 4 + 4 + 8
    for name, tensor in expected.items():
        assert torch.equal(first[name], second[name]), name  # the same bits
        torch.testing.assert_close(first[name], tensor, rtol=1e-4, atol=1e-5, msg=name)


def test_each_batch_is_shared_out_and_validation_has_every_row_once(
    found: tuple[dict[str, Any], list[dict[str, Any]]],
) -> None:
    alone, both = found
    assert [(some["rank"], some["world"]) for some in both] == [(0, 2), (1, 2)]
    for epoch in ("epoch 0", "epoch 1"):
        joined = [a + b for a, b in zip(*(some["rows"][epoch] for some in both), strict=True)]
        assert joined == alone["rows"][epoch]
        assert len(joined) == 3 and all(len(batch) == 8 for batch in joined)
    assert alone["rows"]["epoch 0"] != alone["rows"]["epoch 1"]
    validated = [row for some in both for batch in some["rows"]["validation"] for row in batch]
    assert sorted(validated) == list(range(29))
    assert both[0]["shared_out"] == both[1]["shared_out"] == [[x * x, x % 2] for x in range(5)]
    assert both[0]["by_name"] == both[1]["by_name"] == {"all": 2, "0": 7, "1": 7}


@pytest.fixture
def alone_under_torchrun(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """The environment of the only process of a torchrun."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    for name, value in {"TORCHELASTIC_RUN_ID": "test", "RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0",
                        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    return monkeypatch


def test_one_process_a_machine_says_what_is_wrong(alone_under_torchrun: pytest.MonkeyPatch) -> None:
    refused = BadInput("file x: cannot be read; give another")
    with pytest.raises(BadInput, match="file x"), ranks.joined():
        raise refused
    alone_under_torchrun.setenv("LOCAL_RANK", "1")
    with pytest.raises(SystemExit) as ended, ranks.joined():
        raise refused
    assert ended.value.code == 2
    assert not torch.distributed.is_initialized()


def test_a_process_left_alone_ends_with_one_line(alone_under_torchrun: pytest.MonkeyPatch) -> None:
    gone = "[../third_party/gloo/gloo/transport/tcp/pair.cc:547] Connection closed by peer [127.0.0.1]:1234"
    with pytest.raises(ranks.Deserted, match="another process of this training has ended"), ranks.joined():
        raise RuntimeError(gone)
    with pytest.raises(RuntimeError, match="a fault of ours"), ranks.joined():
        raise RuntimeError("a fault of ours")


def test_what_cannot_be_shared_out_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranks, "world_size", lambda: 4)
    three, eight = (PhasedRows((torch.zeros(n, 3, 4),), [0]) for n in (3, 8))
    with pytest.raises(BadInput, match="--batch 6: cannot be shared out evenly among 4 processes"):
        train_batches(eight, FitConfig(epochs=1, batch=6))
    with pytest.raises(BadInput, match="3 training windows are fewer than the 4 processes"):
        train_batches(three, FitConfig(epochs=1, batch=8))
    with pytest.raises(BadInput, match="3 validation windows are fewer than the 4 processes"):
        eval_batches(TensorRows(torch.zeros(3)), 8)
