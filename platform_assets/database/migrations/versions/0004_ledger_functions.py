"""Add the functions through which the service writes to the ledger, and tables for the journal and for sessions.

The journal is a second hash chain, which records keys and policies.

The SQL files are in `migrations/ledger` and run in the order of their names. `ledger_rights.guard` sets the owner of
the functions and who may call them, because both depend on the roles. Requests and events keep their columns and
hashes.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

SQL = Path(__file__).parents[1] / "ledger"
TABLES = ("approval_journal", "sessions", "case_folding")
PERMANENT = ("approval_journal", "case_folding")
"""Tables whose rows are never changed or deleted."""
# This SQL pins the settings that would change the functions' results, because a session can set them.
PINNED = """
do $$
declare
    signature regprocedure;
begin
    for signature in
        select oid::regprocedure from pg_proc where pronamespace = 'platform'::regnamespace
    loop
        execute format('revoke execute on function %s from public', signature);
        execute format('alter function %s set search_path = pg_catalog, pg_temp', signature);
    end loop;
    for signature in
        select oid::regprocedure from pg_proc where pronamespace = 'platform'::regnamespace and prosecdef
    loop
        execute format('alter function %s set extra_float_digits = 1', signature);
        execute format('alter function %s set standard_conforming_strings = on', signature);
    end loop;
end
$$
"""
# This SQL enters existing rows in the journal unchecked, because earlier alterations can no longer be detected.
ADOPT = """
select platform.enter_in_journal('key', hash, jsonb_build_object(
    'name', name, 'owner', owner, 'scopes', to_jsonb(scopes), 'created_at', platform.written(created_at),
    'vouched_by', 'adoption'
)) from (select * from platform.api_keys order by created_at, hash) ordered;
select platform.enter_in_journal('revocation', hash, jsonb_build_object('at', platform.written(at)))
from (select * from platform.api_key_revocations order by at, hash) ordered;
select platform.enter_in_journal('projection', sequence::text, jsonb_build_object('at', platform.written(at)))
from (select * from platform.approval_projections order by sequence) ordered;
select platform.enter_in_journal('adoption', 'approval_events', jsonb_build_object('sequence', sequence, 'hash', hash))
from platform.approval_events order by sequence desc limit 1
"""


def upgrade() -> None:
    for file in sorted(SQL.glob("*.sql")):
        run(file.read_text())
    folding = case_folding()
    op.get_bind().execute(
        sa.text(
            "insert into platform.case_folding (letter, folded)"
            " select key, value from jsonb_each_text(cast(:folding as jsonb))"
        ),
        {"folding": json.dumps(folding)},
    )
    digest = hashlib.sha256(json.dumps(sorted(folding.items())).encode()).hexdigest()
    run(f"select platform.enter_in_journal('folding', 'case_folding', '{{\"digest\": \"{digest}\"}}')")
    for table in PERMANENT:
        run(
            f"create trigger append_only before update or delete or truncate on platform.{table}"
            " for each statement execute function platform.refuse_change()"
        )
    run(ADOPT)
    run(PINNED)


def run(statements: str) -> None:
    """Run statements, with percent signs escaped because the driver would read them as parameters."""
    op.get_bind().exec_driver_sql(statements.replace("%", "%%"))


def case_folding() -> dict[str, str]:
    """Return every character that `str.casefold` changes, with its folded form."""
    letters = (chr(code) for code in range(sys.maxunicode + 1) if not 0xD800 <= code <= 0xDFFF)  # noqa: PLR2004 - surrogates
    return {letter: letter.casefold() for letter in letters if letter.casefold() != letter}


def downgrade() -> None:
    for table, trigger in (
        ("api_keys", "record_key"),
        ("api_key_revocations", "record_revocation"),
        ("approval_projections", "record_projection"),
    ):
        run(f"drop trigger {trigger} on platform.{table}")
    # Do not drop the functions of migrations 0002 and 0003.
    run(
        """
        do $$
        declare
            signature regprocedure;
        begin
            for signature in
                select oid::regprocedure from pg_proc where pronamespace = 'platform'::regnamespace
                and proname not in ('digest_of', 'written', 'digest_of_request', 'date_request', 'match_plot',
                    'chain_event', 'refuse_change', 'announce_champion')
            loop
                execute format('drop function %s cascade', signature);
            end loop;
        end
        $$
        """
    )
    run("grant execute on all functions in schema platform to public")
    for table in TABLES:
        op.drop_table(table, schema="platform")
