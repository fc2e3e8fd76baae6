"""`pulsecode engines list` and `pulsecode engines build executorch`; outside `edge.engines`, which imports numpy."""

import argparse
import sys

from firmware_bridge.cli import Command


def _configure(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="list|build", required=True)
    actions.add_parser("list", help="which engines are here, in which version, and what the others lack")
    build = actions.add_parser("build", help="compile an engine's runtime for this machine, into this user's cache")
    build.add_argument("engine", choices=("executorch",), help="the engine that has something to compile")


def _run(args: argparse.Namespace) -> int:
    if args.action == "list":
        from edge.engines.inventory import table

        print(table())
        return 0
    from edge.engines.executorch.build import build

    print("compiling the shim, some seconds", file=sys.stderr)
    folder = build()
    size = sum(file.stat().st_size for file in folder.iterdir())
    print(f"{folder}: {size / 1e6:.1f} MB, all that this engine needs")
    return 0


ENGINES = Command("which engines are here; compile one that needs it", _configure, _run)
