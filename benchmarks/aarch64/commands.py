"""The options of ``pulsecode bench aarch64``, and what it does."""

import argparse
import sys
from pathlib import Path

from firmware_bridge.errors import BadInput

FAILED = 1


def configure(parser: argparse.ArgumentParser) -> None:
    """Add its options."""
    parser.add_argument(
        "--root", metavar="DIR", type=Path, required=True, help="where the arm64 Debian is made and kept (1 GB)"
    )
    parser.add_argument("--bundle", metavar="DIR|ZIP", help="bundle to run (default: the one that ships)")
    parser.add_argument("--mirror", metavar="URL", default="http://deb.debian.org/debian", help="of Debian's packages")
    parser.add_argument("--qemu", metavar="FILE", type=Path, help="qemu-aarch64 10 or later (default: Debian 13's)")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of the table")
    parser.add_argument("--out", metavar="DIR", type=Path, help="also write aarch64.json and aarch64.md there")


def aarch64(args: argparse.Namespace) -> int:
    """Make what is lacking, run, compare; 1 where arm64 says something else."""
    from rich.console import Console

    from benchmarks.aarch64 import present
    from benchmarks.aarch64.emulator import prepare
    from benchmarks.aarch64.measure import measure
    from benchmarks.aarch64.wheels import install
    from edge.bundle import load_bundle

    bundle = load_bundle(args.bundle)
    console = Console(stderr=True, highlight=False)
    folder = args.root.resolve()

    with console.status("starting") as status:

        def say(step: str) -> None:
            status.update(step)
            if not console.is_terminal:
                console.print(step)

        try:
            emulator = prepare(folder, args.mirror.rstrip("/"), args.qemu, say)
            install(emulator.site, folder, say)
            result = measure(bundle, emulator, folder, say)
        except OSError as error:
            raise BadInput(
                f"--root {args.root}: {error.filename or folder}: {error.strerror}; give another folder"
            ) from None
    files = {"aarch64.json": present.as_json(result) + b"\n", "aarch64.md": present.as_markdown(result).encode()}
    sys.stdout.write(files["aarch64.json" if args.json else "aarch64.md"].decode())
    if args.out is not None:
        try:
            args.out.mkdir(parents=True, exist_ok=True)
            for name, content in files.items():
                (args.out / name).write_bytes(content)
        except OSError as error:
            raise BadInput(f"--out {args.out}: cannot be written ({error.strerror}); give another folder") from None
    return 0 if result.passed else FAILED
