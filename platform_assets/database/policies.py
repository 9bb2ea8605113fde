"""The rules for decisions, as data in the database: whether an identity is required, and each model's approval policy.

The tables' owner writes them from settings and declarations, in `platform-assets migrate`. The ledger's functions read
them, so the service's role cannot choose its own rules. The newest entry in the ledger's journal is in force.
"""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any

from platform_assets.base.errors import DatabaseError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import psycopg

    from platform_assets.database.connections import Database

    Connection = psycopg.Connection[Any]

_RULES = "rules"
_POLICY = "policy"
_IN_FORCE = (
    "select details from platform.approval_journal where kind = %s and subject = %s order by sequence desc limit 1"
)


def write_rules(connection: Connection, *, identity_required: bool) -> list[str]:
    """Record whether a decision needs an authenticated person; return one line if this changes the record, else none.

    Parameters
    ----------
    connection
        Connection as the role that owns the tables.
    identity_required
        Whether a decision needs an authenticated person.
    """
    if not _write(connection, _RULES, "", {"identity_required": identity_required}):
        return []
    return [f"recorded that decisions {'require a key' if identity_required else 'need no key'}"]


def write_policies(connection: Connection, policies: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Record the approval policies of models; return a line for each change.

    Parameters
    ----------
    connection
        Connection as the role that owns the tables.
    policies
        Policies by model, as `approval.policy.policy_as_json` returns them.
    """
    return [
        f"recorded the approval policy of {model}"
        for model, policy in sorted(policies.items())
        if _write(connection, _POLICY, model, policy)
    ]


def policy_in_force(connection: Connection, model: str) -> Any:
    """Return the recorded approval policy of a model, as JSON; None if there is none."""
    return _in_force(connection, _POLICY, model)


def settle_rules(database: Database, open_owner: Callable[[], Database] | None, *, identity_required: bool) -> None:
    """Check that the rules in the database match the settings. If they differ, write them as the owner.

    Parameters
    ----------
    database
        The database, opened as the role of the service.
    open_owner
        Function that opens the same database as the owner, to write the rules; None if only `migrate` may write them.
    identity_required
        Value in the settings.

    Raises
    ------
    DatabaseError
        The rules differ, and `open_owner` is None.
    """
    with database.connect("platform") as connection:
        found = _in_force(connection, _RULES, "")
    if found == {"identity_required": identity_required}:
        return
    if open_owner is None:
        setting = "on" if identity_required else "off"
        raise DatabaseError(
            f"PLATFORM_APPROVALS_REQUIRE_IDENTITY is {setting}, but the database {database.name('platform')} "
            f"{'has no rule for it' if found is None else 'has the opposite rule'}; run `platform-assets migrate` with "
            "this setting, or change the setting"
        )
    with closing(open_owner()) as owner, owner.connect("platform") as connection:
        write_rules(connection, identity_required=identity_required)


def _write(connection: Connection, kind: str, subject: str, details: Mapping[str, Any]) -> bool:
    from psycopg import errors
    from psycopg.types.json import Jsonb

    # Check without the lock first, because usually nothing has changed, and because only the owner may take the lock.
    if _in_force(connection, kind, subject) == details:
        return False
    try:
        with connection.transaction():
            # The ledger's functions take the same lock. Check again, because another `migrate` may have written the
            # rules in the meantime.
            connection.execute("select platform.begin_step()")
            if _in_force(connection, kind, subject) == details:
                return False
            connection.execute("select platform.enter_in_journal(%s, %s, %s)", [kind, subject, Jsonb(dict(details))])
    except errors.InsufficientPrivilege:
        raise DatabaseError(
            f"the role {connection.info.user} may not record the rules for decisions; set "
            "PLATFORM_MIGRATION_DATABASE_URL to connect as the role that owns the tables, and run "
            "`platform-assets migrate`"
        ) from None
    return True


def _in_force(connection: Connection, kind: str, subject: str) -> Any:
    row = connection.execute(_IN_FORCE, [kind, subject]).fetchone()
    return row[0] if row else None
