"""So that two processes may share the rows of one table."""

import os
from pathlib import Path


def claim(folder: Path) -> bool:
    """Take a folder for this process; False if another process that still runs has it."""
    folder.mkdir(parents=True, exist_ok=True)
    lock = folder / "running"
    try:
        with lock.open("x") as file:
            file.write(str(os.getpid()))
    except FileExistsError:
        owner = lock.read_text().strip()
        if owner.isdecimal() and int(owner) != os.getpid() and Path(f"/proc/{owner}").exists():
            return False
        lock.write_text(str(os.getpid()))
    return True
