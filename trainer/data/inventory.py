"""What recordings a data folder holds, and what was left out and why: `pulsecode data list`."""

import json
from collections import Counter
from dataclasses import asdict
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from trainer.data.shard_index import INDEX, ShardIndex, load_index, verify
from trainer.recordings import READERS, Listing, Recording, find_recordings
from trainer.splits import PARTS, part_of


def print_inventory(folder: Path, *, as_json: bool = False) -> None:
    """A table of the data sets under ``folder`` on stdout, or one JSON object a recording; of shards, what they hold,
    each compared with its SHA-256.

    Raises :class:`BadInput` as :func:`find_recordings` does.
    """
    if (folder / INDEX).exists():
        _print_shards(load_index(folder), as_json=as_json)
        return
    listing = find_recordings(folder)
    if as_json:
        for recording in listing.recordings:
            print(json.dumps(_describe(recording, folder)))
        for (dataset, reason), count in sorted(listing.skipped.items()):
            print(json.dumps({"type": "left_out", "dataset": dataset, "reason": reason, "files": count}))
        return
    console = _console()
    console.print(_table(listing))
    for (dataset, reason), count in sorted(listing.skipped.items()):
        console.print(f"{dataset}: {count} left out: {reason}", soft_wrap=True, markup=False)
    for dataset, count in sorted(_beside_wfdb(listing).items()):
        console.print(f"{dataset}: {count} other files not looked at, as it has WFDB records", soft_wrap=True)


def _print_shards(index: ShardIndex, *, as_json: bool) -> None:
    verify(index)
    if as_json:
        for shard in index.shards:
            print(json.dumps({"type": "shard", **asdict(shard)}))
        return
    console = _console()
    size = sum(shard.bytes for shard in index.shards)
    found = f"{len(index.shards)} shards, {size / 1e6:,.1f} MB, in {index.folder}; all have their SHA-256"
    console.print(found, soft_wrap=True, markup=False)
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("part")
    for column in ("people", "windows", "passed the gate", "of these, apart"):
        table.add_column(column, justify="right")
    for part in PARTS:
        shards = index.chosen(part, gated=False)
        if shards:
            ok = [shard for shard in shards if shard.ok]
            counts = (len(index.people[part]), *(sum(s.windows for s in some) for some in (shards, ok)))
            table.add_row(part.replace("_", " "), *(f"{n:,}" for n in (*counts, sum(s.apart for s in ok))))
    console.print(table)
    for reason in index.left_out:
        console.print(f"left out: {reason}", soft_wrap=True, markup=False)


def _console() -> Console:
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=120)


def _describe(recording: Recording, folder: Path) -> dict[str, object]:
    return {
        "type": "recording",
        "dataset": recording.dataset,
        "group": recording.group,
        "name": recording.name,
        "patient": recording.patient,
        "part": part_of(recording.dataset, recording.patient),
        "file": recording.files[0].relative_to(folder).as_posix(),
        "rate": recording.rate,
        "seconds": round(recording.length / recording.rate, 3),
        "ecg": recording.ecg_label,
    }


def _format(recording: Recording) -> str:
    return recording.path.suffix.lower().lstrip(".") if recording.reader else "wfdb"


def _table(listing: Listing) -> Table:
    title = f"{len(listing.recordings)} recordings with PPG and ECG in {listing.folder}"
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for column in ("data set", "format"):
        table.add_column(column, no_wrap=True)
    for column in ("recordings", "people", "hours", *(part.replace("_", " ") for part in PARTS)):
        table.add_column(column, justify="right")
    table.add_column("Hz")
    table.add_column("ECG")
    for dataset in sorted({recording.dataset for recording in listing.recordings}):
        some = [recording for recording in listing.recordings if recording.dataset == dataset]
        people = {recording.patient for recording in some}
        parts = Counter(part_of(dataset, patient) for patient in people)
        leads = Counter(recording.ecg_label for recording in some)
        table.add_row(
            dataset,
            "+".join(sorted({_format(recording) for recording in some})),
            f"{len(some):,}",
            f"{len(people):,}",
            f"{sum(recording.length / recording.rate for recording in some) / 3600:,.1f}",
            *(str(parts[part] or "") for part in PARTS),
            ", ".join(f"{rate:g}" for rate in sorted({recording.rate for recording in some})),
            ", ".join(f"{lead} {count}" for lead, count in leads.most_common()),
        )
    return table


def _beside_wfdb(listing: Listing) -> Counter[str]:
    """Files that a reader might know, in data sets that are read as WFDB."""
    with_wfdb = {recording.dataset for recording in listing.recordings if not recording.reader}
    return Counter(
        parts[0]
        for file in listing.folder.rglob("*")
        if file.suffix.lower() in READERS and (parts := file.relative_to(listing.folder).parts)[0] in with_wfdb
    )
