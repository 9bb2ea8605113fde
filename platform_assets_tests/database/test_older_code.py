"""Older code on a database that newer code migrated, and the rule that migrations must not break older code."""

from __future__ import annotations

import contextlib
import re
import shutil
from typing import TYPE_CHECKING, Any

import pytest
from alembic import command
from alembic.util import load_python_file
from sqlalchemy import event, make_url

from platform_assets.base.errors import DatabaseError
from platform_assets.database.connections import Database
from platform_assets.database.migrate import migrate
from platform_assets.database.opening import require_heads
from platform_assets.database.revisions import DOMAINS, find_branches
from platform_assets_tests.database.test_migrate import alembic, write_migration

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BASELINE = "0013"
"""Migrations of the platform's branch after this revision must not break the previous release."""
NOTHING = "select 1"
CREATE = "create schema if not exists shop; create table shop.orders (id bigint)"
NOT_ADDITIVE = (
    r"\bdrop\s+(?!constraint\b|not\s+null\b|index\b)",
    r"\brename\b",
    r"\bset\s+not\s+null\b",
    r"\balter\s+(column\s+)?\S+\s+(set\s+data\s+)?type\b",
    r"\badd\s+(column\s+)?(?!constraint\b)(?!.*\b(default|generated)\b).*\bnot\s+null\b",
    r"^(truncate\b|revoke\b(?!.* from public$))",
)
"""Patterns of statements that can break the previous release."""


@pytest.fixture
def limited(database_url: str) -> Iterator[Database]:
    with contextlib.closing(Database(make_url(database_url))) as database:
        yield database


@pytest.fixture
def newer(tmp_path: Path) -> Path:
    """The domains of a newer release: the real domains, and `shop`."""
    for branch in find_branches()[1:]:
        shutil.copytree(DOMAINS / branch.label / "migrations", tmp_path / "domains" / branch.label / "migrations")
    write_migration(tmp_path / "domains", "shop_0001_orders", CREATE)
    return tmp_path / "domains"


@pytest.mark.requirement("OPS-5", "PLT-14")
def test_older_code_accepts_a_database_migrated_by_newer_code_and_does_not_change_it(
    external: Database, limited: Database, newer: Path
) -> None:
    migrate(limited, external, newer)
    write_migration(newer, "shop_0002_prices", "create table shop.prices (id bigint)")
    migrate(limited, external, newer)
    with external.connect("platform") as connection:
        connection.execute(f"revoke all on shop.prices from {limited.role}".encode())

    name = external.name("platform")
    kept = f"did not change {name}, because newer code already migrated it to {{}}"
    assert migrate(limited, external) == [kept.format("shop_0002")]
    require_heads(limited)
    (newer / "shop" / "migrations" / "shop_0002_prices.py").unlink()
    assert migrate(limited, external, newer) == [kept.format("shop_0002")]
    require_heads(limited, newer)
    with external.connect("platform") as connection:
        assert connection.execute("select to_regclass('shop.prices') is not null").fetchone() == (True,)
        # Only the newer code knows which rights its tables need, so the older code grants none.
        may = connection.execute("select has_table_privilege(%s, 'shop.prices', 'select')", [limited.role]).fetchone()
        assert may == (False,)


@pytest.mark.requirement("OPS-5", "PLT-14")
def test_code_that_needs_a_removed_table_is_refused(external: Database, limited: Database, newer: Path) -> None:
    write_migration(newer, "shop_0002_prices", NOTHING)
    write_migration(newer, "shop_0003_removal", "drop table shop.orders", oldest_code="shop_0002")
    migrate(limited, external, newer)
    (newer / "shop" / "migrations" / "shop_0003_removal.py").unlink()
    require_heads(limited, newer)
    (newer / "shop" / "migrations" / "shop_0002_prices.py").unlink()
    for use in (lambda: migrate(limited, external, newer), lambda: require_heads(limited, newer)):
        with pytest.raises(
            DatabaseError, match=r"is at revision shop_0003, but this code knows only shop_0001 and old"
        ):
            use()


@pytest.mark.requirement("OPS-5", "PLT-14")
def test_code_with_a_new_migration_is_refused_if_it_lacks_a_domain_of_the_database(
    external: Database, limited: Database, newer: Path
) -> None:
    migrate(limited, external, newer)
    shutil.rmtree(newer / "shop")
    write_migration(newer, "yard_0001_trees", NOTHING)
    for use in (lambda: migrate(limited, external, newer), lambda: require_heads(limited, newer)):
        with pytest.raises(DatabaseError, match="has tables of the domain shop at revision shop_0001, but this code"):
            use()


