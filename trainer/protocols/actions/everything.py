"""`pulsecode evaluate all`: every registered protocol, one after the other, into one folder."""

import argparse

from firmware_bridge.errors import BadInput
from trainer.protocols.options import RESULTS, protocol_arguments

HELP = "every protocol, into one folder"


def configure(parser: argparse.ArgumentParser) -> None:
    """Its arguments."""
    protocol_arguments(parser)
    parser.set_defaults(out=RESULTS)


def run(args: argparse.Namespace) -> int:
    """Run each action of the registry that says it belongs to `all`, with the arguments given here.

    One that cannot run (its recordings are not there, say) does not stop the others; raises :class:`BadInput` at the
    end that names them.
    """
    from importlib import import_module

    from trainer.evaluate_commands import ACTIONS

    failed = {}
    for name, (module, belongs) in ACTIONS.items():
        if belongs:
            action = import_module(module)
            parser = argparse.ArgumentParser()
            action.configure(parser)
            own = parser.parse_args(["--run", args.run])  # its own defaults, then what was asked for here
            try:
                action.run(argparse.Namespace(**{**vars(own), **vars(args)}))
            except BadInput as error:
                failed[name] = str(error)
    if failed:
        raise BadInput("all: without " + "; ".join(f"{name} ({reason})" for name, reason in failed.items()))
    return 0
