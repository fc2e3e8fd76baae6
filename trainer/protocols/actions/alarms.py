"""`pulsecode evaluate alarms`."""

import argparse

from trainer.protocols.options import protocol_arguments, setting

HELP = "true and false alarms of Challenge 2015, from PPG, ECG and both"


def configure(parser: argparse.ArgumentParser) -> None:
    """Its arguments."""
    protocol_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Print the tables and, with ``--out``, write them."""
    from trainer.protocols.alarms import run_alarms

    run_alarms(setting(args), args.out)
    return 0
