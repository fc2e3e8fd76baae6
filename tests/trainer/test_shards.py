"""Shards: what is written, and what the loader makes of it, whole, in part, stopped, gone on with and shared out."""

import io
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lightning.pytorch.callbacks import ModelCheckpoint
from rich.console import Console
from synthetic_recordings import SMALL, paired_signals, write_record
from torch import Tensor

from firmware_bridge.block import Signal
from firmware_bridge.cli import main
from firmware_bridge.errors import BadInput
from trainer.data import shards
from trainer.data.shard_index import INDEX, Shard, ShardIndex, load_index, verify
from trainer.data.shard_loader import ShardBatches, shard_batches, shard_eval_batches
from trainer.data.shard_reader import windows_in_memory
from trainer.data.sharded import prepare_shards
from trainer.data.shards import PROGRESS, write_shards
from trainer.fitting import FitConfig, fit_stage
from trainer.phases import PhasedRows
from trainer.progress import Stopped
from trainer.run_folder import RunFolder
from trainer.splits import part_of
from trainer.stage1 import Stage1
from trainer.stage2 import Objective
from trainer.stages import Prepared, phased_student_rows
from trainer.tokenizer import Tokenizer
from trainer.windows import WindowConfig

QUIET = Console(quiet=True)
CONFIG = WindowConfig()
HOPS, HOP = 3, 4


