"""Folders for files that do not outlive the process which made them.

Each belongs to one process, which holds a lock beside it; the kernel drops the lock however the
process ends. So a folder without a holder is litter, and can be told from one at work on any file
system that knows `flock`. What lies in the folders is the owner's business.
"""

from __future__ import annotations

import atexit
import fcntl
import os
import shutil
import tempfile
from pathlib import Path

_LOCK = ".owned"


class OwnedFolder:
    """A new private folder below `scratch`, removed by `remove` or at the end of this process.

    Parameters
    ----------
    scratch
        Folder in which it is made; made when needed.
    purpose
        How its name starts.
    """

    def __init__(self, scratch: Path, purpose: str) -> None:
        scratch.mkdir(parents=True, exist_ok=True)
        self._owner = os.getpid()
        self._lock, lock = _locked(scratch.absolute(), purpose)
        self.path = lock.with_suffix("")
        self.path.mkdir(mode=0o700)
        atexit.register(self.remove)

    def remove(self) -> None:
        """Remove it with all that is in it; does nothing in a forked child, or the second time."""
        if self._lock is None or self._owner != os.getpid():
            return
        _discard(self.path.with_suffix(_LOCK))
        os.close(self._lock)
        self._lock = None
        atexit.unregister(self.remove)


def clean_scratch(scratch: Path) -> int:
    """Remove the folders below `scratch` whose owners ended without removing them; says how many."""
    return sum(_discard_unowned(lock) for lock in sorted(scratch.glob(f"*{_LOCK}")))


def _locked(scratch: Path, purpose: str) -> tuple[int | None, Path]:
    while True:
        descriptor, name = tempfile.mkstemp(prefix=f"{purpose}-", suffix=_LOCK, dir=scratch)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        # A cleaner may have taken the new file for litter before it was locked.
        if Path(name).exists():
            return descriptor, Path(name)
        os.close(descriptor)


def _discard_unowned(lock: Path) -> bool:
    try:
        descriptor = os.open(lock, os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _discard(lock)
    except BlockingIOError:
        return False
    else:
        return True
    finally:
        os.close(descriptor)


def _discard(lock: Path) -> None:
    # The lock goes last: without it nobody would come back for a folder that is half removed.
    shutil.rmtree(lock.with_suffix(""), ignore_errors=True)
    lock.unlink(missing_ok=True)
