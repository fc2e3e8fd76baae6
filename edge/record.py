"""`--record`: JSON lines appended to a file that stays whole lines whatever happens."""

import contextlib
import io
import os
from collections.abc import Iterable
from pathlib import Path

from edge.messages import Message, encode
from firmware_bridge.errors import BadInput

TAIL_BYTES = 1 << 20  # no line of ours is longer
OUR_LINES = b'{"type":'


class Recorder:
    """Appends lines to the file ``name``; raises :class:`BadInput` where that is not possible."""

    def __init__(self, name: str) -> None:
        self._name = name
        try:
            # Unbuffered: a line is in the file, or it is not, when `write` returns.
            self._file = io.FileIO(name, "ab")
        except OSError as error:
            raise self._refusal(error) from None
        try:
            self._mend()
        except BaseException:
            self._file.close()
            raise

    def write(self, lines: Iterable[Message]) -> None:
        """Append ``lines``; where they do not fit whole, the file is left as it was before them."""
        rest = memoryview(b"".join(map(encode, lines)))
        before = os.fstat(self._file.fileno()).st_size
        try:
            while rest:
                rest = rest[self._file.write(rest) or 0 :]
        except OSError as error:
            with contextlib.suppress(OSError):  # a pipe or a device cannot take anything back
                self._file.truncate(before)
            raise self._refusal(error) from None

    def close(self) -> None:
        """May be called twice."""
        self._file.close()

    def _mend(self) -> None:
        """A recording that a power cut tore is continued after its last whole line."""
        path = Path(self._name)
        size = path.stat().st_size if path.is_file() else 0
        if not size:
            return
        with path.open("rb") as file:
            start = file.seek(max(0, size - TAIL_BYTES))
            tail = file.read()
        torn = tail.rpartition(b"\n")[2]
        if not torn:
            return
        if not (torn.startswith(OUR_LINES) or OUR_LINES.startswith(torn)):
            raise BadInput(f"--record {self._name}: holds something other than a recording; choose another file")
        self._file.truncate(start + len(tail) - len(torn))

    def _refusal(self, error: OSError) -> BadInput:
        return BadInput(f"--record {self._name}: cannot be written ({error.strerror}); choose another file")