@contextlib.contextmanager
def recorded(database: Database) -> Iterator[list[str]]:
    """Yield a list to which each executed statement is added, in lower case and with single spaces."""
    found: list[str] = []

    def record(_connection: Any, _cursor: Any, text: str, *_: Any) -> None:
        found.extend(" ".join(one.split()).lower() for one in text.split(";") if one.strip())

    event.listen(database.engine, "before_cursor_execute", record)
    try:
        yield found
    finally:
        event.remove(database.engine, "before_cursor_execute", record)


def removals(found: list[str]) -> list[str]:
    """Return the statements that can break the previous release."""
    text = " ; ".join(found)
    created = set(re.findall(r"create table (\S+)", text))
    dropped = set(re.findall(r"drop constraint (?:if exists )?(\S+)", text))
    functions = set(re.findall(r"create (?:or replace )?function ([^\s(]+)", text))

    def is_harmful(statement: str) -> bool:
        table = re.match(r"alter table (?:only )?(\S+)", statement)
        if table and table[1] in created:
            return False
        # Dropping a function is harmless if a new function replaces it. The new function may have an additional
        # argument with a default.
        function = re.match(r"drop function ([^\s(]+)", statement)
        if function and function[1] in functions:
            return False
        # Adding a constraint is harmless if it replaces one of the same name. The new constraint may allow more values.
        constraint = re.search(r"\badd constraint (\S+)", statement)
        return bool(constraint and constraint[1] not in dropped) or any(
            re.search(one, statement) for one in NOT_ADDITIVE
        )

    return [one for one in found if is_harmful(one)]


@pytest.mark.requirement("OPS-5", "PLT-14")
def test_migrations_after_the_baseline_do_not_break_the_previous_release(external: Database) -> None:
    platform, *domains = find_branches()
    for branch in domains:
        alembic(external, command.downgrade, f"{branch.label}@base")
    alembic(external, command.downgrade, f"platform@{BASELINE}")
    recent = {revision: path for revision, path in platform.files.items() if revision > BASELINE}
    recent |= {revision: path for branch in domains for revision, path in branch.files.items()}
    harmful = {}
    for revision, path in recent.items():
        with recorded(external) as statements:
            alembic(external, command.upgrade, revision)
        assert any(word in one for one in statements for word in ("create", "alter", "comment on")), path
        if "\noldest_code = " not in path.read_text() and (found := removals(statements)):
            harmful[path.name] = found
    assert harmful == {}, "run these statements one release later, and set oldest_code; see database/migrate.py"


@pytest.mark.parametrize(
    ("statement", "is_removal"),
    [
        ("drop table shop.orders", True),
        ("alter table shop.orders drop column item", True),
        ("alter table shop.orders drop item", True),
        ("alter table shop.orders rename column item to thing", True),
        ("alter table shop.orders alter column item set not null", True),
        ("alter table shop.orders alter item type bigint", True),
        ("alter table shop.orders add column price bigint not null", True),
        ("alter table shop.orders add constraint dear check (price > 1)", True),
        ("drop function platform.begin_step()", True),
        ("alter table shop.orders add column price bigint default 0 not null", False),
        ("alter table shop.orders add column price bigint", False),
        ("alter table shop.orders alter column item drop not null", False),
        ("create table shop.more (id bigint not null)", False),
        ("drop index shop.orders_item", False),
        ("revoke execute on function platform.begin_step() from public", False),
        ("revoke select on shop.orders from platform_app", True),
        ("update shop.orders set price = 0", False),
    ],
)
def test_statements_that_break_the_previous_release_are_recognised(statement: str, is_removal: bool) -> None:
    assert removals([statement]) == ([statement] if is_removal else [])


def test_replacing_a_constraint_or_function_does_not_break_the_previous_release() -> None:
    assert not removals(["drop function a.f(text)", "create function a.f(text, int default 0) returns int"])
    assert not removals(["alter table a drop constraint c", "alter table a add constraint c check (x > 0)"])
    assert not removals(["create table a (x int)", "alter table a add constraint c check (x > 0)"])


def test_code_older_than_the_baseline_cannot_use_a_newer_database() -> None:
    path = find_branches()[0].files[BASELINE]
    assert load_python_file(str(path.parent), path.name).oldest_code == BASELINE
