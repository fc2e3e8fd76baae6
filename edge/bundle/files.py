"""A bundle's files, read from a folder or a zip alike: plain files only, and never more than a bundle can hold."""

import contextlib
import os
import stat
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from edge.bundle.checks import leaves
from firmware_bridge.errors import BadInput

MAX_BYTES = 64 * 2**20  # of all that is read from one bundle; none is near this, a zip bomb is
MAX_MEMBERS = 1000  # entries of a zip
# What a damaged, encrypted or odd zip raises, besides a file system's own errors.
UNREADABLE = (OSError, EOFError, RuntimeError, NotImplementedError, ValueError, zipfile.BadZipFile, zlib.error)


class Files(Protocol):
    """The files of a bundle, by their names in the manifest."""

    def has(self, name: str) -> bool:
        """Whether there is anything of this name."""
        ...

    def read(self, name: str) -> bytes:
        """A file's bytes; raises :class:`BadInput` where it is missing, no plain file, or too large."""
        ...


class _Budget:
    """Counts what was read of one bundle."""

    def __init__(self, path: Path) -> None:
        self._path, self.left = path, MAX_BYTES

    def take(self, name: str, size: int) -> None:
        self.left -= size
        if self.left < 0:
            raise BadInput(f"bundle {self._path}: {name} claims {size} bytes; a bundle holds {MAX_BYTES} at most")


class _Folder:
    """The files of a bundle folder, read when they are asked for. The folder itself may be a link, nothing in it."""

    def __init__(self, path: Path) -> None:
        self._path, self._budget = path, _Budget(path)

    def has(self, name: str) -> bool:
        return os.path.lexists(self._path / name)

    def read(self, name: str) -> bytes:
        at = self._path
        for part in Path(name).parts:
            at /= part
            if at.is_symlink():
                raise BadInput(f"bundle {self._path}: {name} is a symbolic link; put the file itself there")
        # Non-blocking, so that a named pipe is refused and not waited for.
        try:
            handle = os.open(at, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
        except (FileNotFoundError, NotADirectoryError):
            raise BadInput(f"bundle {self._path}: {name} is missing") from None
        try:
            status = os.fstat(handle)
            if not stat.S_ISREG(status.st_mode):
                raise BadInput(f"bundle {self._path}: {name} is not a plain file")
            self._budget.take(name, status.st_size)
            with open(handle, "rb", closefd=False) as file:
                return file.read(status.st_size)
        finally:
            os.close(handle)


class _Zip:
    """The same for a zip of that folder."""

    def __init__(self, path: Path, archive: zipfile.ZipFile) -> None:
        self._path, self._archive, self._budget = path, archive, _Budget(path)
        members = archive.infolist()
        if len(members) > MAX_MEMBERS:
            raise BadInput(f"bundle {path}: a zip of {len(members)} entries; refused")
        twice = [name for name, count in Counter(member.filename for member in members).items() if count > 1]
        if twice:
            raise BadInput(f"bundle {path}: holds {twice[0]!r} more than once; refused")
        for member in members:
            if leaves(member.filename):
                raise BadInput(f"bundle {path}: {member.filename!r} leaves the bundle; refused")
            if stat.S_ISLNK(member.external_attr >> 16):
                raise BadInput(f"bundle {path}: {member.filename} is a symbolic link; put the file itself there")

    def has(self, name: str) -> bool:
        return name in self._archive.NameToInfo

    def read(self, name: str) -> bytes:
        if not self.has(name):
            raise BadInput(f"bundle {self._path}: {name} is missing")
        # Reading stops at the size that the entry claims, whatever its stream would go on to.
        self._budget.take(name, self._archive.getinfo(name).file_size)
        return self._archive.read(name)


@contextlib.contextmanager
def open_files(path: Path) -> Iterator[Files]:
    """The files of the bundle ``path``. Whatever is wrong with them is raised as :class:`BadInput`, in one line."""
    try:
        if path.is_dir():
            yield _Folder(path)
            return
        if not path.is_file():
            raise BadInput(f"bundle {path}: no such folder or zip")
        if path.stat().st_size > MAX_BYTES:
            raise BadInput(f"bundle {path}: {path.stat().st_size} bytes; a bundle holds {MAX_BYTES} at most")
        with zipfile.ZipFile(path) as archive:
            yield _Zip(path, archive)
    except UNREADABLE as error:
        reason = " ".join(str(error).split())[:200]
        raise BadInput(f"bundle {path}: cannot be read as a folder or zip ({reason})") from None
