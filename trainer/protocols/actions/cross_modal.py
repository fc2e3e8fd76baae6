"""`pulsecode evaluate cross-modal`."""

import argparse

from trainer.protocols.options import protocol_arguments, setting

HELP = "a head trained on the ECG student's tokens, applied to the PPG student's"


def configure(parser: argparse.ArgumentParser) -> None:
    """Its arguments."""
    protocol_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Print the tables and, with ``--out``, write them."""
    from trainer.protocols.encoder_protocols import CROSS_MODAL
    from trainer.protocols.protocol import run_protocol

    run_protocol(CROSS_MODAL, setting(args), args.out)
    return 0
