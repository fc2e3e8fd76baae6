"""`pulsecode evaluate bidmc`."""

import argparse

from trainer.protocols.options import protocol_arguments, setting

HELP = "heart and respiratory rate on BIDMC"


def configure(parser: argparse.ArgumentParser) -> None:
    """Its arguments."""
    protocol_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Print the tables and, with ``--out``, write them."""
    from trainer.protocols.encoder_protocols import BIDMC
    from trainer.protocols.protocol import run_protocol

    run_protocol(BIDMC, setting(args), args.out)
    return 0
