"""Promotion and rollback with a real PostgreSQL."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import make_url

from platform_assets.approval.ledger_errors import DecisionRefused, LedgerError
from platform_assets.approval.promotion import PromotionRefused
from platform_assets.approval.reconciliation import APPROVAL_TAG, HEAD_TAG
from platform_assets.approval.requests import Actor, State
from platform_assets.base.errors import RegistryError
from platform_assets.database.connections import Database
from platform_assets.models.memory_registry import MemoryRegistry
from platform_assets.models.mlflow_registry import MlflowRegistry
from platform_assets.models.registry import CHAMPION
from platform_assets_tests.approval import killed_promotion
from platform_assets_tests.approval.promotions import Works, champion
from platform_assets_tests.approval.proposals import ANNA, BERT, FAILED, MODEL, person, prepared
from platform_assets_tests.postgres import owner_of, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from platform_assets_tests.warm import WarmParent

REPORT = "it flags everybody"


# Promotion


@pytest.mark.requirement("PRO-3", "PRO-5")
def test_an_approved_version_becomes_champion_in_ledger_and_registry(works: Works) -> None:
    version = works.train()
    number = works.approve(version)
    promotion = works.promoter.promote(number)
    assert (promotion.request_id, promotion.version, promotion.digest) == (number, 1, version.digest)
    assert (promotion.threshold, promotion.event.actor) == (version.threshold, "platform")
    assert works.ledger.champion(MODEL) == promotion
    assert champion(works) == 1
    tags = works.registry.version(MODEL, 1).tags
    assert (tags[APPROVAL_TAG], tags[HEAD_TAG]) == (str(number), works.ledger.head())
    assert works.ledger.request(number).state is State.PROMOTED
    assert works.promoter.audit() == []


def test_repeated_promotion_changes_nothing(works: Works) -> None:
    number = works.approve(works.train())
    first = works.promoter.promote(number)
    head = works.ledger.head()
    assert works.promoter.promote(number) == first
    assert works.ledger.head() == head


def decided(works: Works, version: Any, verb: Any) -> int:
    return works.ledger.decide(works.ask(version).id, verb, ANNA, "worse").id


def superseded(works: Works, version: Any) -> int:
    number = works.ask(version).id
    works.ask(works.train("third"))
    return number


def rolled_back(works: Works, version: Any) -> int:
    number = works.approve(version)
    works.promoter.promote(number)
    works.promoter.rollback(MODEL, ANNA, REPORT)
    return number


@pytest.mark.requirement("PRO-3", "PRO-6")
@pytest.mark.parametrize(
    ("prepare", "said"),
    [
        (lambda works, version: works.ask(version).id, "it is PENDING, requested by platform.*`platform-assets decide"),
        (lambda works, version: decided(works, version, "reject"), "it is REJECTED, rejected by anna .*: worse; train"),
        (lambda works, version: decided(works, version, "withdraw"), "it is WITHDRAWN.*decide request credit_risk_"),
        (superseded, "it is SUPERSEDED"),
        (rolled_back, "it is ROLLED_BACK, rolled back by anna"),
    ],
)
def test_promotion_of_an_unapproved_request_is_refused_and_the_error_names_the_fix(
    works: Works, prepare: Callable[[Works, Any], int], said: str
) -> None:
    works.crown("first")
    version = works.train("second")
    number = prepare(works, version)
    before = works.ledger.head()
    with pytest.raises(PromotionRefused, match=said):
        works.promoter.promote(number)
    assert works.ledger.head() == before
    assert champion(works) == 1


def lose_file(works: Works, version: Any) -> None:
    works.file(version).unlink()


def alter_file(works: Works, version: Any) -> None:
    works.file(version).write_bytes(works.file(version).read_bytes()[:-1] + b"x")


def change_champion(works: Works, _: Any) -> None:
    works.crown("third")


def roll_back_champion(works: Works, _: Any) -> None:
    works.promoter.rollback(MODEL, ANNA, REPORT)


def wait_for_the_end(works: Works, _: Any) -> None:
    (request,) = works.ledger.requests(MODEL, [State.APPROVED])
    wait_until(lambda: works.ledger.stale(request.id) is not None, "it expired")


@pytest.mark.requirement("PRO-3", "PRO-6")
@pytest.mark.parametrize(
    ("happens", "lifetime", "said"),
    [
        (lose_file, timedelta(days=1), "the model file .* is missing; restore it"),
        (alter_file, timedelta(days=1), "was altered"),
        (
            change_champion,
            timedelta(days=1),
            "the champion is version 4, but the approved version was compared with version 2",
        ),
        (
            roll_back_champion,
            timedelta(days=1),
            "the champion is version 1, but the approved version was compared with version 2",
        ),
        (wait_for_the_end, timedelta(seconds=1), "it expired at .* before it was promoted"),
    ],
)
def test_stale_approval_fails_and_its_version_can_be_requested_again(
    works: Works, happens: Callable[[Works, Any], None], lifetime: timedelta, said: str
) -> None:
    works.crown("first")
    works.crown("second")
    version = works.train("new")
    number = works.approve(version, lifetime=lifetime)
    happens(works, version)
    before = champion(works)
    for _ in range(2):
        with pytest.raises(
            PromotionRefused, match=f"it is FAILED, marked as failed by platform .*{said}.*decide request"
        ):
            works.promoter.promote(number)
    assert [event.kind for event in works.ledger.history(number)] == ["request", "approve", "fail"]
    assert champion(works) == before
    again = works.ask(version)
    assert (again.id > number, again.state) == (True, State.PENDING)


@pytest.mark.requirement("PRO-2", "PRO-5")
def test_version_with_a_failed_gate_is_promoted_only_with_an_override(works: Works) -> None:
    request = works.ask(works.train(), evidence=FAILED, may_override=("bert",))
    with pytest.raises(DecisionRefused):
        works.ledger.decide(request.id, "approve", ANNA, "good")
    with pytest.raises(PromotionRefused, match="PENDING"):
        works.promoter.promote(request.id)
    works.ledger.decide(request.id, "approve", BERT, "we need it", override=True)
    works.promoter.promote(request.id)
    assert champion(works) == 1


@pytest.mark.requirement("PRO-5")
@pytest.mark.parametrize(
    "change",
    [
        "update platform.approval_requests set digest = digest || ''  || 'f', threshold = 0 where id = {0}",
        "update platform.approval_events set actor = 'bert' where request_id = {0} and kind = 'approve'",
        "update platform.approval_events set state = 'APPROVED' where request_id = {0}",
    ],
)
def test_altered_request_is_not_promoted(works: Works, owner_url: str, change: str) -> None:
    works.crown("first")
    number = works.approve(works.train("second"))
    with Database(make_url(owner_url)).connect("platform") as owner:
        for table in ("approval_requests", "approval_events"):
            owner.execute(f"alter table platform.{table} disable trigger all".encode())
        owner.execute(change.format(number).encode())
        for table in ("approval_requests", "approval_events"):
            owner.execute(f"alter table platform.{table} enable trigger all".encode())
    with pytest.raises(PromotionRefused, match="it is FAILED.*the ledger was tampered with"):
        works.promoter.promote(number)
    assert champion(works) == 1


@pytest.mark.requirement("PRO-3")
def test_promotion_changes_nothing_if_the_registry_is_unreachable(works: Works, database: Database) -> None:
    number = works.approve(works.train())
    head = works.ledger.head()
    down = MlflowRegistry("http://127.0.0.1:1", None, database.lock)
    away = Works(works.ledger, down, works.folder, database.lock)
    with pytest.raises(RegistryError):
        away.promoter.promote(number)
    assert works.ledger.head() == head
    assert works.ledger.request(number).state is State.APPROVED
    works.promoter.promote(number)
    with pytest.raises(RegistryError):
        away.promoter.promote(number)
    assert champion(works) == 1


class FailingAlias(MemoryRegistry):
    """A registry that becomes unreachable between two calls."""

    down = False

    def set_alias(self, name: str, alias: str, number: int) -> None:
        if self.down and alias == CHAMPION:
            raise RegistryError("it is down")
        super().set_alias(name, alias, number)


@pytest.mark.requirement("PRO-3")
def test_the_next_action_updates_the_registry_after_an_interrupted_promotion(
    database: Database, tmp_path: Path
) -> None:
    registry = FailingAlias()
    works = Works(prepared(database), registry, tmp_path, database.lock)
    works.crown("first")
    for complete, expected in (("promote", 2), ("reconcile", 3), ("rollback", 3)):
        request = works.approve(works.train(complete))
        registry.down = True
        with pytest.raises(RegistryError, match="it is down"):
            works.promoter.promote(request)
        (told,) = works.promoter.drifted(MODEL)
        assert "the alias `champion` points to version" in told
        registry.down = False
        if complete == "promote":
            works.promoter.promote(request)
        elif complete == "reconcile":
            assert works.promoter.reconcile(MODEL) == [f"repaired: {told}"]
            assert works.promoter.reconcile(MODEL) == []
        else:
            works.promoter.rollback(MODEL, ANNA, REPORT)
        assert champion(works) == expected
        assert works.ledger.unprojected(MODEL) == []


# Rollback


@pytest.mark.requirement("PRO-7")
def test_rollback_restores_the_previous_champion_and_is_recorded(works: Works) -> None:
    works.crown("first")
    works.crown("second")
    back = works.promoter.rollback(MODEL, person("carla"), REPORT)
    assert (back.version, champion(works)) == (1, 1)
    event = works.ledger.changes(MODEL)[-1]
    assert (event.kind, event.actor, event.reason, event.state) == ("roll_back", "carla", REPORT, State.ROLLED_BACK)
    assert works.registry.version(MODEL, 1).tags[HEAD_TAG] == event.head
    with pytest.raises(LedgerError, match="cannot be rolled back: version 1 is the only champion so far"):
        works.promoter.rollback(MODEL, ANNA, "again")
    assert champion(works) == 1


@pytest.mark.requirement("PRO-7")
@pytest.mark.parametrize(
    ("actor", "reason", "said"),
    [
        (ANNA, " ", "give a reason"),
        (person("anna", "read"), REPORT, "lacks the scope"),
        (Actor(""), REPORT, "give the name"),
    ],
)
def test_rollback_requires_a_reason_a_name_and_the_scope_approve(
    works: Works, actor: Actor, reason: str, said: str
) -> None:
    works.crown("first")
    works.crown("second")
    with pytest.raises(DecisionRefused, match=said):
        works.promoter.rollback(MODEL, actor, reason)
    assert champion(works) == 2


@pytest.mark.requirement("PRO-7")
def test_rollback_repeated_with_its_idempotency_key_is_done_once(works: Works) -> None:
    for fingerprint in ("first", "second", "third"):
        works.crown(fingerprint)
    for _ in range(2):
        assert works.promoter.rollback(MODEL, ANNA, REPORT, delivery="run 1").version == 2
    assert works.promoter.rollback(MODEL, ANNA, REPORT, delivery="run 2").version == 1


@pytest.mark.requirement("PRO-7")
def test_rollback_to_a_version_with_a_damaged_file_is_refused(works: Works) -> None:
    first = works.crown("first")
    works.crown("second")
    alter_file(works, first)
    with pytest.raises(PromotionRefused, match="cannot be rolled back to version 1: the model file .* was altered"):
        works.promoter.rollback(MODEL, ANNA, REPORT)
    assert champion(works) == 2


# Killed processes


@pytest.mark.slow
@pytest.mark.requirement("PRO-3", "PRO-7")
@pytest.mark.parametrize("action", ["promote", "rollback"])
@pytest.mark.parametrize("next_run", ["promote", "reconcile"])
def test_next_run_completes_a_promotion_killed_at_any_call(
    warm: WarmParent, database_url: str, tmp_path: Path, action: str, next_run: str
) -> None:
    with warm.start(killed_promotion.main, database_url, owner_of(database_url), tmp_path, action, next_run) as process:
        lines = [line.rstrip().split(" ", 2) for line in process.stdout]
        assert process.wait() == 0
    assert [wrong for _, _, wrong in lines if wrong != "consistent"] == []
    kills = [how for _, how, _ in lines]
    assert kills == ["killed"] * (len(kills) - 1) + ["completed"]
    assert len(kills) > 20
