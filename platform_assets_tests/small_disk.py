"""A small file system that only the mounting process can see, and that is removed when the process ends."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess

import pytest

CLONE_NEWNS = 0x00020000

needs_root = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("unshare") is None,
    reason="needs Linux, and root to mount a disk: run the tests as root",
)


def mount_small_disk(folder: str, megabytes: int) -> None:
    """Mount a tmpfs on a folder, in a new mount namespace of this process."""
    # Call the kernel instead of the program `unshare`, because a new process would have to import everything again.
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNS):
        raise OSError(ctypes.get_errno(), "cannot create a mount namespace for this process")
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", folder], check=True)
