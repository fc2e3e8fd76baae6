"""Windows from shards: one shard as a table, or some of a set in memory."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from firmware_bridge.errors import BadInput, not_installed
from trainer.data.shard_index import Shard, ShardIndex
from trainer.splits import Part
from trainer.windows import F32, Windows


def read_shard(index: ShardIndex, shard: Shard, columns: Sequence[str] | None = None) -> Any:
    """One shard as a pyarrow table. Raises :class:`BadInput` where it is not what the index says."""
    try:
        from pyarrow import ArrowException, parquet
    except ModuleNotFoundError:
        raise not_installed("pyarrow", "shards") from None
    file = index.folder / shard.file
    try:
        table = parquet.read_table(file, columns=columns, use_threads=False)
        width = index.hops * index.hop * 4
        ok = table.num_rows == shard.windows and all(
            table.schema.field(name).type.byte_width == width for name in ("ppg", "ecg") if name in table.column_names
        )
    except (OSError, ValueError, KeyError, ArrowException) as error:
        raise BadInput(f"{file}: cannot be read ({' '.join(str(error).split())}); shard the recordings again") from None
    if not ok:
        raise BadInput(f"{file}: does not hold the {shard.windows} windows that the index says; shard again")
    return table


def patches_of(table: Any, name: str) -> F32:
    """(windows, hops · hop), a view of the table's memory."""
    content = table.column(name).combine_chunks()
    width = content.type.byte_width // 4
    rows = np.frombuffer(content.buffers()[1], dtype="<f4").reshape(-1, width)
    return np.asarray(rows[content.offset : content.offset + len(content)])


def apart_in(table: Any, hops: int) -> NDArray[np.int64]:
    """The rows of a shard that share no hop with a predecessor."""
    return np.flatnonzero(table.column("start").to_numpy() % hops == 0)


def windows_in_memory(index: ShardIndex, parts: Sequence[Part], limit: int) -> Windows:
    """At most ``limit`` windows of each of ``parts``, as :class:`trainer.windows.Windows`: whole shards, spread evenly.

    For what needs a set in memory: validation, plots, the consistency check.
    """
    tables = [
        read_shard(index, shard)
        for part in parts
        for ok in (True, False)
        for shard in _spread([s for s in index.chosen(part, gated=False) if s.ok == ok], limit)
    ]
    if not tables:
        raise BadInput(f"{index.folder}: holds no window of {' or '.join(parts)}")
    ppg, ecg = (np.concatenate([patches_of(table, name) for table in tables]) for name in ("ppg", "ecg"))
    column = {
        name: np.concatenate([table.column(name).to_numpy() for table in tables])
        for name in ("start", "verdict", "recording", "person")
    }
    names, recording = np.unique(column["recording"].astype(str), return_inverse=True)
    one_of_each = np.unique(recording, return_index=True)[1]
    described = []
    for name, person in zip(names, column["person"][one_of_each], strict=True):
        dataset, group, record = str(name).split("/", 2)
        described.append({"dataset": dataset, "group": group, "name": record, "patient": str(person).partition("/")[2]})
    return Windows(
        ppg_hops=ppg.reshape(-1, index.hop), ecg_hops=ecg.reshape(-1, index.hop), hops=index.hops,
        first=np.arange(len(ppg)) * index.hops, start=column["start"].astype(np.int64), recording=recording,
        verdict=column["verdict"], recordings=described,
    )  # fmt: skip


def _spread(shards: list[Shard], limit: int) -> list[Shard]:
    """Shards of at most ``limit`` windows together, evenly spread; one at least where there is one."""
    total = sum(shard.windows for shard in shards)
    if total <= limit:
        return shards
    count = max(1, int(len(shards) * limit / total))
    return [shards[i] for i in np.linspace(0, len(shards) - 1, count).round().astype(int)]
