"""Database rights on the ledger, the rules that its owner records, and the upgrade of a ledger with decisions."""

from __future__ import annotations

import hashlib
from contextlib import closing
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from alembic import command
from psycopg.types.json import Jsonb
from pydantic import SecretStr
from sqlalchemy import make_url

from platform_assets.approval.ledger import Ledger
from platform_assets.approval.policy import ApprovalPolicy, policy_as_json
from platform_assets.approval.requests import Actor, State
from platform_assets.base.errors import DatabaseError
from platform_assets.database.connections import Database
from platform_assets.database.ledger_rights import LEDGER_ROLE, require_separate_owner
from platform_assets.database.migrate import Rules, migrate
from platform_assets.database.opening import open_configured_database
from platform_assets.settings import Settings
from platform_assets_tests.approval.proposals import MODEL, PASSED, proposal
from platform_assets_tests.database.test_migrate import alembic

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

OLD_SECRET = "pa_old"
STRICT = policy_as_json(ApprovalPolicy(four_eyes=True))


@pytest.fixture
def limited(database_url: str) -> Iterator[Database]:
    with closing(Database(make_url(database_url))) as database:
        yield database


def insert_request(owner: psycopg.Connection[Any], version: int, policy: ApprovalPolicy) -> int:
    """Insert a request as the service role did before the ledger had functions; return its number."""
    row = owner.execute(
        "insert into platform.approval_requests (model, version, digest, threshold, launched_by, requested_by,"
        " created_at, expires_at, policy, evidence, plots, champion_version, champion_digest)"
        " values (%s, %s, %s, 0.3, 'schedule', null, now(), now(), %s, %s, '{}', null, null) returning id",
        [MODEL, version, f"{version:064x}", Jsonb(policy_as_json(policy)), Jsonb(PASSED)],
    ).fetchone()
    assert row is not None
    insert_event(owner, row[0], "PENDING", "request", "platform")
    return int(row[0])


def insert_event(owner: psycopg.Connection[Any], number: int, state: str, kind: str, actor: str) -> None:
    reason = None if kind in {"request", "promote"} else "good"
    owner.execute(
        "insert into platform.approval_events values (0, %s, %s, %s, %s, %s, %s, false, null, '{}', now(), '', '', '')",
        [number, state, kind, actor, actor != "platform", reason],
    )


@pytest.mark.requirement("PRO-5", "PRO-9", "PLT-4")
def test_decisions_from_an_earlier_release_keep_their_hashes_and_stay_valid(
    external: Database, limited: Database
) -> None:
    alembic(external, command.downgrade, "0003")
    with closing(external.connect("platform")) as owner:
        two = ApprovalPolicy(approvers=("Anna", "bert"), approvals=2)
        promoted, approved, voted = (insert_request(owner, one, ApprovalPolicy()) for one in (1, 2, 3))
        waiting = insert_request(owner, 4, two)
        for number, state, kind in ((promoted, "APPROVED", "approve"), (promoted, "PROMOTED", "promote")):
            insert_event(owner, number, state, kind, "anna" if kind == "approve" else "platform")
        owner.execute("insert into platform.approval_projections (sequence) values (6)")
        insert_event(owner, voted, "WITHDRAWN", "withdraw", "root on the command line")
        insert_event(owner, approved, "APPROVED", "approve", "anna")
        insert_event(owner, waiting, "PENDING", "approve", "anna")
        digest = hashlib.sha256(OLD_SECRET.encode()).hexdigest()
        keys = "insert into platform.api_keys (name, owner, scopes, hash) values (%s, %s, '{approve}', %s)"
        owner.execute(keys, ["anna-laptop", "Anna", digest])
        owner.execute(keys, ["lost", "carla", "f" * 64])
        owner.execute("insert into platform.api_key_revocations (hash) values (%s)", ["f" * 64])
        before = owner.execute("select sequence, hash from platform.approval_events order by 1").fetchall()
    [line] = migrate(limited, external, rules=Rules(True, {MODEL: STRICT}))[:1]
    assert line.startswith(f"migrated {external.name('platform')} from")
    ledger = Ledger(limited.pooled)
    with closing(limited.connect("platform")) as connection:
        assert connection.execute("select sequence, hash from platform.approval_events order by 1").fetchall() == before
    assert ledger.audit({"kept": f"{before[-1][0]}:{before[-1][1]}"}) == []
    champion = ledger.champion(MODEL)
    assert champion is not None
    assert champion.version == 1
    # The owner of the key is `Anna`, and the earlier approval is by `anna`. Both are the same person.
    with pytest.raises(Exception, match="Anna has already approved it; it has 1 of 2 approvals"):
        ledger.decide(waiting, "approve", Actor("", OLD_SECRET), "good")
    assert ledger.decide(waiting, "reject", Actor("", OLD_SECRET), "worse").state is State.REJECTED
    assert ledger.failed(approved, "the champion changed").state is State.FAILED
    assert ledger.audit() == []
    assert migrate(limited, external, rules=Rules(True, {MODEL: STRICT})) == []
    fresh = ledger.open_request(proposal(5, four_eyes=True))
    assert fresh.policy == ApprovalPolicy(four_eyes=True)


