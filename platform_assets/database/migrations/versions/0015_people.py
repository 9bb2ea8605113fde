"""People who sign in by OpenID Connect or through a proxy, and the scope `identify` of the service.

The SQL files are in `migrations/people`. They replace functions of migration 0004; the previous release can call them.
"""

from __future__ import annotations

import re
from pathlib import Path

from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

MIGRATIONS = Path(__file__).parents[1]
NEW = ("sign_in_person", "add_key", "revoke_hashes", "is_revoked", "people_named", "is_reserved", "session_of")
PINNED = "set search_path = pg_catalog, pg_temp"
PINNED_OF_OWNER = "set extra_float_digits = 1 set standard_conforming_strings = on"


def upgrade() -> None:
    for file in sorted((MIGRATIONS / "people").glob("*.sql")):
        run(file.read_text())


def run(statements: str) -> None:
    """Run statements, with percent signs escaped because the driver would read them as parameters."""
    op.get_bind().exec_driver_sql(statements.replace("%", "%%"))


def downgrade() -> None:
    """Restore the functions of migration 0004; people and keys with the scope `identify` must be deleted before."""
    for name, file in (
        ("record_key", "1_journal"),
        ("key_of", "2_rules"),
        ("actor_of", "2_rules"),
        ("revoke_key", "5_keys"),
    ):
        run(defined(name, file).replace("create function", "create or replace function", 1))
    for name in NEW:
        run(f"drop function platform.{name}")
    run(defined("add_key", "5_keys"))
    run("revoke execute on function platform.add_key from public")
    run("alter table platform.sessions drop column scopes, drop column via, drop column vouched_by")
    run("alter table platform.api_keys drop column is_person")
    run("alter table platform.api_keys drop constraint api_keys_scopes_check")
    run(
        "alter table platform.api_keys add constraint api_keys_scopes_check"
        " check (scopes <@ array['read', 'predict', 'label', 'trace', 'approve'] and cardinality(scopes) > 0)"
    )


def defined(name: str, file: str) -> str:
    """Return the statement of migration 0004 that creates a function, with the settings that it pinned."""
    text = (MIGRATIONS / "ledger" / f"{file}.sql").read_text()
    found = re.search(rf"create function platform\.{name}\(.*?\n\$\$;", text, re.DOTALL)
    assert found is not None  # noqa: S101 - narrows the type
    pinned = f"{PINNED} {PINNED_OF_OWNER} as $$" if "security definer" in found[0] else f"{PINNED} as $$"
    if PINNED in found[0]:
        return found[0]
    return found[0].replace("as $$", pinned, 1)
