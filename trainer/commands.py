"""`pulsecode train ACTION`: a registry. What is heavy is imported when an action runs."""

import argparse
from importlib import import_module

from firmware_bridge.cli import Command

# name: a module with HELP, configure(parser) and run(args)
ACTIONS = {
    "tokenizer": "trainer.actions.tokenizer",
    "encoder": "trainer.actions.encoder",
    "single-stage": "trainer.actions.single_stage",
    "finetune": "trainer.actions.finetune",
    "heads": "trainer.actions.heads",
    "respiration": "trainer.actions.respiration",
    "default": "trainer.actions.default",
}


def _configure(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="|".join(ACTIONS))
    for name, module in ACTIONS.items():
        action = import_module(module)
        action.configure(actions.add_parser(name, help=action.HELP, description=action.HELP))


def _run(args: argparse.Namespace) -> int:
    from trainer.ranks import joined

    with joined():
        status: int = import_module(ACTIONS[args.action]).run(args)
    return status


TRAIN = Command("learn the codebook and the encoders from paired recordings", _configure, _run, "train")
