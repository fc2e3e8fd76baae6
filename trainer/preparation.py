"""All windows of a data folder, prepared once and kept in a cache that knows what it was made from."""

import hashlib
import json
import shutil
import sys
import tempfile
from collections import Counter
from importlib import import_module
from pathlib import Path

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

import edge.frontend
from firmware_bridge.errors import BadInput
from trainer import alignment, gating, recordings, windows
from trainer.gating import Verdict
from trainer.recordings import Listing, find_recordings
from trainer.splits import PARTS, part_of
from trainer.windows import WindowConfig, Windows, cut

CACHE = Path("cache")
ARRAYS = ("ppg_hops", "ecg_hops", "first", "start", "recording", "verdict")


def cache_key(listing: Listing, config: WindowConfig) -> str:
    """Digest of everything the windows depend on: configuration, the code that makes them, and the files' sizes
    and times."""
    digest = hashlib.sha256(json.dumps(config.to_dict(), sort_keys=True).encode())
    pairing = (alignment,) if config.align or config.ecg_delay else ()
    for module in (edge.frontend, gating, recordings, windows, *pairing):
        digest.update(Path(str(module.__file__)).read_bytes())
    for reader in sorted({recording.reader for recording in listing.recordings if recording.reader}):
        digest.update(Path(str(import_module(reader).__file__)).read_bytes())
    for recording in listing.recordings:
        for file in recording.files:
            stat = file.stat() if file.exists() else None
            digest.update(f"{file.relative_to(listing.folder)} {stat and (stat.st_size, stat.st_mtime_ns)}\n".encode())
    return digest.hexdigest()[:16]


def _prepare(listing: Listing, config: WindowConfig, console: Console) -> Windows:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        console.print(f"preparing the windows of {len(listing.recordings)} recordings (once; a minute or two)")
        recordings_done = progress.track(listing.recordings, description="preparing windows")
        parts = [cut(recording, config) for recording in recordings_done]
    rows = np.cumsum([0] + [len(p.ppg) for p in parts])
    counts = [len(p.starts) for p in parts]
    start = np.concatenate([p.starts for p in parts])
    recording_index = np.repeat(np.arange(len(parts)), counts)
    return Windows(
        ppg_hops=np.concatenate([p.ppg for p in parts]),
        ecg_hops=np.concatenate([p.ecg for p in parts]),
        hops=config.hops,
        first=start + rows[recording_index],
        start=start,
        recording=recording_index,
        verdict=np.concatenate([p.verdicts for p in parts]),
        recordings=[
            {"dataset": r.dataset, "group": r.group, "name": r.name, "patient": r.patient} for r in listing.recordings
        ],
    )


def _save(prepared: Windows, folder: Path) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".unfinished-"))
    for name in ARRAYS:
        np.save(temporary / f"{name}.npy", getattr(prepared, name), allow_pickle=False)
    (temporary / "recordings.json").write_text(json.dumps({"hops": prepared.hops, "recordings": prepared.recordings}))
    try:
        temporary.rename(folder)  # whole or not at all
    except OSError:  # another run was quicker
        shutil.rmtree(temporary)


def _load(folder: Path) -> Windows:
    try:
        arrays = {name: np.load(folder / f"{name}.npy", allow_pickle=False, mmap_mode="r") for name in ARRAYS}
        index = json.loads((folder / "recordings.json").read_text())
    except (OSError, ValueError) as error:
        raise BadInput(f"cache {folder}: cannot be read ({error}); delete that folder") from None
    return Windows(hops=index["hops"], recordings=index["recordings"], **arrays)


def count_windows(prepared: Windows, part: str | None = None) -> dict[str, Counter[str]]:
    """Windows by data set and the gate's verdict (lower case names), of one part or of all."""
    counts: dict[str, Counter[str]] = {}
    for i, recording in enumerate(prepared.recordings):
        if part in (None, part_of(recording["dataset"], recording["patient"])):
            found = np.bincount(prepared.verdict[prepared.recording == i], minlength=len(Verdict))
            counter = counts.setdefault(recording["dataset"], Counter())
            counter.update({verdict.name.lower(): int(found[verdict]) for verdict in Verdict})
    return counts


def _report(prepared: Windows, listing: Listing, console: Console) -> None:
    title = f"windows of {prepared.hops} hops, by the quality gate's verdict"
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    names = [verdict.name.lower() for verdict in Verdict]
    table.add_column("data set", no_wrap=True)
    table.add_column("part")
    for column in ("people", "all", *names):
        table.add_column(column.replace("_", "\n"), justify="right")
    for part in PARTS:
        for dataset, counts in sorted(count_windows(prepared, part).items()):
            patients = {
                r["patient"]
                for r in prepared.recordings
                if r["dataset"] == dataset and part_of(dataset, r["patient"]) == part
            }
            cells = [f"{counts[name]:,}" for name in names]
            table.add_row(dataset, part.replace("_", " "), str(len(patients)), f"{counts.total():,}", *cells)
    console.print(table)
    for (dataset, reason), count in sorted(listing.skipped.items()):
        console.print(f"{dataset}: {count} records left out, {reason}")


def prepare_windows(
    data: Path, config: WindowConfig | None = None, cache: Path = CACHE, console: Console | None = None
) -> Windows:
    """The windows of every recording under ``data``, from the cache or made now (a minute or two), and a report.

    Raises :class:`BadInput` where the folder or a recording cannot be used.
    """
    config = config or WindowConfig()
    console = console or Console(file=sys.stderr)
    listing = find_recordings(data)
    folder = cache / f"windows-{cache_key(listing, config)}"
    if not folder.exists():
        try:
            _save(_prepare(listing, config, console), folder)
        except OSError as error:
            raise BadInput(f"cache {cache}: cannot be written ({error.strerror}); give --cache DIR") from None
    prepared = _load(folder)
    _report(prepared, listing, console)
    return prepared
