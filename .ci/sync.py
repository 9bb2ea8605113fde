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
# Path of the real interpreter. A symbolic link could belong to a virtual environment or a shim that is removed later.
# Without a full path, uv would search for a Python, try shims that fail, and finally download one.
INTERPRETER = os.path.realpath(sys.executable)


def main(uv_version: str) -> None:
    """Install uv and the packages if they are missing. If a command fails, exit with its code."""
    home = TOOLS / uv_version
    TOOLS.mkdir(exist_ok=True)
    with (TOOLS / "lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        # The child processes inherit the lock. If this process is killed, the lock is held until they end.
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
    """Make `.venv` match the lock file. The variable EXTRAS lists the optional features to install.

    If `.venv` already matches, this takes milliseconds and needs no network.
    """
    # This file exists while an installation is unfinished. If uv is killed or the disk is full, incomplete packages
    # remain, and the next run of uv would treat them as installed.
    unfinished = TOOLS / "syncing"
    if unfinished.exists() and ENVIRONMENT.exists():
        say("The last installation did not finish. Starting again.")
        shutil.rmtree(ENVIRONMENT)
    unfinished.touch()
    # Compile bytecode in the first installation, as pip does. Otherwise, the first processes would each compile their
    # imports on one core. Later syncs do not compile, because checking all files takes longer than the sync itself.
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
