"""Errors that a person is meant to read: one line, naming what was wrong and what to do, and an exit status."""


class PulsecodeError(Exception):
    """Base of every error that ends a command in one clear line. ``exit_status`` is what the shell sees."""

    exit_status = 2


class BadInput(PulsecodeError):
    """A file, argument, bundle or device that cannot be used as given (exit status 2)."""


def not_installed(package: str, extra: str) -> BadInput:
    """The error for an optional package that a command needs; ``extra`` is the one of ours that brings it."""
    return BadInput(
        f"{package} is not installed; run `pip install 'pulsecode[{extra}]'` "
        f"(in a clone: `.venv/bin/pip install -c constraints.txt -e '.[{extra}]'`)"
    )


class SourceLost(PulsecodeError):
    """A source that worked and is now gone for good (exit status 3)."""

    exit_status = 3


class CheckFailed(PulsecodeError):
    """A check that was asked for, done, and not passed (exit status 1)."""

    exit_status = 1
