"""`pulsecode evaluate features`."""

import argparse

from trainer.protocols.options import protocol_arguments, setting

HELP = "tokens beside quantised codes beside continuous features"


def configure(parser: argparse.ArgumentParser) -> None:
    """Its arguments."""
    protocol_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Print the tables and, with ``--out``, write them."""
    from trainer.protocols.encoder_protocols import FEATURES
    from trainer.protocols.protocol import run_protocol

    run_protocol(FEATURES, setting(args), args.out)
    return 0
