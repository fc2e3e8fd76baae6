"""`pulsecode evaluate ACTION`: a registry of the protocols. What is heavy is imported when an action runs.

An action is a module with ``HELP``, ``configure(parser)`` and ``run(args) -> exit status`` that imports nothing heavy
before ``run``. Those that `evaluate all` runs configure :func:`trainer.protocols.options.protocol_arguments`.
"""

import argparse
from importlib import import_module

from firmware_bridge.cli import Command

# name: (module, whether `evaluate all` runs it)
ACTIONS = {
    "student": ("trainer.protocols.actions.student", False),
    "bidmc": ("trainer.protocols.actions.bidmc", True),
    "af": ("trainer.protocols.actions.af", True),
    "features": ("trainer.protocols.actions.features", True),
    "cross-modal": ("trainer.protocols.actions.cross_modal", True),
    "alarms": ("trainer.protocols.actions.alarms", True),
    "mitdb": ("trainer.protocols.actions.mitdb", True),
    "noise": ("trainer.protocols.actions.noise", False),
    "misalignment": ("trainer.protocols.actions.misalignment", False),
    "respiration": ("trainer.protocols.actions.respiration", False),
    "all": ("trainer.protocols.actions.everything", False),
}


def _configure(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="|".join(ACTIONS))
    for name, (module, _) in ACTIONS.items():
        action = import_module(module)
        action.configure(actions.add_parser(name, help=action.HELP, description=action.HELP))


def _run(args: argparse.Namespace) -> int:
    status: int = import_module(ACTIONS[args.action][0]).run(args)
    return status


EVALUATE = Command("judge a trained encoder on people it never saw", _configure, _run, "train")
