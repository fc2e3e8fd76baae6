"""A serial port that either gives bytes or says in one way that the link is gone."""

import errno
from pathlib import Path

from firmware_bridge.errors import BadInput, not_installed

READ_S = 0.1  # longest wait for a byte, and so for being stopped
WRITE_S = 0.2


class LinkLost(Exception):
    """The port cannot be opened or went away; the text says how."""


class Port:
    """``path`` at ``baud``, opened by :meth:`open` and again by it; reads happen in the caller's thread."""

    def __init__(self, path: str, baud: int) -> None:
        try:
            import serial
        except ImportError:
            raise not_installed("serial: pyserial", "device") from None
        self._path = path
        # Opened without its path first: the constructor would open it before `exclusive` is set.
        self._serial = serial.Serial(None, timeout=READ_S, write_timeout=WRITE_S, exclusive=True)
        self._serial.port = path
        try:
            self._serial.baudrate = baud
        except ValueError:
            raise BadInput(f"serial port {path}: baud={baud} is not a baud rate") from None

    def open(self) -> None:
        """Open exclusively and discard what was waiting; raises :class:`LinkLost`."""
        try:
            self._serial.open()
        except (OSError, ValueError) as error:
            raise LinkLost(_explain(self._path, error)) from None

    def read(self) -> bytes:
        """What is there, after at most :data:`READ_S`; raises :class:`LinkLost` on hang-up."""
        try:
            return self._serial.read(max(1, self._serial.in_waiting))
        except (OSError, TypeError) as error:  # TypeError: pyserial on a port that was closed meanwhile
            raise LinkLost(f"{self._path} hung up ({_cause(error)})") from None

    def write(self, data: bytes) -> None:
        """Send if possible: a sensor may be deaf, and a link that is gone shows at the next read."""
        try:
            self._serial.write(data)
        except OSError:
            return

    def close(self) -> None:
        """Release the port; may be called twice."""
        try:
            self._serial.close()
        except OSError:
            return


def _cause(error: Exception) -> str:
    return "end of file" if "returned no data" in str(error) else str(error)[:80]


def _explain(path: str, error: Exception) -> str:
    code = getattr(error, "errno", None)
    if code in (errno.ENOENT, errno.ENXIO, errno.ENODEV):
        present = [str(p) for kind in ("ttyUSB*", "ttyACM*", "ttyAMA*") for p in sorted(Path("/dev").glob(kind))]
        return f"{path} does not exist; ports here: {', '.join(present) or 'none'}"
    if code in (errno.EACCES, errno.EPERM):
        return f"no permission for {path}; join its group: sudo usermod -aG dialout $USER, then log in again"
    if code in (errno.EBUSY, errno.EAGAIN):
        return f"{path} is in use by another program; close that first"
    if code == errno.EISDIR or Path(path).is_file() or Path(path).is_dir():
        return f"{path} is not a serial port"
    return f"{path} cannot be opened ({str(error)[:100]})"
