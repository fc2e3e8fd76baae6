"""The virtual sensor's end of a serial cable: a pseudo terminal that can be pulled out and put back."""

import contextlib
import fcntl
import os
import pty
import select
import struct
import termios
import time
import tty
from collections.abc import Callable
from pathlib import Path

from firmware_bridge.errors import BadInput

TRANSMIT_BUFFER = 4096  # bytes, as on a microcontroller; the kernel holds some more
POLL_S = 0.05


class PtyLink:
    """Bytes to and from whoever opens the terminal at :attr:`path`.

    ``link``: a symbolic link that follows the terminal through every replug. Nothing here blocks for ever: without a
    reader the transmit buffer fills and :meth:`send` refuses, unless ``lossless``: then it waits for the reader, or
    for ``stopped()``.
    """

    def __init__(self, link: Path | None, lossless: bool, stopped: Callable[[], bool]) -> None:
        if link is not None and (link.exists() or link.is_symlink()) and not link.is_symlink():
            raise BadInput(f"--link {link}: exists and is no symbolic link; choose another path")
        self._link, self._lossless, self._stopped = link, lossless, stopped
        self._master, self._slave = -1, -1
        self._terminal = ""
        self._pending = bytearray()

    @property
    def plugged(self) -> bool:
        """Whether there is a terminal to open."""
        return self._master >= 0

    @property
    def path(self) -> str:
        """What to open: the link if there is one."""
        return str(self._link) if self._link is not None else self._terminal

    def plug(self) -> None:
        """Make a fresh terminal; raises :class:`BadInput` where the link cannot be made."""
        self._master, self._slave = pty.openpty()
        # Raw before anyone opens it: a terminal that echoes would send the sensor its own frames.
        tty.setraw(self._slave)
        os.set_blocking(self._master, False)
        self._terminal = os.ttyname(self._slave)
        if self._link is not None:
            fresh = self._link.with_name(f"{self._link.name}.{os.getpid()}")
            try:
                fresh.symlink_to(self._terminal)
                fresh.replace(self._link)
            except OSError as error:
                self.unplug()
                raise BadInput(f"--link {self._link}: cannot be made ({error.strerror})") from None

    def unplug(self) -> None:
        """Pull the cable: the reader sees a hang-up, what was under way is gone."""
        if self._link is not None and self.plugged:
            with contextlib.suppress(OSError):
                if os.readlink(self._link) == self._terminal:
                    self._link.unlink()
        for fd in (self._slave, self._master):
            if fd >= 0:
                os.close(fd)
        self._master = self._slave = -1
        self._pending.clear()

    def send(self, data: bytes) -> bool:
        """Take ``data`` whole, or refuse it whole."""
        while self.plugged and len(self._pending) + len(data) > TRANSMIT_BUFFER:
            self._write()
            if not self._lossless or self._stopped():
                break
            if len(self._pending) + len(data) > TRANSMIT_BUFFER:
                select.select([], [self._master], [], POLL_S)
        if not self.plugged or len(self._pending) + len(data) > TRANSMIT_BUFFER:
            return False
        self._pending += data
        self._write()
        return True

    def serve(self, seconds: float) -> bytes:
        """Pass ``seconds`` writing what is pending; returns early with what the host sent."""
        if not self.plugged:
            time.sleep(seconds)
            return b""
        readable, _, _ = select.select([self._master], [self._master] if self._pending else [], [], seconds)
        self._write()
        if not readable:
            return b""
        with contextlib.suppress(BlockingIOError):
            return os.read(self._master, 4096)
        return b""

    def drain(self, seconds: float) -> None:
        """Wait until the reader has taken everything, at most ``seconds``: a hang-up discards what it has not."""
        deadline = time.monotonic() + seconds
        empty = 0
        while self.plugged and empty < 3 and time.monotonic() < deadline and not self._stopped():
            self._write()
            waiting = struct.unpack("i", fcntl.ioctl(self._slave, termios.FIONREAD, b"\0\0\0\0"))[0]
            empty = 0 if waiting or self._pending else empty + 1
            time.sleep(0.02)

    def _write(self) -> None:
        if self._pending and self.plugged:
            with contextlib.suppress(BlockingIOError):
                del self._pending[: os.write(self._master, self._pending)]
