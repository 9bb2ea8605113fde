"""Install uv into `.uv`, and then the packages of `uv.lock` into `.venv`.

`make` runs this script before each target, with the first suitable Python. It uses only the standard library.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOT = Path(__file__).resolve().parents[1]
TOOLS = ROOT / ".uv"
ENVIRONMENT = ROOT / ".venv"
# Resolve symbolic links, because a virtual environment or a shim may be removed later. Without the full path, uv would
# search for a Python, try shims that fail, and finally download a Python.
INTERPRETER = os.path.realpath(sys.executable)


def main(uv_version: str) -> None:
    """Install uv and the packages if they are missing. If a command fails, exit with its code."""
    home = TOOLS / uv_version
    TOOLS.mkdir(exist_ok=True)
    with (TOOLS / "lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        # The child processes inherit the lock, so it is held until they end, even if this process is killed.
        os.set_inheritable(lock.fileno(), True)  # noqa: FBT003  # accepts no keyword
        if not (home / "bin" / "uv").exists() or not (home / "bin").samefile(Path(sys.executable).parent):
            install_uv(home, uv_version)
        sync(home / "bin" / "uv")


def install_uv(home: Path, version: str) -> None:
    """Create an environment that contains only uv. Rename the folder into place once it is complete."""
    say(f"Installing with {INTERPRETER}. The first installation downloads about 1 GB.")
    new = TOOLS / "new"
    shutil.rmtree(new, ignore_errors=True)
    run([INTERPRETER, "-m", "venv", new])
    pip = (new / "bin" / "python", "-m", "pip", "--disable-pip-version-check", "install", "--quiet")
    run((*pip, "--only-binary", ":all:", f"uv=={version}"))
    shutil.rmtree(home, ignore_errors=True)
    new.rename(home)


def sync(uv: Path) -> None:
    """Make `.venv` match the lock file, with the optional features in the variable EXTRAS.

    If `.venv` already matches, this takes milliseconds and needs no network.
    """
    # Mark the installation as unfinished, because uv leaves incomplete packages if it is killed or fills the disk, and
    # later considers them installed.
    unfinished = TOOLS / "syncing"
    if unfinished.exists() and ENVIRONMENT.exists():
        say("The last installation did not finish. Starting again.")
        shutil.rmtree(ENVIRONMENT)
    unfinished.touch()
    # Compile bytecode at the first installation, as pip does. Otherwise each of the first processes compiles its
    # imports on one core. Later syncs skip this, because checking all files takes longer than the rest of the sync.
    compiled = [] if ENVIRONMENT.exists() else ["--compile-bytecode"]
    extras = [word for name in os.environ.get("EXTRAS", "").split() for word in ("--extra", name)]
    run([uv, "sync", "--frozen", "--python", INTERPRETER, *compiled, *extras])
    unfinished.unlink()


def say(line: str) -> None:
    """Print a line and flush it, so that it precedes the output of the next command."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def run(command: Sequence[str | Path]) -> None:
    """Run a command in the project folder. Exit with its code if it fails."""
    code = subprocess.call(command, cwd=ROOT, close_fds=False)  # noqa: S603  # only commands from this file
    if code:
        sys.exit(code if code > 0 else 128 - code)


if __name__ == "__main__":
    try:
        main(sys.argv[1])
    except KeyboardInterrupt:
        sys.exit(130)
