"""A small disk that only the process which asks for it sees, and that is gone with it."""

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
    """Mount one, in a mount namespace of this process's own."""
    # As `unshare --mount` does, in a process that has imported all.
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNS):
        raise OSError(ctypes.get_errno(), "cannot have mounts of its own")
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", folder], check=True)
