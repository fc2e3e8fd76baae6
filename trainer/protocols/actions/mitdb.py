"""`pulsecode evaluate mitdb`."""

import argparse

from trainer.protocols.options import protocol_arguments, setting

HELP = "rhythm, ectopy and single beats on MIT-BIH DS1, for the ECG student (--run may name it, or the one beside it)"


def configure(parser: argparse.ArgumentParser) -> None:
    """Its arguments."""
    protocol_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Print the tables and, with ``--out``, write them."""
    from trainer.protocols.mitdb import of_ecg_student, reports
    from trainer.protocols.protocol import run_protocol

    for protocol, its_setting in reports(of_ecg_student(setting(args))):
        run_protocol(protocol, its_setting, args.out)
    return 0
