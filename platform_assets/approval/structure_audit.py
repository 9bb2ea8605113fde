"""The part of the audit about tables and functions that the owner replaced, dropped or added, and about new rights.

`ledger_definitions.py` has a digest of each table and function as the migrations define them.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from platform_assets.approval.ledger_definitions import DEFINITIONS
from platform_assets.database.ledger_rights import LEDGER_ROLE, RIGHTS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import psycopg

    Connection = psycopg.Connection[Any]

_ALTERED = {
    "function": "differs from the migrations: it was replaced, or a second function with this name was added",
    "table": "differs from the migrations: in columns, constraints, unique indexes, triggers, rules or row security",
}
_DIGITS = 16
# Run this with only pg_catalog in the search path, so that PostgreSQL writes each name with its schema.
_FUNCTIONS = """
select 'function ' || proname, string_agg(
    concat_ws(E'\\n', pg_get_function_arguments(p.oid), lanname, prosecdef, provolatile, proisstrict,
        array_to_string(proconfig, ','), proretset, prorettype::regtype, prosrc),
    E'\\n' order by pg_get_function_arguments(p.oid)
)
from pg_proc p join pg_language l on l.oid = prolang
where pronamespace = 'platform'::regnamespace group by proname
"""
_TABLES = """
select 'table ' || c.relname, concat_ws(E'\\n', c.relkind, c.relrowsecurity, c.relforcerowsecurity,
    (select count(*) from pg_rewrite where ev_class = c.oid),
    (select string_agg(concat_ws(' ', attname, format_type(atttypid, atttypmod), attnotnull, attidentity,
        attgenerated, pg_get_expr(adbin, adrelid)), E'\\n' order by attnum)
        from pg_attribute left join pg_attrdef on (adrelid, adnum) = (attrelid, attnum)
        where attrelid = c.oid and attnum > 0 and not attisdropped),
    (select string_agg(pg_get_constraintdef(oid), E'\\n' order by conname)
        from pg_constraint where conrelid = c.oid and contype in ('p', 'u', 'f', 'c')),
    (select string_agg(pg_get_indexdef(indexrelid), E'\\n' order by indexrelid::regclass::text)
        from pg_index where indrelid = c.oid and indisunique),
    (select string_agg(pg_get_triggerdef(oid), E'\\n' order by tgname)
        from pg_trigger where tgrelid = c.oid and not tgisinternal))
from pg_class c where relnamespace = 'platform'::regnamespace and relname = any(%s)
"""
_GRANTS = """
select 'table ' || relname, coalesce(nullif(grantee, 0)::regrole::text, 'public'), privilege_type
from pg_class cross join aclexplode(relacl)
where relnamespace = 'platform'::regnamespace and relname = any(%(tables)s) and privilege_type <> 'SELECT'
    and grantee <> relowner and grantee is distinct from to_regrole(%(ledger)s)
union all
select 'function ' || proname, coalesce(nullif(grantee, 0)::regrole::text, 'public'), privilege_type
from pg_proc cross join aclexplode(proacl)
where pronamespace = 'platform'::regnamespace and (not prosecdef or grantee = 0)
    and grantee <> proowner and grantee is distinct from to_regrole(%(ledger)s)
union all
select format('column %%s of table %%s', attname, relname), coalesce(nullif(grantee, 0)::regrole::text, 'public'),
    privilege_type
from pg_class join pg_attribute on attrelid = pg_class.oid cross join aclexplode(attacl)
where relnamespace = 'platform'::regnamespace and relname = any(%(tables)s) and privilege_type <> 'SELECT'
union all
select 'schema platform', coalesce(nullif(grantee, 0)::regrole::text, 'public'), privilege_type
from pg_namespace cross join aclexplode(nspacl)
where oid = 'platform'::regnamespace and privilege_type = 'CREATE' and grantee <> nspowner
union all
select format('%%s %%s', kind, name), its_owner::regrole::text, 'ownership'
from (
    select 'table' as kind, relname as name, relowner as its_owner from pg_class
    where relnamespace = 'platform'::regnamespace and relname = any(%(tables)s)
    union all
    select 'function', proname, proowner from pg_proc
    where pronamespace = 'platform'::regnamespace
        and (not prosecdef or proowner is distinct from to_regrole(%(ledger)s))
) owned
where its_owner <> (select nspowner from pg_namespace where oid = 'platform'::regnamespace)
order by 1, 2, 3
"""


def read_definitions(connection: Connection) -> dict[str, str]:
    """Return the digest of each function and table of the ledger, by name."""
    rows = connection.execute(_FUNCTIONS.encode()).fetchall()
    rows += connection.execute(_TABLES.encode(), [[*RIGHTS]]).fetchall()
    return {name: hashlib.sha256(text.encode()).hexdigest()[:_DIGITS] for name, text in sorted(rows)}


def read_grants(connection: Connection) -> list[tuple[str, str, str]]:
    """Return the object, the role and the right, for each right or ownership that `migrate` does not grant."""
    return connection.execute(_GRANTS.encode(), {"tables": [*RIGHTS], "ledger": LEDGER_ROLE}).fetchall()


def structure_findings(definitions: Mapping[str, str], grants: list[tuple[str, str, str]]) -> Iterator[tuple[str, str]]:
    """Yield the name and the fault of each table or function that differs from the migrations."""
    for name in sorted({*DEFINITIONS, *definitions}):
        if name not in definitions:
            yield name, "missing: it was dropped"
        elif name not in DEFINITIONS:
            yield name, "was added; no migration creates it"
        elif definitions[name] != DEFINITIONS[name]:
            yield name, _ALTERED[name.partition(" ")[0]]
    for name, role, right in grants:
        yield name, f"the role {role} was granted {right}"
