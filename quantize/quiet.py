"""Keeps converters' chatter away from the user's terminal, and shows it only when something went wrong."""

import contextlib
import logging
import os
import sys
import tempfile
import warnings
from collections.abc import Iterator
from typing import TextIO

TAIL_LINES = 15


@contextlib.contextmanager
def quiet_libraries() -> Iterator[None]:
    """Swallow what converters print (also from C++, hence on file descriptors 1 and 2), warn and log inside.

    If the body raises, the last lines of what was swallowed go to stderr, since they say why. Not re-entrant, and
    nothing else should print meanwhile: a live display belongs on :func:`own_terminal`.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as swallowed:
        kept = [(number, os.dup(number)) for number in (1, 2)]
        disabled = logging.root.manager.disable
        try:
            for number, _ in kept:
                os.dup2(swallowed.fileno(), number)
            logging.disable(logging.CRITICAL)
            with (
                warnings.catch_warnings(),
                contextlib.redirect_stdout(swallowed),
                contextlib.redirect_stderr(swallowed),
            ):
                warnings.simplefilter("ignore")
                yield
        except Exception:
            swallowed.flush()
            swallowed.seek(0)
            tail = swallowed.readlines()[-TAIL_LINES:]
            os.writev(kept[1][1], [line.encode() for line in tail])
            raise
        finally:
            logging.disable(disabled)
            for number, copy in kept:
                os.dup2(copy, number)
                os.close(copy)


def own_terminal() -> TextIO:
    """A stream to stderr's present destination that :func:`quiet_libraries` does not touch; the caller closes it."""
    return os.fdopen(os.dup(2), "w", encoding="utf-8", buffering=1)
