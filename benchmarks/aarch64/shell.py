"""Commands of this machine, run quietly: their last words become the error, one line."""

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from firmware_bridge.errors import BadInput

# What each command comes from, for the line that says it is missing.
PACKAGES = {
    "debootstrap": "debootstrap",
    "dpkg-deb": "dpkg",
    "gpgv": "gpgv",
    "fakeroot": "fakeroot",
}


def need(*commands: str) -> None:
    """Raise :class:`BadInput` for the first command that is not on this machine."""
    for command in commands:
        # Debian keeps administrators' commands off a user's path.
        if shutil.which(command, path=_path()) is None:
            raise BadInput(f"bench aarch64: {command} is missing; on Debian: sudo apt install {PACKAGES[command]}")


def run(
    command: Sequence[str | Path],
    *,
    what: str,
    cwd: Path | None = None,
    environment: Mapping[str, str] | None = None,
    statuses: Sequence[int] = (0,),
) -> str:
    """Standard output of a command; ``what`` it was for, if it ends in another status than ``statuses``."""
    try:
        done = subprocess.run(
            [str(word) for word in command],
            cwd=cwd,
            env={**(os.environ if environment is None else environment), "PATH": _path()},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
    except OSError as error:
        raise BadInput(f"bench aarch64: {what}: {command[0]} cannot be run ({error.strerror})") from None
    if done.returncode not in statuses:
        words = [line.strip() for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        last = words[-1] if words else f"exit status {done.returncode}"
        raise BadInput(f"bench aarch64: {what}: {last[:300]}")
    return done.stdout


def unpack(deb: Path, root: Path, members: Sequence[str] = ()) -> None:
    """The files of a Debian package (or those ``members``) into ``root``; links to folders in it stay links."""
    archive = root / f".{deb.name}.tar"
    try:
        with archive.open("wb") as file:
            command = ["dpkg-deb", "--fsys-tarfile", str(deb)]
            done = subprocess.run(command, stdout=file, stderr=subprocess.PIPE, check=False)
        if done.returncode != 0:
            raise BadInput(f"bench aarch64: {deb}: is no Debian package; remove it and try again")
        options = ("--extract", "--keep-directory-symlink", "--no-same-owner", "--file")
        run(["tar", *options, archive.name, *members], what=f"unpacking {deb.name}", cwd=root)
    finally:
        archive.unlink(missing_ok=True)


def _path() -> str:
    return os.environ.get("PATH", os.defpath) + os.pathsep + "/usr/sbin" + os.pathsep + "/sbin"
