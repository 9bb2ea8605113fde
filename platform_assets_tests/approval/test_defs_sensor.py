"""The sensor that launches jobs for decisions, with a real ledger."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from platform_assets.approval.defs import (
    REQUEST_TAG,
    RETRY_SECONDS,
    run_key,
    to_promote,
)
from platform_assets.approval.requests import State
from platform_assets_tests.approval.promotion_jobs import (
    AwayRegistry,
    Office,
    failure,
    keys,
    pending,
    registry_goes,
    rolled_back,
    states,
)
from platform_assets_tests.approval.promotions import Works
from platform_assets_tests.approval.proposals import ANNA, prepared
from platform_assets_tests.instances import empty_instance

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import dagster as dg

    from platform_assets.database.connections import Database


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with empty_instance() as instance:
        yield instance


@pytest.fixture
def office(database: Database, tmp_path: Path, instance: dg.DagsterInstance) -> Office:
    return Office(Works(prepared(database), AwayRegistry(), tmp_path, database.lock), instance)


@pytest.mark.requirement("PLT-2", "PRO-3")
def test_sensor_skips_without_a_decision(office: Office) -> None:
    assert office.tick().skip_message == "no decision to carry out"
    pending(office.works)
    assert office.tick().skip_message == "no decision to carry out"


@pytest.mark.requirement("PLT-2", "PRO-3")
def test_sensor_launches_the_promotion_until_the_request_is_promoted(office: Office) -> None:
    number = office.works.approve(office.works.train())
    data = office.tick()
    [request] = data.run_requests or []
    assert (request.run_key, request.tags[REQUEST_TAG]) == ("event 2, attempt 1", str(number))
    # The run key is unchanged, so Dagster does not launch a second run.
    assert keys(office.tick()) == ["event 2, attempt 1"]
    [result] = office.follow(data)
    assert result.success
    assert office.champion() == 1
    assert office.tick().skip_message == "no decision to carry out"


@pytest.mark.requirement("PLT-2", "PRO-3")
def test_sensor_launches_the_run_for_a_rejection_only_once(office: Office) -> None:
    office.works.ledger.decide(pending(office.works), "reject", ANNA, "worse")
    data = office.tick()
    assert (keys(data), data.cursor) == (["event 2, attempt 1"], "2")
    [result] = office.follow(data)
    assert states(result)["reject"] == "done"
    after = office.tick(data.cursor)
    assert (after.run_requests, after.skip_message) == ([], "no decision to carry out")
    office.works.ledger.decide(office.works.ask(office.works.train("next")).id, "reject", ANNA, "worse")
    office.works.approve(office.works.train("good"))
    later = office.tick(data.cursor)
    assert (keys(later), later.cursor) == (["event 6, attempt 1", "event 4, attempt 1"], "4")
    assert keys(office.tick(later.cursor)) == ["event 6, attempt 1"]


@pytest.mark.requirement("PLT-2", "PRO-3")
@pytest.mark.parametrize(
    ("age", "attempt"),
    [(-60.0, 1), (0.0, 1), (RETRY_SECONDS - 1.0, 1), (RETRY_SECONDS, 2), (10.0 * RETRY_SECONDS, 11)],
)
def test_attempt_number_grows_with_the_age_of_the_approval(office: Office, age: float, attempt: int) -> None:
    number = office.works.approve(office.works.train())
    approval = office.works.ledger.history(number)[-1]
    assert run_key(approval, age) == f"event 2, attempt {attempt}"
    assert to_promote(office.works.ledger, approval.at + timedelta(seconds=age)) == {run_key(approval, age): number}


@pytest.mark.requirement("PLT-2", "PRO-3")
def test_promotion_is_launched_again_until_the_registry_shows_it(office: Office) -> None:
    number = office.works.approve(office.works.train())
    registry_goes(office, away=True)
    [failed] = office.follow(office.tick())
    assert "MLflow is unreachable" in failure(failed)
    assert office.works.ledger.request(number).state is State.PROMOTED
    data = office.tick()
    assert keys(data) == ["event 3, attempt 1"]
    assert not office.follow(data)[0].success
    registry_goes(office, away=False)
    [result] = office.follow(data)
    assert result.success
    assert (office.champion(), office.kinds(number)) == (1, ["request", "approve", "promote"])
    assert office.tick().skip_message == "no decision to carry out"


@pytest.mark.requirement("PLT-2", "PRO-7")
@pytest.mark.parametrize("also_the_promotion", [False, True])
def test_sensor_completes_a_rollback_that_failed_to_reach_the_registry(
    office: Office, also_the_promotion: bool
) -> None:
    office.works.crown("first")
    registry_goes(office, away=also_the_promotion)
    office.promote(office.works.approve(office.works.train("second")))
    registry_goes(office, away=True)
    assert "MLflow is unreachable" in failure(rolled_back(office))
    registry_goes(office, away=False)
    data = office.tick()
    assert keys(data) == ["event 7, attempt 1"]
    [result] = office.follow(data)
    assert result.success
    assert office.champion() == 1
    assert office.check().passed
    assert office.tick().skip_message == "no decision to carry out"


@pytest.mark.requirement("PLT-2", "PRO-6")
def test_sensor_records_expired_requests(office: Office) -> None:
    number = office.works.ask(office.works.train(), lifetime=timedelta(0)).id
    assert office.tick().skip_message == "no decision to carry out"
    assert office.works.ledger.request(number).state is State.EXPIRED
    office.tick()
    assert office.kinds(number) == ["request", "expire"]


@pytest.mark.requirement("PLT-2", "PRO-3")
def test_promotions_are_not_repeated_after_dagster_storage_is_lost(office: Office) -> None:
    rejected = office.works.ledger.decide(pending(office.works), "reject", ANNA, "worse").id
    number = office.works.approve(office.works.train("good"))
    launched = office.tick()
    assert all(result.success for result in office.follow(launched))
    head = office.works.ledger.head()
    office.instance.wipe()
    again = office.tick()
    # The sensor launches the run for the rejection again. The run changes nothing.
    assert [request.tags[REQUEST_TAG] for request in again.run_requests or []] == [str(rejected)]
    assert all(result.success for result in office.follow(again))
    # Runs that were queued in the lost storage change nothing either.
    assert all(result.success for result in office.follow(launched))
    assert office.works.ledger.head() == head
    assert (office.champion(), office.kinds(number)) == (2, ["request", "approve", "promote"])
