"""Rights on the ledger: the service's role calls functions, and another role, which cannot log in, owns them.

The functions of migration 0004 run with the rights of `LEDGER_ROLE`, which alone may insert into the ledger's tables.
In production, the service refuses to connect as the role that owns the tables, because this role can alter the ledger.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from platform_assets.base.errors import DatabaseError

if TYPE_CHECKING:
    import psycopg

    from platform_assets.database.connections import Database

    Connection = psycopg.Connection[Any]

LEDGER_ROLE = "platform_ledger"
"""Role that owns the ledger's functions. It cannot log in. All platforms on a server share it."""
READ_AND_ADD = "select, insert"
RIGHTS = {
    "approval_requests": READ_AND_ADD,
    "approval_plots": READ_AND_ADD,
    "approval_events": READ_AND_ADD,
    "approval_projections": READ_AND_ADD,
    "approval_journal": READ_AND_ADD,
    "api_keys": READ_AND_ADD,
    "api_key_revocations": READ_AND_ADD,
    "sessions": "select, insert, update, delete",
    "case_folding": "select",
}
"""Rights of `LEDGER_ROLE` on the tables that only functions write, in the schema `platform`."""


def guard(connection: Connection, role: str) -> None:
    """Let the service's role write to the ledger only through its functions.

    Parameters
    ----------
    connection
        Connection to the platform's database, as the role that owns the tables.
    role
        The role that the service connects with.

    Raises
    ------
    DatabaseError
        The owner may not create the missing `LEDGER_ROLE`, or is not a member of it.
    """
    from psycopg import errors, sql

    if connection.execute("select to_regclass('platform.approval_journal')").fetchone() == (None,):
        return
    ledger, service = sql.Identifier(LEDGER_ROLE), sql.Identifier(role)
    try:
        _make_role(connection)
        with connection.transaction():
            # To become the owner of a function, a role needs the right to create objects in the function's schema. This
            # right is revoked below.
            connection.execute(sql.SQL("grant usage, create on schema platform to {}").format(ledger))
            for table, rights in RIGHTS.items():
                name = sql.Identifier("platform", table)
                connection.execute(sql.SQL("grant {} on table {} to {}").format(sql.SQL(rights), name, ledger))
            for signature, is_entrance in _functions(connection):
                function = sql.SQL("function {}").format(sql.SQL(signature))
                # By default, and therefore after a restore, every role may call the functions. Revoke this right.
                connection.execute(sql.SQL("revoke execute on {} from public").format(function))
                if is_entrance:
                    connection.execute(sql.SQL("alter {} owner to {}").format(function, ledger))
                    connection.execute(sql.SQL("grant execute on {} to {}").format(function, service))
                else:
                    connection.execute(sql.SQL("grant execute on {} to {}").format(function, ledger))
            connection.execute(sql.SQL("revoke create on schema platform from {}").format(ledger))
    except errors.InsufficientPrivilege:
        user = connection.info.user
        raise DatabaseError(
            f"the role {user} may not create the role {LEDGER_ROLE} or make it the owner of the ledger's functions; "
            f"ask an administrator to run: create role {LEDGER_ROLE} nologin; "
            f'grant {LEDGER_ROLE} to "{user}"'
        ) from None


def _make_role(connection: Connection) -> None:
    from psycopg import errors, sql

    if connection.execute("select from pg_roles where rolname = %s", [LEDGER_ROLE]).fetchone() is None:
        try:
            connection.execute(sql.SQL("create role {} nologin").format(sql.Identifier(LEDGER_ROLE)))
        except (errors.DuplicateObject, errors.UniqueViolation):
            # A migration of another database on the same server has created the role in the meantime.
            return
    if connection.execute("select pg_has_role(%s, 'member')", [LEDGER_ROLE]).fetchone() == (False,):
        connection.execute(sql.SQL("grant {} to current_user").format(sql.Identifier(LEDGER_ROLE)))


def _functions(connection: Connection) -> list[tuple[str, bool]]:
    """The functions of the schema `platform`, and whether each runs with its owner's rights."""
    return connection.execute(
        "select oid::regprocedure::text, prosecdef from pg_proc"
        " where pronamespace = 'platform'::regnamespace order by prosecdef, oid"
    ).fetchall()


def require_separate_owner(database: Database) -> None:
    """Refuse a database whose tables the service's own role could alter.

    Raises
    ------
    DatabaseError
        The role owns the ledger, is a member of its owner or of `LEDGER_ROLE`, or may write to the ledger.
    """
    with database.connect("platform") as connection:
        why = why_unguarded(connection)
    if why:
        raise DatabaseError(
            f"PLATFORM_ENV=production needs a role that cannot alter the ledger, but the role in PLATFORM_DATABASE_URL "
            f"{why}; connect as another role, and run `platform-assets migrate` with PLATFORM_MIGRATION_DATABASE_URL "
            "set to the owner's URL"
        )


def why_unguarded(connection: Connection) -> str:
    """Return the reason why the connected role can alter the ledger; empty if it cannot."""
    row = connection.execute(
        "select bool_or(pg_has_role(relowner, 'member')),"
        " exists (select from pg_roles where rolname = %(role)s and pg_has_role(oid, 'member')),"
        " min(relname) filter (where has_table_privilege(oid, 'insert, update, delete, truncate, trigger')"
        " or has_any_column_privilege(oid, 'insert, update'))"
        " from pg_class where relnamespace = to_regnamespace('platform') and relname = any(%(tables)s)",
        {"role": LEDGER_ROLE, "tables": [*RIGHTS]},
    ).fetchone()
    owns, is_member, writable = row or (False, False, None)
    if owns:
        return "owns it"
    if is_member:
        return f"is a member of {LEDGER_ROLE}"
    return f"may write to platform.{writable}" if writable else ""
