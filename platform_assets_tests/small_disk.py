"""A small file system that only one process sees, and that disappears with it."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess

import pytest

CLONE_NEWNS = 0x00020000

needs_root = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("unshare") is None, reason="needs root and Linux, to mount"
)


def mount_small_disk(folder: str, megabytes: int) -> None:
    """Mount a tmpfs on a folder, in a new mount namespace of this process."""
    # Like `unshare --mount`, but without starting a process that has to import everything again.
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNS):
        raise OSError(ctypes.get_errno(), "the process cannot have its own mount namespace")
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", folder], check=True)
