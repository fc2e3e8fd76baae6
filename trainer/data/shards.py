"""`pulsecode data shard`: recordings → prepared windows → Parquet shards, in bounded memory whatever the set's size.

A person is in one part of the split, and a shard holds windows of one part, so no person is ever in two. Recordings
are taken in an order that mixes the data sets (by a hash of their names), so that a loader that shuffles the windows
of a few shards mixes people. After every :data:`CHUNK` recordings all that is pending is written, and from there an
interrupted run goes on: the shards come out the same, byte for byte, as if it had never stopped.
"""

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from firmware_bridge.errors import BadInput, not_installed
from trainer.data.download import FULL, file_digest
from trainer.data.shard_index import INDEX, Shard, ShardIndex, index_from, load_index
from trainer.gating import Verdict
from trainer.preparation import cache_key
from trainer.progress import Stopped, progress_bar
from trainer.recordings import Recording, find_recordings
from trainer.splits import Part, part_of
from trainer.windows import WindowConfig, cut

CHUNK = 256  # recordings between two points to go on from
ROWS = 1024  # windows a shard: 18 MB of windows of 20 s
PROGRESS = "progress.json"
COLUMNS = ("ppg", "ecg", "start", "verdict", "recording", "person")
COMPRESSION = {"compression": "zstd", "compression_level": 1}  # a tenth smaller, and still far faster than training


@dataclass
class _Pending:
    """Windows of one part and kind that wait for their shard, column by column."""

    columns: dict[str, list[Any]] = field(default_factory=lambda: {name: [] for name in COLUMNS})
    count: int = 0

    def add(self, columns: dict[str, Any]) -> None:
        for name in COLUMNS:
            self.columns[name].append(columns[name])
        self.count += len(columns["start"])

    def take(self, rows: int) -> dict[str, Any]:
        """The first ``rows`` windows, or what there is."""
        joined = {name: np.concatenate(values) for name, values in self.columns.items()}
        self.columns = {name: [values[rows:]] for name, values in joined.items()}
        self.count = max(0, self.count - rows)
        return {name: values[:rows] for name, values in joined.items()}


class _Writer:
    """Cuts recordings and writes a shard whenever ``rows`` windows of a kind are there."""

    def __init__(self, index: ShardIndex, config: WindowConfig, rows: int) -> None:
        self.index, self.config, self.rows = index, config, rows
        self.pending: dict[tuple[Part, bool], _Pending] = {}

    def add(self, recording: Recording) -> None:
        """All windows of ``recording`` that have no missing sample. Raises :class:`BadInput` if it cannot be read."""
        made = cut(recording, self.config)
        part = part_of(recording.dataset, recording.patient)
        person = f"{recording.dataset}/{recording.patient}"
        for ok in (True, False):
            starts = made.starts[((made.verdicts == Verdict.OK) == ok) & (made.verdicts != Verdict.MISSING)]
            if not len(starts):
                continue
            rows = starts[:, None] + np.arange(self.config.hops)
            pending = self.pending.setdefault((part, ok), _Pending())
            pending.add(
                {
                    "ppg": made.ppg[rows].reshape(len(starts), -1),
                    "ecg": made.ecg[rows].reshape(len(starts), -1),
                    "start": starts.astype(np.int32),
                    "verdict": made.verdicts[np.searchsorted(made.starts, starts)],
                    "recording": np.full(len(starts), f"{recording.dataset}/{recording.group}/{recording.name}"),
                    "person": np.full(len(starts), person),
                }
            )
            people = self.index.people.setdefault(part, {})
            people[person] = people.get(person, 0) + len(starts)
            while pending.count >= self.rows:
                self._write(part, ok, pending.take(self.rows))

    def flush(self) -> None:
        """Write what is pending, in smaller shards."""
        for (part, ok), pending in self.pending.items():
            if pending.count:
                self._write(part, ok, pending.take(pending.count))
        self.pending = {}

    def _write(self, part: Part, ok: bool, columns: dict[str, Any]) -> None:
        number = sum(shard.part == part and shard.ok == ok for shard in self.index.shards)
        file = self.index.folder / f"{part}-{'ok' if ok else 'rest'}-{number:05d}.parquet"
        unfinished = file.with_name(f".{file.name}.part")
        _write_parquet(unfinished, columns)
        unfinished.replace(file)
        apart = int((columns["start"] % self.config.hops == 0).sum())
        size = file.stat().st_size
        self.index.shards.append(Shard(file.name, part, ok, len(columns["start"]), apart, size, file_digest(file)))


