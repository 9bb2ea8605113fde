"""Record which older code can use a migrated database, so that a rollback to the previous release is possible.

`migrate` records the supported revisions: code at these revisions can use the database. Most migrations only add
objects, which older code ignores, so by default all revisions are supported. A migration that removes an object sets
`oldest_code`, the oldest revision at which the code does not use this object. Revisions before it are not supported.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    import psycopg

    from platform_assets.database.connections import Database
    from platform_assets.database.revisions import Branch


_COMMENTS = """
comment on table platform.supported_revisions is 'Revisions whose code can use this database.';
comment on column platform.supported_revisions.version_num is 'Revision whose code can use this database.';
comment on column platform.supported_revisions.head is
    'The row applies only while the database is at this revision of the same branch.'
"""


def supported_revisions(connection: psycopg.Connection[Any]) -> frozenset[str]:
    """Return the supported revisions: code at these revisions can use the database. Empty if none were recorded."""
    if connection.execute("select to_regclass('platform.supported_revisions')").fetchone() == (None,):
        return frozenset()
    # Ignore rows whose `head` is no longer in the database because of a downgrade.
    rows = connection.execute(
        "select s.version_num from platform.supported_revisions s"
        " join platform.alembic_version v on v.version_num = s.head"
    )
    return frozenset(str(revision) for (revision,) in rows.fetchall())


def can_use(wanted: frozenset[str], found: frozenset[str], supported: frozenset[str]) -> bool:
    """Return whether the database is at the code's revisions, or newer code migrated it and only made additions.

    A domain's branch that the code does not contain is ignored, because only the domain uses its tables.

    Parameters
    ----------
    wanted
        The revisions that the code needs.
    found
        The revisions that the database is at.
    supported
        Result of `supported_revisions`.
    """
    return wanted <= found | supported


def record_supported(owner: Database, branches: Iterable[Branch]) -> None:
    """Record the supported revisions after a migration to the heads of these branches.

    Code at a supported revision can use the migrated database.

    Parameters
    ----------
    owner
        The databases, opened as the role that owns the tables.
    branches
        All branches of this code.
    """
    revisions = [[revision, branch.head] for branch in branches for revision in _supported(branch)]
    with owner.connect("platform") as connection, connection.transaction(), connection.cursor() as cursor:
        # Like Alembic's table, this table is not part of a migration, because it describes migrations.
        cursor.execute(
            "create table if not exists platform.supported_revisions (version_num text primary key, head text not null)"
        )
        cursor.execute(_COMMENTS)
        cursor.execute("delete from platform.supported_revisions")
        cursor.executemany("insert into platform.supported_revisions values (%s, %s)", revisions)


def _supported(branch: Branch) -> list[str]:
    from alembic.util import load_python_file

    oldest = next(iter(branch.files))
    for path in branch.files.values():
        oldest = getattr(load_python_file(str(path.parent), path.name), "oldest_code", oldest)
    return [revision for revision in branch.files if revision >= oldest]
