"""`pulsecode data`: recordings from where they are published to shards for training. Heavy imports happen when run."""

import argparse
from pathlib import Path

from firmware_bridge.cli import Command


def _positive(text: str) -> int:
    value = int(text) if text.isascii() and text.isdigit() else 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive whole number")
    return value


def _configure(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="fetch|list|shard|throughput")

    fetch = actions.add_parser("fetch", help="download a published data set and verify every file")
    fetch.add_argument("name", help="bidmc, challenge-2015, mimic-perform-af, mitdb, or a PhysioNet SLUG/VERSION")
    fetch.add_argument("--out", required=True, metavar="DIR", help="data folder; the set becomes a folder in it")
    fetch.add_argument("--records", nargs="+", metavar="NAME", help="only these records")
    fetch.add_argument("--mirror", metavar="URL", help="where PhysioNet's files are (https://physionet.org/files/)")

    listing = actions.add_parser("list", help="what recordings a folder holds, and what is left out and why")
    listing.add_argument(
        "folder", metavar="DIR", nargs="?", help="data folder, or one of shards (PULSECODE_DATA, or ../shared/data)"
    )
    listing.add_argument("--json", action="store_true", help="one JSON object a recording, a line each")

    shard = actions.add_parser("shard", help="prepared windows as Parquet shards, for sets too large for memory")
    shard.add_argument("--out", required=True, metavar="DIR")
    shard.add_argument("--data", metavar="DIR", help="folder of data sets (PULSECODE_DATA, or ../shared/data)")
    shard.add_argument("--rows", type=_positive, default=1024, metavar="N", help="windows a shard (default: 1024)")
    shard.add_argument("--hops", type=_positive, metavar="N", help="hops a window (default: 50; PulseDB needs <= 20)")
    shard.add_argument("--stride", type=_positive, metavar="N", help="hops from window to window (default: 25)")
    shard.add_argument("--resume", action="store_true", help="go on after the last recording that was sharded")

    throughput = actions.add_parser("throughput", help="windows a second a core, from shards and from memory")
    throughput.add_argument("folder", metavar="DIR", help="a folder of shards")
    throughput.add_argument("--batch", type=_positive, default=64, metavar="N")
    throughput.add_argument("--seconds", type=_positive, default=10, metavar="S", help="how long each is measured")
    throughput.add_argument("--windows", type=_positive, default=3_400_000, metavar="N", help="size of the estimate")
    throughput.add_argument("--json", action="store_true")


def _run(args: argparse.Namespace) -> int:
    from trainer.progress import progress_console

    console = progress_console()
    if args.action == "fetch":
        from trainer.data.fetch import fetch

        fetch(args.name, Path(args.out), console, records=args.records, mirror=args.mirror)
    elif args.action == "list":
        from trainer.data.inventory import print_inventory
        from trainer.recordings import data_folder

        print_inventory(data_folder(args.folder), as_json=args.json)
    elif args.action == "shard":
        from dataclasses import replace

        from trainer.data.shards import write_shards
        from trainer.recordings import data_folder
        from trainer.windows import WindowConfig

        given = {name: getattr(args, name) for name in ("hops", "stride") if getattr(args, name) is not None}
        config = replace(WindowConfig(), **given)
        write_shards(data_folder(args.data), Path(args.out), config, console, rows=args.rows, resume=args.resume)
    else:
        from trainer.data.throughput import report_throughput

        report_throughput(Path(args.folder), args.batch, args.seconds, args.windows, as_json=args.json)
    return 0


DATA = Command("fetch, list and shard recordings", _configure, _run, "train")
