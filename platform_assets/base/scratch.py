"""Scratch folders, which are removed after the end of the process that created them.

The process holds a lock (`flock`) on a file next to its folder. The kernel releases the lock when the process ends,
even if it is killed. `clean_scratch` removes folders whose lock is free.
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
    """A new private folder below `scratch`, which is removed by `remove` or when the process exits.

    Parameters
    ----------
    scratch
        The parent folder, which is created if it is missing.
    purpose
        Prefix of the folder's name.
    """

    def __init__(self, scratch: Path, purpose: str) -> None:
        scratch.mkdir(parents=True, exist_ok=True)
        self._owner = os.getpid()
        self._lock, lock = _locked(scratch.absolute(), purpose)
        self.path = lock.with_suffix("")
        self.path.mkdir(mode=0o700)
        atexit.register(self.remove)

    def remove(self) -> None:
        """Remove the folder and its content. A second call, or a call in a forked child, does nothing."""
        if self._lock is None or self._owner != os.getpid():
            return
        _discard(self.path.with_suffix(_LOCK))
        os.close(self._lock)
        self._lock = None
        atexit.unregister(self.remove)


def clean_scratch(scratch: Path) -> int:
    """Remove folders below `scratch` that ended processes have left behind; return the number of removed folders."""
    return sum(_discard_unowned(lock) for lock in sorted(scratch.glob(f"*{_LOCK}")))


def _locked(scratch: Path, purpose: str) -> tuple[int | None, Path]:
    while True:
        descriptor, name = tempfile.mkstemp(prefix=f"{purpose}-", suffix=_LOCK, dir=scratch)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        # Try again if `clean_scratch` of another process removed the new file before it was locked.
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
    # Remove the lock file last, because `clean_scratch` needs it to find a partly removed folder.
    shutil.rmtree(lock.with_suffix(""), ignore_errors=True)
    lock.unlink(missing_ok=True)
