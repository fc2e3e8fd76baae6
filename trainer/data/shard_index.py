"""What a folder of shards holds: `index.json`, the one file that a loader reads before any window.

A shard is a Parquet file of prepared windows of one part of the split, either all passed by the quality gate or none.
Columns: ``ppg`` and ``ecg``, each window's patches (hops, hop) as little-endian float32 in a row; ``start``, its first
hop within its recording; ``verdict`` of the gate; ``recording`` (``dataset/group/name``) and ``person``
(``dataset/patient``). Readable with pyarrow, DuckDB or polars without this package.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from firmware_bridge.errors import BadInput
from trainer.splits import PARTS, Part

INDEX = "index.json"
FORMAT = "pulsecode-shards/1"


@dataclass(frozen=True)
class Shard:
    """One file: its part, whether its windows passed the gate, how many they are, and how many remain (``apart``)
    where those that share hops with a predecessor are left out."""

    file: str
    part: Part
    ok: bool
    windows: int
    apart: int
    bytes: int
    sha256: str


@dataclass(frozen=True)
class ShardIndex:
    """The shards of ``folder``; ``config`` is the window configuration and ``key`` a digest of it, the code and the
    recordings (:func:`trainer.preparation.cache_key`). ``people``: part → person → windows."""

    folder: Path
    key: str
    config: dict[str, Any]
    shards: list[Shard]
    people: dict[str, dict[str, int]]
    left_out: list[str]

    @property
    def hops(self) -> int:
        """Hops a window."""
        return int(self.config["hops"])

    @property
    def hop(self) -> int:
        """Samples a hop."""
        return int(self.config["hop"])

    def chosen(self, part: Part, *, gated: bool) -> list[Shard]:
        """The shards of one part, in order; ``gated``: only windows that passed the quality gate."""
        return [shard for shard in self.shards if shard.part == part and (shard.ok or not gated)]

    def content(self) -> dict[str, Any]:
        """What ``index.json`` holds."""
        return {
            "format": FORMAT, "key": self.key, "windows": self.config, "shards": [asdict(s) for s in self.shards],
            "people": self.people, "left_out": self.left_out,
        }  # fmt: skip

    def save(self) -> None:
        """Write ``index.json``, whole or not at all."""
        part = self.folder / f".{INDEX}.part"
        part.write_text(json.dumps(self.content(), indent=1), encoding="utf-8")
        part.replace(self.folder / INDEX)


def index_from(content: Any, folder: Path) -> ShardIndex:
    """The index that ``content`` (see :meth:`ShardIndex.content`) states; raises ValueError, KeyError, TypeError."""
    if content["format"] != FORMAT:
        raise ValueError(f"format {content['format']!r} is not {FORMAT}")
    shards = [Shard(**shard) for shard in content["shards"]]
    index = ShardIndex(
        folder, str(content["key"]), content["windows"], shards, content["people"], list(content["left_out"])
    )
    if not all(shard.part in PARTS and shard.windows > 0 for shard in shards) or index.hops < 2 or index.hop < 1:
        raise ValueError("a part or a number in it makes no sense")
    return index


def load_index(folder: Path) -> ShardIndex:
    """The index of ``folder``, with every shard there in its full size.

    Raises :class:`BadInput` where it is not; what a shard holds is checked when it is read, or by :func:`verify`.
    """
    path = folder / INDEX
    try:
        index = index_from(json.loads(path.read_text(encoding="utf-8")), folder)
    except (FileNotFoundError, NotADirectoryError):
        raise BadInput(f"{folder}: holds no shards ({INDEX}); make them with `pulsecode data shard`") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadInput(f"{path}: is no index of shards ({error})") from None
    for shard in index.shards:
        file = folder / shard.file
        if Path(shard.file).name != shard.file or not file.is_file():
            raise BadInput(f"{file}: the index names this shard and it is not there")
        if file.stat().st_size != shard.bytes:
            raise BadInput(f"{file}: has {file.stat().st_size:,} bytes, the index says {shard.bytes:,}")
    return index


def verify(index: ShardIndex) -> None:
    """Compare every shard with its SHA-256. Raises :class:`BadInput` at the first that differs."""
    from trainer.data.download import file_digest

    for shard in index.shards:
        if file_digest(index.folder / shard.file) != shard.sha256:
            raise BadInput(f"{index.folder / shard.file}: differs from its SHA-256 in {INDEX}; shard again")