@pytest.fixture(scope="module")
def sharded(synthetic_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The synthetic recordings in shards of eight windows."""
    folder = tmp_path_factory.mktemp("shards") / "s"
    write_shards(synthetic_data, folder, CONFIG, QUIET, rows=8)
    return folder


def numbered(folder: Path, sizes: list[int]) -> ShardIndex:
    """Shards of the train part whose windows are numbered: ``ppg`` says which, ``ecg`` counts the samples."""
    folder.mkdir(parents=True, exist_ok=True)
    index = ShardIndex(folder, "k", {"hops": HOPS, "hop": HOP, "rate": 10.0}, [], {}, [])
    first = 0
    for number, size in enumerate(sizes):
        file = folder / f"train-ok-{number:05d}.parquet"
        columns = {
            "ppg": np.repeat(np.arange(first, first + size, dtype=np.float32)[:, None], HOPS * HOP, 1),
            "ecg": np.tile(np.arange(HOPS * HOP, dtype=np.float32), (size, 1)),
            "start": np.arange(size, dtype=np.int32),
            "verdict": np.zeros(size, np.int8),
            "recording": np.full(size, "d/g/r"),
            "person": np.full(size, "d/p"),
        }
        shards._write_parquet(file, columns)
        apart = -(-size // HOPS)
        index.shards.append(Shard(file.name, "train", True, size, apart, file.stat().st_size, ""))
        first += size
    index.save()
    return index


def ids(batches: list[tuple[Tensor, ...]]) -> list[int]:
    """Which windows, in order; no window is mixed with another, and the samples run on without a step."""
    for ppg, ecg in batches:
        flat = ecg.reshape(len(ecg), -1)
        assert (ppg.reshape(len(ppg), -1).std(1) == 0).all() and (flat.diff(dim=1) == 1).all()
    return [int(number) for ppg, _ in batches for number in ppg[:, 0, 0]]


SIZES = st.lists(st.integers(1, 9), min_size=1, max_size=8)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[tuple[int, ...], ShardIndex]]:
    """Numbered sets by their shards' sizes, so that hypothesis writes each once."""
    sets: dict[tuple[int, ...], ShardIndex] = {}
    yield sets
    for index in sets.values():
        shutil.rmtree(index.folder)


def a_set(made: dict[tuple[int, ...], ShardIndex], base: Path, sizes: list[int]) -> ShardIndex:
    key = tuple(sizes)
    if key not in made:
        made[key] = numbered(base / f"set{len(made)}", sizes)
    return made[key]


@settings(max_examples=20, deadline=None)
@given(sizes=SIZES, buffer=st.integers(1, 30), seed=st.integers(0, 3), epoch=st.integers(0, 3), data=st.data())
def test_every_window_once_an_epoch_and_ranks_share_it_out(
    made: dict[tuple[int, ...], ShardIndex],
    tmp_path_factory: pytest.TempPathFactory,
    sizes: list[int],
    buffer: int,
    seed: int,
    epoch: int,
    data: st.DataObject,
) -> None:
    index = a_set(made, tmp_path_factory.getbasetemp(), sizes)
    total = sum(sizes)
    world = data.draw(st.integers(1, min(3, total)), label="world")
    batch = world * data.draw(st.integers(1, max(1, total // world)), label="share")

    def epoch_of(rank: int, world: int, batch: int) -> list[tuple[Tensor, ...]]:
        batches = ShardBatches(index, "train", batch, True, seed, buffer=buffer, rank=rank, world=world)
        batches.set_epoch(epoch)
        found = list(batches)
        assert len(found) == len(batches)
        return found

    assert sorted(ids(epoch_of(0, 1, 1))) == list(range(total))
    whole = epoch_of(0, 1, batch)
    assert len(set(ids(whole))) == len(ids(whole)) == total // batch * batch
    shares = [epoch_of(rank, world, batch) for rank in range(world)]
    for number, (ppg, ecg) in enumerate(whole):  # the ranks' parts in a row are the batch, cut at the same phases
        torch.testing.assert_close(torch.cat([share[number][0] for share in shares]), ppg)
        torch.testing.assert_close(torch.cat([share[number][1] for share in shares]), ecg)


@settings(max_examples=20, deadline=None)
@given(sizes=SIZES, buffer=st.integers(1, 30), batch=st.integers(1, 6), data=st.data())
def test_stopped_anywhere_it_goes_on_exactly(
    made: dict[tuple[int, ...], ShardIndex],
    tmp_path_factory: pytest.TempPathFactory,
    sizes: list[int],
    buffer: int,
    batch: int,
    data: st.DataObject,
) -> None:
    index = a_set(made, tmp_path_factory.getbasetemp(), sizes)

    def loader() -> ShardBatches:
        return ShardBatches(index, "train", batch, True, 5, buffer=buffer)

    def two_epochs(batches: ShardBatches) -> Iterator[tuple[int, tuple[Tensor, ...]]]:
        for epoch in range(batches.epoch, 2):
            batches.set_epoch(epoch)
            for some in batches:
                yield epoch, some

    expected = [(epoch, ids([some])) for epoch, some in two_epochs(loader())]
    cut = data.draw(st.integers(0, len(expected)), label="cut")
    first = loader()
    walk = two_epochs(first)
    before = [(epoch, ids([some])) for epoch, some in (next(walk) for _ in range(cut))]
    state = json.loads(json.dumps(first.state_dict()))
    walk.close()
    second = loader()
    second.load_state_dict(state)
    after = [(epoch, ids([some])) for epoch, some in two_epochs(second)]
    if cut and cut % len(first) == 0:  # at an epoch's very end the next iteration is a fresh one, as a DataLoader's
        after = [(epoch, some) for epoch, some in after if epoch > state["epoch"]]
    assert before + after == expected


def test_another_iteration_starts_anew_and_epochs_differ(tmp_path: Path) -> None:
    batches = ShardBatches(numbered(tmp_path / "n", [9] * 5), "train", 4, True, buffer=10)
    next(iter(batches))
    assert batches.state_dict()["batches"] == 1
    first = ids(list(batches))
    assert ids(list(batches)) == first
    batches.set_epoch(1)
    assert ids(list(batches)) != first
    with pytest.raises(BadInput, match="belongs to other shards, another batch size or seed"):
        ShardBatches(batches.index, "train", 4, True, seed=1, buffer=10).load_state_dict(batches.state_dict())


def test_memory_holds_two_blocks_at_most(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from trainer.data import shard_loader

    index = numbered(tmp_path / "n", [6] * 20)
    read: list[str] = []
    real = shard_loader.read_shard
    monkeypatch.setattr(shard_loader, "read_shard", lambda i, s, c: (read.append(s.file), real(i, s, c))[1])
    batches = ShardBatches(index, "train", 6, True, buffer=12)
    for number, _ in enumerate(batches):
        # Two shards a block: the one in use, the next one, and no more.
        assert len(read) <= 2 * (number // 2 + 2)
    assert sorted(read) == sorted(shard.file for shard in index.shards)


def test_training_windows_are_those_from_memory(sharded: Path, prepared: Prepared) -> None:
    windows = prepared.part("train", overlap=True)
    batches = shard_batches(sharded, FitConfig(1, batch=1))
    assert batches.windows == len(windows) > 20
    rows = PhasedRows((torch.tensor(windows.ppg), torch.tensor(windows.ecg)), range(CONFIG.hop))
    every = [range(phase * len(windows), (phase + 1) * len(windows)) for phase in range(CONFIG.hop)]
    known = {pair[0].numpy().tobytes() + pair[1].numpy().tobytes(): window
             for some in every for window, pair in enumerate(zip(*rows[list(some)], strict=True))}  # fmt: skip
    found = [known[ppg[0].numpy().tobytes() + ecg[0].numpy().tobytes()] for ppg, ecg in batches]
    assert sorted(found) == list(range(len(windows)))


@pytest.mark.parametrize("gated", [True, False])
def test_evaluation_windows_are_those_from_memory(sharded: Path, prepared: Prepared, gated: bool) -> None:
    windows = prepared.part("validation", gated=gated)
    found = list(shard_eval_batches(sharded, "validation", 4, gated=gated, transform=lambda p, e, ok: (p, e, ok)))
    ppg, ecg, ok = (torch.cat(some).numpy() for some in zip(*found, strict=True))
    assert ok.sum() == windows.ok.sum()
    order, known = np.argsort(ppg[:, 20].sum(1)), np.argsort(windows.ppg[:, 20].sum(1))
    np.testing.assert_array_equal(ppg[order], windows.ppg[known])
    np.testing.assert_array_equal(ecg[order], windows.ecg[known])


def test_windows_in_memory(sharded: Path, prepared: Prepared) -> None:
    back = windows_in_memory(load_index(sharded), ["validation", "test"], 10_000)
    for part in ("validation", "test"):
        mine, known = back.part(part, overlap=True), prepared.windows.part(part, overlap=True)
        assert sorted(zip(mine.patients, mine.start, strict=True)) == sorted(
            zip(known.patients, known.start, strict=True)
        )
    assert len(windows_in_memory(load_index(sharded), ["train"], 8)) <= 16


def test_the_index_and_people(sharded: Path, prepared: Prepared) -> None:
    index = load_index(sharded)
    verify(index)
    for part, people in index.people.items():
        assert {part_of(*person.split("/")) for person in people} == {part}
    everyone = [person for people in index.people.values() for person in people]
    assert len(everyone) == len(set(everyone)) == 20
    assert sum(shard.windows for shard in index.shards) == sum(sum(p.values()) for p in index.people.values())
    assert sum(s.windows for s in index.shards if s.ok) == int(prepared.windows.ok.sum())


def test_interrupted_and_gone_on_it_is_byte_for_byte_the_same(
    synthetic_data: Path, sharded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards, "CHUNK", 8)
    whole = tmp_path / "whole"
    write_shards(synthetic_data, whole, CONFIG, QUIET, rows=8)
    real, cuts = shards.cut, iter(range(1000))

    def stopping(*args: object) -> object:
        if next(cuts) == 13:
            raise KeyboardInterrupt
        return real(*args)

    out = tmp_path / "s"
    monkeypatch.setattr(shards, "cut", stopping)
    with pytest.raises(Stopped, match=r"keeps 8 of 20 recordings; the same command with --resume goes on"):
        write_shards(synthetic_data, out, CONFIG, QUIET, rows=8)
    with pytest.raises(BadInput, match="holds an unfinished run"):
        write_shards(synthetic_data, out, CONFIG, QUIET, rows=8)
    with pytest.raises(BadInput, match="was begun with other recordings, settings or code"):
        write_shards(synthetic_data, out, WindowConfig(hops=40), QUIET, rows=8, resume=True)
    with pytest.raises(BadInput, match="holds no shards"):
        load_index(out)
    write_shards(synthetic_data, out, CONFIG, QUIET, rows=8, resume=True)
    assert next(cuts) == 26  # 14 before, and the 12 that the first eight left
    assert {f.name: f.read_bytes() for f in out.iterdir()} == {f.name: f.read_bytes() for f in whole.iterdir()}
    assert not (out / PROGRESS).exists()


def test_a_recording_that_cannot_be_read_is_left_out_and_named(tmp_path: Path) -> None:
    for i in range(3):
        write_record(tmp_path / "d" / "set", f"r{i}", *paired_signals(65, 60 + i))
    (tmp_path / "d" / "set" / "r1.dat").write_bytes(b"12")
    console = Console(record=True, file=io.StringIO(), width=200)
    index = write_shards(tmp_path / "d", tmp_path / "s", CONFIG, console)
    assert "r1.dat: cannot be read" in console.export_text()
    assert len(load_index(index.folder).left_out) == 1
    assert {p for people in index.people.values() for p in people} == {"set/r0", "set/r2"}


def test_damaged_shards_are_named(tmp_path: Path) -> None:
    index = numbered(tmp_path / "n", [9, 9])
    file = tmp_path / "n" / index.shards[1].file
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2] + bytes(len(content) - len(content) // 2))
    with pytest.raises(BadInput, match=r"train-ok-00001\.parquet: cannot be read"):
        list(ShardBatches(load_index(tmp_path / "n"), "train", 3, True))
    with pytest.raises(BadInput, match=r"differs from its SHA-256"):
        verify(index)
    file.write_bytes(content[:-1])
    with pytest.raises(BadInput, match=r"train-ok-00001\.parquet: has .* bytes, the index says"):
        load_index(tmp_path / "n")
    file.write_bytes((tmp_path / "n" / index.shards[0].file).read_bytes())
    swapped = ShardIndex(index.folder, "k", {**index.config, "hop": 5}, index.shards, {}, [])
    with pytest.raises(BadInput, match="does not hold the 9 windows"):
        list(ShardBatches(swapped, "train", 3, True))
    file.unlink()
    with pytest.raises(BadInput, match="the index names this shard and it is not there"):
        load_index(tmp_path / "n")
    (tmp_path / "n" / INDEX).write_text('{"format": "other"}')
    with pytest.raises(BadInput, match=r"index\.json: is no index of shards \(format 'other'"):
        load_index(tmp_path / "n")


class Diary(pl.LightningModule):
    """Writes down which windows came; a crash at step ``crash``."""

    def __init__(self, crash: int = -1) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)
        self.seen: list[int] = []
        self.crash = crash

    def training_step(self, batch: tuple[Tensor, Tensor], number: int) -> Tensor:
        if self.global_step == self.crash:
            raise RuntimeError("power cut")
        self.seen.append(int(batch[0][0, 0, 0]))
        return self.layer(batch[0][:1, 0, :1]).sum()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.0)


@pytest.mark.filterwarnings("ignore:.*(many workers|Checkpoint directory|LeafSpec|resume the dataloader).*")
def test_lightning_goes_on_in_the_middle_of_an_epoch(tmp_path: Path) -> None:
    index = numbered(tmp_path / "n", [5, 3, 4])

    def train(diary: Diary, resumed: Path | None = None) -> None:
        keep = ModelCheckpoint(tmp_path / "c", save_last=True, every_n_train_steps=1, enable_version_counter=False)
        trainer = pl.Trainer(
            accelerator="cpu", max_epochs=3, logger=False, callbacks=[keep], enable_progress_bar=False,
            enable_model_summary=False,
        )  # fmt: skip
        trainer.fit(diary, ShardBatches(index, "train", 1, True, buffer=6), ckpt_path=resumed, weights_only=True)

    whole, broken, rest = Diary(), Diary(crash=19), Diary()
    train(whole)
    shutil.rmtree(tmp_path / "c")
    with pytest.raises(RuntimeError, match="power cut"):
        train(broken)
    train(rest, tmp_path / "c" / "last.ckpt")
    assert len(whole.seen) == 36 and broken.seen + rest.seen == whole.seen


def test_stage_one_learns_from_shards(sharded: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    fit = FitConfig(epochs=2, batch=8)
    run = RunFolder(tmp_path / "run")
    run.start({"kind": "tokenizer"}, resume=False)
    validation = shard_eval_batches(sharded, "validation", 8)
    fit_stage(
        Stage1(Tokenizer(SMALL), fit), run, shard_batches(sharded, fit), validation, QUIET, "tokenizer", ("train_loss",)
    )
    losses = [epoch["train_loss"] for epoch in run.history()]
    assert len(losses) == 2 and losses[1] < losses[0]


@pytest.mark.parametrize("signal", ["ppg", "ecg"])
def test_stage_two_gets_what_memory_would_give(sharded: Path, prepared: Prepared, signal: Signal) -> None:
    torch.manual_seed(0)
    tokenizer, objective, fit = Tokenizer(SMALL), Objective(interval_weight=0.1, phases=5), FitConfig(1, batch=4)
    for _ in range(3):  # its codebook starts with what it sees
        tokenizer(torch.tensor(prepared.part("train").ppg), torch.tensor(prepared.part("train").ecg))
    tokenizer.eval()
    known = phased_student_rows(tokenizer, prepared, signal, 1, objective)
    every = known[list(range(len(known) * 5))]
    place = {patches.numpy().tobytes(): row for row, patches in enumerate(every[0])}
    for batch in prepare_shards(sharded).student_batches(tokenizer, signal, 1, objective, fit):
        rows = [place[patches.numpy().tobytes()] for patches in batch[0]]
        *same, intervals = zip(batch, (some[rows] for some in every), strict=True)
        for mine, theirs in same:
            torch.testing.assert_close(mine, theirs, rtol=0, atol=0)
        # R peaks at a window's edges are found on the cut window here, and on the whole one there.
        close = torch.isclose(*intervals, rtol=0, atol=0.01, equal_nan=True)
        assert close[:, 5:-5].float().mean() > 0.97


def test_prepared_from_shards(sharded: Path, prepared: Prepared) -> None:
    ready = prepare_shards(sharded)
    assert ready.cut_as(json.loads(json.dumps(prepared.config.to_dict())))
    assert len(ready.part("validation", gated=False)) == len(prepared.part("validation", gated=False))
    counts = ready.describe()["counts"]
    assert sum(part["people"] for part in counts.values()) == 20
    assert counts["train"]["ok"] == ready.pairs(FitConfig(1)).windows == len(prepared.part("train", overlap=True))


def test_the_commands(sharded: Path, synthetic_data: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["data", "shard", "--data", str(synthetic_data), "--out", str(sharded), "--rows", "8"]) == 0
    said = capsys.readouterr()
    assert said.out == "" and "is finished already" in said.err
    assert main(["data", "throughput", str(sharded), "--batch", "8", "--seconds", "1", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["shards"] > found["training"] > 0 and found["disk"] == 3_400_000 * found["bytes"]
    assert found["hours_reading"] == pytest.approx(3_400_000 / (found["shards"] * 2) / 3600)
    assert main(["data", "throughput", str(tmp_path)]) == 2
    assert "holds no shards" in capsys.readouterr().err
    assert main(["data", "list", str(sharded)]) == 0
    assert "all have their SHA-256" in capsys.readouterr().out
    assert main(["data", "list", str(synthetic_data)]) == 0
    assert "20 recordings with PPG and ECG" in capsys.readouterr().out
    assert main(["data", "list", str(synthetic_data), "--json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(lines) == 20 and lines[0]["seconds"] == 65 and lines[0]["patient"] == "r00"