def _write_parquet(file: Path, columns: dict[str, Any]) -> None:
    import pyarrow
    from pyarrow import parquet

    def patches(rows: Any) -> Any:  # the fastest to read of all layouts that Parquet has for them
        width = pyarrow.binary(rows.shape[1] * 4)
        content = pyarrow.py_buffer(np.ascontiguousarray(rows, dtype="<f4"))
        return pyarrow.FixedSizeBinaryArray.from_buffers(width, len(rows), [None, content])

    names = {name: pyarrow.array(columns[name]).dictionary_encode() for name in ("recording", "person")}
    table = pyarrow.table(
        {
            "ppg": patches(columns["ppg"]),
            "ecg": patches(columns["ecg"]),
            "start": pyarrow.array(columns["start"]),
            "verdict": pyarrow.array(columns["verdict"]),
            **names,
        }
    )
    parquet.write_table(table, file, use_dictionary=list(names), write_statistics=False, **COMPRESSION)


def _start(fresh: ShardIndex, rows: int, resume: bool) -> tuple[ShardIndex, int]:
    """The index to go on with and how many recordings it holds already."""
    path = fresh.folder / PROGRESS
    if not path.exists():
        return fresh, 0
    if not resume:
        raise BadInput(f"{fresh.folder}: holds an unfinished run; go on with --resume, or give another --out")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        index, done, same = index_from(content["index"], fresh.folder), int(content["done"]), content["rows"] == rows
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadInput(f"{path}: cannot be read ({error}); give another --out") from None
    if index.key != fresh.key or not same:
        raise BadInput(f"{fresh.folder}: was begun with other recordings, settings or code; give another --out")
    return index, done


def _save_progress(index: ShardIndex, rows: int, done: int) -> None:
    part = index.folder / f".{PROGRESS}.part"
    part.write_text(json.dumps({"done": done, "rows": rows, "index": index.content()}), encoding="utf-8")
    part.replace(index.folder / PROGRESS)


def write_shards(
    data: Path, out: Path, config: WindowConfig, console: Console, *, rows: int = ROWS, resume: bool = False
) -> ShardIndex:
    """Shard every recording under ``data`` into ``out``.

    A recording that cannot be read is left out and named. Raises :class:`BadInput` where folders cannot be used or
    no window is left, and :class:`Stopped` on Ctrl-C.
    """
    try:
        import pyarrow  # noqa: F401
    except ModuleNotFoundError:
        raise not_installed("pyarrow", "shards") from None
    listing = find_recordings(data)
    key = cache_key(listing, config)
    if (out / INDEX).exists():
        index = load_index(out)
        if index.key != key:
            raise BadInput(f"{out}: holds shards of other recordings, settings or code; give another --out")
        console.print(f"{out}: is finished already", soft_wrap=True)
        return index
    order = sorted(
        listing.recordings, key=lambda r: hashlib.sha256(f"{r.dataset}/{r.group}/{r.name}".encode()).digest()
    )
    skipped = [f"{dataset}: {count} files, {reason}" for (dataset, reason), count in sorted(listing.skipped.items())]
    try:
        out.mkdir(parents=True, exist_ok=True)
        index, done = _start(ShardIndex(out, key, config.to_dict(), [], {}, skipped), rows, resume)
        writer = _Writer(index, config, rows)
        console.print(f"sharding {len(order) - done:,} recordings into {out}", soft_wrap=True)
        with progress_bar(console) as progress:
            task = progress.add_task("sharding", total=len(order), completed=done)
            for number, recording in enumerate(order[done:], done + 1):
                try:
                    writer.add(recording)
                except BadInput as error:
                    index.left_out.append(str(error))
                    console.print(f"left out: {error}", soft_wrap=True, markup=False)
                progress.advance(task)
                if number % CHUNK == 0:
                    writer.flush()
                    _save_progress(index, rows, number)
                    done = number
        writer.flush()
        if not index.shards:
            raise BadInput(f"{data}: no window there is without a gap; shorter ones (--hops, --stride) may be")
        index.save()
        (out / PROGRESS).unlink(missing_ok=True)
    except KeyboardInterrupt:
        raise Stopped(
            f"stopped; {out} keeps {done:,} of {len(order):,} recordings; the same command with --resume goes on"
            if done
            else f"stopped before the first {CHUNK} recordings were done; nothing was kept"
        ) from None
    except OSError as error:
        full = "the disk is full; make room and go on with --resume" if error.errno in FULL else error.strerror
        raise BadInput(f"{out}: {full}") from None
    windows, size = sum(s.windows for s in index.shards), sum(s.bytes for s in index.shards)
    people = sum(len(some) for some in index.people.values())
    console.print(
        f"{windows:,} windows of {people:,} people in {len(index.shards):,} shards, {size / 1e6:,.1f} MB "
        f"({size / windows:,.0f} bytes a window): {out}",
        soft_wrap=True,
    )
    return index
