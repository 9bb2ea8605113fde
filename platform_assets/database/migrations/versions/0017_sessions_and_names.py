"""Keep ended sessions for a day, compare names of people more strictly, and refuse keys that would share an id.

- Until this migration, the row of a session was deleted when the session ended, but its token was still in the browser.
  The caller of `sign_in` chooses the hash of the new token and can read the hashes of other sessions, so it could use
  the hash of an ended session again, for another key. The browser with the old token was then signed in with that key.
  Ended sessions are therefore kept for a day.
- People were found by `folded` names. `folded` makes different names equal, for example those with an s and a long s,
  but a provider can give these names to different people. People are now found by `identity_form`.
- A decision names its key by the first 16 characters of the key's hash, which the caller of `add_key` chooses. A key is
  now refused if another key's hash begins with the same characters.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

PINNED = "set search_path = pg_catalog, pg_temp"
ADD_KEY = "platform.add_key(text, text, text[], text, text, boolean)"
SIGN_IN = "platform.sign_in(text, text, integer)"
SIGN_IN_PERSON = "platform.sign_in_person(text, text[], text, text, text, integer)"
KEYS = (
    (
        "    perform platform.begin_step();\n",
        """    perform platform.begin_step();
    if is_person is null then
        return platform.refused('malformed_key', name);
    end if;
""",
    ),
    (
        "platform.folded(key.name) = platform.folded(add_key.name)",
        "platform.identity_form(key.name) = platform.identity_form(add_key.name)",
    ),
    (
        "    perform platform.revoke_hashes(known);",
        """    -- Decisions name a key by these characters.
    if exists (select from platform.api_keys key where left(key.hash, 16) = left(add_key.key_hash, 16)) then
        return platform.refused('malformed_key', name);
    end if;
    perform platform.revoke_hashes(known);""",
    ),
)
SWEPT = (
    "delete from platform.sessions where expires_at <= clock_timestamp();",
    "delete from platform.sessions where created_at <= clock_timestamp() - interval '1 day';",
)
ONE_HOUR = ("least(seconds, 28800)", "least(seconds, 3600)")
PEOPLE = (
    "platform.folded(key.name) = platform.folded(identity)",
    "platform.identity_form(key.name) = platform.identity_form(identity)",
)
REVOKED = (
    "delete from platform.sessions where key_hash",
    "update platform.sessions set expires_at = least(expires_at, clock_timestamp()) where key_hash",
)
SIGNED_OUT = (
    "delete from platform.sessions where hash",
    "update platform.sessions set expires_at = least(expires_at, clock_timestamp()) where hash",
)
CHANGES = {
    ADD_KEY: KEYS,
    SIGN_IN: (SWEPT,),
    SIGN_IN_PERSON: (SWEPT, ONE_HOUR),
    "platform.people_named(text)": (PEOPLE,),
    "platform.revoke_hashes(text[])": (REVOKED,),
    "platform.sign_out(text)": (SIGNED_OUT,),
}
IDENTITY_FORM = f"""
-- The form in which names from a provider are compared. Only the case of A to Z is ignored, because other letters that
-- differ by case, or that fold to the same letters, can belong to different people.
create function platform.identity_form(name text) returns text
language sql immutable {PINNED} as $$
    select translate(name, 'ABCDEFGHIJKLMNOPQRSTUVWXYZ', 'abcdefghijklmnopqrstuvwxyz')
$$;
comment on table platform.sessions is
    'Browser sessions. A session that ended is kept for a day, so that no other session gets its token.';
"""
# `guard` also revokes these rights, but only after the migration is committed.
NOT_PUBLIC = """
do $$
declare
    signature regprocedure;
begin
    for signature in
        select oid::regprocedure from pg_proc where pronamespace = 'platform'::regnamespace
    loop
        execute format('revoke execute on function %s from public', signature);
    end loop;
end
$$
"""


def upgrade() -> None:
    run(IDENTITY_FORM)
    for function, replacements in CHANGES.items():
        change(function, *replacements)
    run(NOT_PUBLIC)


def change(function: str, *replacements: tuple[str, str]) -> None:
    """Replace parts of a function's definition."""
    found = op.get_bind().execute(sa.text(f"select pg_get_functiondef('{function}'::regprocedure)")).scalar_one()
    for old, new in replacements:
        if found.count(old) != 1:
            raise RuntimeError(
                f"{function} does not contain {old!r} exactly once, so migration {revision} cannot change it"
            )
        found = found.replace(old, new)
    run(found)


def run(statements: str) -> None:
    """Run statements, with percent signs escaped because the driver would read them as parameters."""
    op.get_bind().exec_driver_sql(statements.replace("%", "%%"))


def downgrade() -> None:
    for function, replacements in CHANGES.items():
        change(function, *((new, old) for old, new in replacements))
    run("drop function platform.identity_form")
    run("comment on table platform.sessions is 'Browser sessions; signing out deletes the row.'")
