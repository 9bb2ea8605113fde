"""Sets up the project's own folder: uv in `.uv`, then in `.venv` what `uv.lock` says.

`make` runs it before everything else, with the first Python that will do. Standard library only.
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
# The real file: a virtual environment or a shim in front of it may go away. Given by its full path, or
# uv would look for one by itself, try shims that fail, and in the end download one.
INTERPRETER = os.path.realpath(sys.executable)


def main(uv_version: str) -> None:
    """Set up what is missing; exits with the code of the program that failed."""
    home = TOOLS / uv_version
    TOOLS.mkdir(exist_ok=True)
    with (TOOLS / "lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        # Held for as long as a child runs, even if this process is killed.
        os.set_inheritable(lock.fileno(), True)  # noqa: FBT003  # takes no keyword
        if not (home / "bin" / "uv").exists() or not (home / "bin").samefile(Path(sys.executable).parent):
            install_uv(home, uv_version)
        sync(home / "bin" / "uv")


def install_uv(home: Path, version: str) -> None:
    """Make an environment that holds uv alone; it is either there as a whole or not at all."""
    say(f"Setting up with {INTERPRETER}; this downloads about 1 GB once.")
    new = TOOLS / "new"
    shutil.rmtree(new, ignore_errors=True)
    run([INTERPRETER, "-m", "venv", new])
    pip = (new / "bin" / "python", "-m", "pip", "--disable-pip-version-check", "install", "--quiet")
    run((*pip, "--only-binary", ":all:", f"uv=={version}"))
    shutil.rmtree(home, ignore_errors=True)
    new.rename(home)


def sync(uv: Path) -> None:
    """Make `.venv` equal to the lock; milliseconds and no network when it is."""
    # Killed, or out of disk, uv leaves packages half-written, and takes them for whole the next time.
    unfinished = TOOLS / "syncing"
    if unfinished.exists() and ENVIRONMENT.exists():
        say("The last set-up did not finish; starting it over.")
        shutil.rmtree(ENVIRONMENT)
    unfinished.touch()
    # As pip does; otherwise each of the first processes compiles what it imports, on one core. Looking for what is
    # compiled already would take longer than all the rest of a sync that finds nothing to do.
    compiled = [] if ENVIRONMENT.exists() else ["--compile-bytecode"]
    run([uv, "sync", "--frozen", "--python", INTERPRETER, *compiled])
    unfinished.unlink()


def say(line: str) -> None:
    """Print a line at once, before the output of the commands that follow."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def run(command: Sequence[str | Path]) -> None:
    """Run a command in the project; when it fails, it has said why, and its exit code is ours."""
    code = subprocess.call(command, cwd=ROOT, close_fds=False)  # noqa: S603  # commands of this file
    if code:
        sys.exit(code if code > 0 else 128 - code)


if __name__ == "__main__":
    try:
        main(sys.argv[1])
    except KeyboardInterrupt:
        sys.exit(130)
