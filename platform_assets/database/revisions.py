"""Migration revisions of the platform's tables, in this code and in a database.

The branch `platform` in `database/migrations/versions` contains all tables except those of domains. A domain that owns
tables has its own branch in `domains/<domain>/migrations`, named after the domain. A database is at one revision of
each branch. Revisions are read from file names, so that neither Alembic nor a domain is imported. `migrate.py` explains
how to write a migration.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from platform_assets.base.errors import DatabaseError

if TYPE_CHECKING:
    from collections.abc import Iterable

    import psycopg

MIGRATIONS = Path(__file__).with_name("migrations")
DOMAINS = Path(__file__).parents[1] / "domains"
PLATFORM = "platform"
"""Label of the branch with all tables except those of domains."""
REVISIONS_TABLE = "platform.alembic_version"


@dataclass(frozen=True)
class Branch:
    """One branch of migrations.

    Attributes
    ----------
    label
        `platform` or a domain's name.
    files
        Path of each migration file by its revision, oldest first.
    """

    label: str
    files: dict[str, Path]

    @property
    def head(self) -> str:
        """Return the newest revision."""
        return [*self.files][-1]


def find_branches(domains: Path = DOMAINS) -> list[Branch]:
    """Return the platform's branch, followed by the domains' branches in alphabetical order.

    Parameters
    ----------
    domains
        The folder that contains the domains' folders.

    Raises
    ------
    DatabaseError
        A migration's file name does not start with a revision of its branch.

    """
    found = [Branch(PLATFORM, _files_by_revision(MIGRATIONS / "versions", ""))]
    for folder in sorted(domains.glob("*/migrations")):
        domain = folder.parent.name
        # Skip folders without migrations: `__pycache__` can keep the folder of a deleted domain in place.
        if files := _files_by_revision(folder, f"{domain}_"):
            found.append(Branch(domain, files))
    return found


def _files_by_revision(folder: Path, prefix: str) -> dict[str, Path]:
    files = {}
    for path in sorted(folder.glob("*.py")):
        named = re.match(rf"({re.escape(prefix)}\d{{4}})_", path.name)
        if named is None:
            raise DatabaseError(
                f"the name of the migration {path} does not start with a revision; rename the file, for example to "
                f"{prefix}0001_{path.name}"
            )
        files[named[1]] = path
    return files


def wanted_heads(domains: Path = DOMAINS) -> frozenset[str]:
    """Return the newest revision of each branch: the revisions that this code needs."""
    return frozenset(branch.head for branch in find_branches(domains))


def current_heads(connection: psycopg.Connection[Any], table: str = REVISIONS_TABLE) -> frozenset[str]:
    """Return the revisions that a database is at; empty before its first migration.

    Parameters
    ----------
    connection
        A connection to the database.
    table
        Table with the revisions, in the column `version_num`.
    """
    from psycopg import sql

    found = connection.execute("select to_regclass(%s)", [table]).fetchone()
    if found is None or found[0] is None:
        return frozenset()
    rows = connection.execute(sql.SQL("select version_num from {}").format(sql.Identifier(*table.split("."))))
    return frozenset(str(revision) for (revision,) in rows.fetchall())


def listed(revisions: Iterable[str]) -> str:
    """Join sorted revisions with commas, for messages."""
    return ", ".join(sorted(revisions))


def refuse_unknown(heads: Iterable[str], name: str, domains: Path = DOMAINS) -> None:
    """Refuse a database at a revision that this code does not contain.

    Parameters
    ----------
    heads
        The database's revisions.
    name
        The database's name, for the message.
    domains
        As for `find_branches`.

    Raises
    ------
    DatabaseError
        The database was migrated by newer code, or by a domain that this code no longer contains.

    """
    branches = {branch.label: branch for branch in find_branches(domains)}
    known = {revision for branch in branches.values() for revision in branch.files}
    for revision in sorted(set(heads) - known):
        domain = revision.rpartition("_")[0]
        if domain and domain not in branches:
            raise DatabaseError(
                f"the database {name} has tables of the domain {domain} at revision {revision}, but this code has no "
                f"folder {domains / domain / 'migrations'}; restore that folder, or remove the domain permanently: "
                f"drop its tables as their owner, and delete the row {revision} of {REVISIONS_TABLE}"
            )
        newest = branches[domain or PLATFORM].head
        raise DatabaseError(
            f"the database {name} is at revision {revision}, but this code knows only {newest} and older; install the "
            "version of the platform that migrated the database"
        )