@pytest.mark.requirement("PRO-3", "PRO-9")
def test_a_version_approved_in_an_earlier_release_can_be_promoted(external: Database, limited: Database) -> None:
    alembic(external, command.downgrade, "0003")
    with closing(external.connect("platform")) as owner:
        number = insert_request(owner, 1, ApprovalPolicy())
        insert_event(owner, number, "APPROVED", "approve", "anna")
    migrate(limited, external)
    ledger = Ledger(limited.pooled)
    assert ledger.promoted(number).state is State.PROMOTED
    assert ledger.audit() == []


@pytest.mark.requirement("PRO-9")
def test_migrate_records_rules_again_only_after_they_changed(external: Database, limited: Database) -> None:
    policies = {"b_model": STRICT, "a_model": policy_as_json(ApprovalPolicy())}
    assert migrate(limited, external, rules=Rules(True, policies)) == [
        "recorded that decisions require a key",
        "recorded the approval policy of a_model",
        "recorded the approval policy of b_model",
    ]
    assert migrate(limited, external, rules=Rules(True, policies)) == []
    changed = {**policies, "a_model": STRICT}
    assert migrate(limited, external, rules=Rules(False, changed)) == [
        "recorded that decisions need no key",
        "recorded the approval policy of a_model",
    ]


@pytest.mark.requirement("PRO-9")
@pytest.mark.parametrize(
    ("grant", "said"),
    [
        ("", ""),
        ("grant insert on platform.approval_events to {}", "may write to platform.approval_events"),
        ("grant update (owner) on platform.api_keys to {}", "may write to platform.api_keys"),
        ("grant trigger on platform.api_keys to {}", "may write to platform.api_keys"),
        (None, "owns it"),
    ],
)
def test_production_needs_a_role_that_cannot_alter_the_ledger(
    database_url: str, owner_url: str, tmp_path: Path, grant: str | None, said: str
) -> None:
    if grant:
        with psycopg.connect(owner_url) as owner:
            owner.execute(grant.format(make_url(database_url).username).encode())
    with closing(Database(make_url(owner_url if grant is None else database_url))) as database:
        if not said:
            require_separate_owner(database)
            return
        with pytest.raises(DatabaseError, match=f"the role in PLATFORM_DATABASE_URL {said}; connect as another role"):
            require_separate_owner(database)
    settings = Settings(
        home=tmp_path,
        database_url=SecretStr(owner_url if grant is None else database_url),
        env="production",
        sources="live",
        lake_uri=str(tmp_path / "lake"),
    )
    with pytest.raises(DatabaseError, match="PLATFORM_ENV=production needs a role that cannot alter the ledger"):
        open_configured_database(settings)


@pytest.mark.requirement("PRO-9")
@pytest.mark.parametrize("recorded", [True, False, None])
@pytest.mark.parametrize("wanted", [True, False])
def test_settings_that_differ_from_the_recorded_rules_are_refused_until_a_migration(
    database_url: str, owner_url: str, tmp_path: Path, recorded: bool | None, wanted: bool
) -> None:
    with closing(Database(make_url(database_url))) as limited, closing(Database(make_url(owner_url))) as owner:
        with owner.connect("platform") as connection:
            connection.execute("set session_replication_role = replica")
            connection.execute("delete from platform.approval_journal where kind = 'rules'")
        if recorded is not None:
            migrate(limited, owner, rules=Rules(recorded, {}))
    settings = Settings(
        home=tmp_path, database_url=SecretStr(database_url), approvals_require_identity="on" if wanted else "off"
    )
    if recorded == wanted:
        open_configured_database(settings).close()
        return
    with pytest.raises(DatabaseError, match="PLATFORM_APPROVALS_REQUIRE_IDENTITY is o.*run `platform-assets migrate`"):
        open_configured_database(settings)


@pytest.mark.requirement("PRO-9")
def test_the_error_contains_the_sql_to_create_the_ledger_role_if_migrate_may_not_create_it(
    external: Database, database_url: str
) -> None:
    name = f"{external.name('platform')}_poor"
    with closing(external.connect("platform")) as owner:
        owner.execute(
            f"create role {name} login password 'p'; grant create on database {external.name('platform')} to {name}"
        )
        try:
            owner.execute(f"alter schema platform owner to {name}")
            for (table,) in owner.execute(
                "select relname from pg_class where relnamespace = 'platform'::regnamespace and relkind = 'r'"
            ).fetchall():
                owner.execute(f"alter table platform.{table} owner to {name}")
            poor = Database(external.url("platform").set(username=name, password="p"))
            with closing(poor), pytest.raises(DatabaseError, match=f"create role {LEDGER_ROLE} nologin; grant"):
                migrate(Database(make_url(database_url)), poor)
        finally:
            owner.execute(f"reassign owned by {name} to current_user".encode())
            owner.execute(f"drop owned by {name}; drop role {name}".encode())
