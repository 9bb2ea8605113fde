"""Revisions of the platform's own tables: those that this code has, and those that a database is at.

The rooms share the branch `platform`, in `database/migrations/versions`. A domain that owns tables has
a branch named after it, in `domains/<domain>/migrations`. So a database is at a set of revisions: the
newest one of each branch. File names say which revisions there are; reading them imports neither
Alembic nor a domain. How a branch is written and upgraded, `migrate.py` says.
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
"""Label of the branch that the rooms share."""
REVISIONS_TABLE = "platform.alembic_version"


@dataclass(frozen=True)
class Branch:
    """One chain of migrations.

    Attributes
    ----------
    label
        `platform`, or the domain's name.
    files
        The migrations by revision, oldest first.
    """

    label: str
    files: dict[str, Path]

    @property
    def head(self) -> str:
        """The newest revision."""
        return [*self.files][-1]


def find_branches(domains: Path = DOMAINS) -> list[Branch]:
    """Return the platform's branch, then that of each domain which has migrations, by name.

    Parameters
    ----------
    domains
        The folder that holds a folder for each domain.

    Raises
    ------
    DatabaseError
        The name of a migration's file does not begin with a revision of its branch.

    """
    found = [Branch(PLATFORM, _files_by_revision(MIGRATIONS / "versions", ""))]
    for folder in sorted(domains.glob("*/migrations")):
        domain = folder.parent.name
        # Where a domain was deleted, Python's caches may keep its folders.
        if files := _files_by_revision(folder, f"{domain}_"):
            found.append(Branch(domain, files))
    return found


def _files_by_revision(folder: Path, prefix: str) -> dict[str, Path]:
    files = {}
    for path in sorted(folder.glob("*.py")):
        named = re.match(rf"({re.escape(prefix)}\d{{4}})_", path.name)
        if named is None:
            raise DatabaseError(
                f"the migration {path} has no revision in its name; rename it, for example to {prefix}0001_{path.name}"
            )
        files[named[1]] = path
    return files


def wanted_heads(domains: Path = DOMAINS) -> frozenset[str]:
    """Return the newest revision of each branch, which is what this code needs."""
    return frozenset(branch.head for branch in find_branches(domains))


def current_heads(connection: psycopg.Connection[Any], table: str = REVISIONS_TABLE) -> frozenset[str]:
    """Return the revisions that a database is at; none before the first migration."""
    from psycopg import sql

    found = connection.execute("select to_regclass(%s)", [table]).fetchone()
    if found is None or found[0] is None:
        return frozenset()
    rows = connection.execute(sql.SQL("select version_num from {}").format(sql.Identifier(*table.split("."))))
    return frozenset(str(revision) for (revision,) in rows.fetchall())


def listed(revisions: Iterable[str]) -> str:
    """Return revisions as people read them; empty without any."""
    return ", ".join(sorted(revisions))


def refuse_unknown(heads: Iterable[str], name: str, domains: Path = DOMAINS) -> None:
    """Refuse a database that is at a revision whose file this code does not have.

    Parameters
    ----------
    heads
        What the database is at.
    name
        Of the database, for the message.
    domains
        As for `find_branches`.

    Raises
    ------
    DatabaseError
        Names the revision, its domain if that is gone, and what to do.

    """
    branches = {branch.label: branch for branch in find_branches(domains)}
    known = {revision for branch in branches.values() for revision in branch.files}
    for revision in sorted(set(heads) - known):
        domain = revision.rpartition("_")[0]
        if domain and domain not in branches:
            raise DatabaseError(
                f"the database {name} has tables of the domain {domain} at revision {revision}, and this code has no "
                f"{domains / domain / 'migrations'}; put that folder back, or, to remove the domain for good, let the "
                f"tables' owner drop them and delete the row {revision} of {REVISIONS_TABLE}"
            )
        raise DatabaseError(
            f"the database {name} is at revision {revision}, which this code does not have; a newer version of the "
            "platform migrated it: install that version"
        )
