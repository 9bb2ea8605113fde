"""Versions of the running code and libraries, recorded with every table and model."""

from __future__ import annotations

import hashlib
import subprocess
from functools import cache
from importlib.metadata import distributions, version
from pathlib import Path

_PROJECT = Path(__file__).parents[2]
_SECONDS = 10


@cache
def code_version() -> str:
    """Return the package version and, in a checkout, the git commit: `0.1.0+1a2b3c4d5e6f`, `.dirty` if changed."""
    release = version("platform-assets")
    # An installed package may lie inside an unrelated checkout.
    commit = _git("rev-parse", "--short=12", "HEAD") if (_PROJECT / ".git").exists() else ""
    if not commit:
        return release
    return f"{release}+{commit}{'.dirty' if _git('status', '--porcelain', '--untracked-files=no') else ''}"


@cache
def git_commit() -> str:
    """Return the full hash of the checkout's commit; empty outside a checkout."""
    return _git("rev-parse", "HEAD") if (_PROJECT / ".git").exists() else ""


@cache
def lock_digest() -> str:
    """Return a digest of the libraries: of `uv.lock` in a checkout, or else of the names and versions installed."""
    lock = _PROJECT / "uv.lock"
    if lock.exists():
        return hashlib.sha256(lock.read_bytes()).hexdigest()
    installed = sorted(f"{one.name}=={one.version}" for one in distributions())
    return hashlib.sha256("\n".join(installed).encode()).hexdigest()


def _git(*arguments: str) -> str:
    """Return git's output for the project; empty without git or a checkout."""
    try:
        done = subprocess.run(  # noqa: S603 - fixed arguments
            ["git", "-C", str(_PROJECT), *arguments],  # noqa: S607 - the user's git
            capture_output=True,
            text=True,
            check=False,
            timeout=_SECONDS,
        )
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
