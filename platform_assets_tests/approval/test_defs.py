"""What follows a person's decision: the jobs and the check, over a real ledger."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dagster as dg
import pytest
from dagster._core.definitions.job_base import InMemoryJob
from dagster._core.execution.api import execute_run

from platform_assets.approval.defs import run_config
from platform_assets.approval.ledger import Ledger
from platform_assets.approval.requests import State
from platform_assets.models.mlflow_registry import MlflowRegistry
from platform_assets.models.registry import CHAMPION, MemoryRegistry
from platform_assets_tests.approval.promotion_jobs import (
    KEY,
    REPORT,
    AwayRegistry,
    Office,
    decided,
    failure,
    observations,
    pending,
    rolled_back,
    states,
)
from platform_assets_tests.approval.promotions import Works
from platform_assets_tests.approval.proposals import ANNA, MODEL
from platform_assets_tests.instances import empty_instance

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from platform_assets.database.connections import Database

TRIES = ("STEP_START", "STEP_UP_FOR_RETRY", "STEP_RESTARTED", "STEP_FAILURE")
OPS = ("load_request", "manual_approval", "promote", "reject")


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with empty_instance() as instance:
        yield instance


@pytest.fixture
def office(database: Database, tmp_path: Path, instance: dg.DagsterInstance) -> Office:
    return Office(Works(Ledger(database.pooled), AwayRegistry(), tmp_path, database.lock), instance)


# promote_model


def withdrawn(works: Works) -> int:
    return works.ledger.decide(pending(works), "withdraw", ANNA, "not yet").id


def superseded(works: Works) -> int:
    number = pending(works)
    works.ask(works.train("newer"))
    return number


@pytest.mark.requirement("PRO-3")
@pytest.mark.parametrize(
    ("prepare", "state", "way_out"),
    [
        (pending, "PENDING", "`platform-assets decide approve 1`, or on the page"),
        (withdrawn, "WITHDRAWN", f"`platform-assets decide request {MODEL} 1` asks again"),
        (superseded, "SUPERSEDED", "decide about the newer version"),
    ],
)
def test_without_an_approval_the_job_ends_at_manual_approval_and_says_the_way_out(
    office: Office, prepare: Callable[[Works], int], state: str, way_out: str
) -> None:
    number = prepare(office.works)
    head = office.works.ledger.head()
    result = office.promote(number)
    assert not result.success
    # Of the two branches, none begins.
    assert states(result) == {"load_request": "done", "manual_approval": "failed"}
    assert f"it is {state}" in failure(result)
    assert way_out in failure(result)
    assert "Traceback" not in failure(result)
    assert (office.champion(), office.works.ledger.head()) == (None, head)


@pytest.mark.requirement("PRO-3")
def test_a_refusal_is_not_tried_again_by_op_or_run(office: Office) -> None:
    number = pending(office.works)
    job = office.definitions.resolve_job_def("promote_model")
    assert job.tags["dagster/max_retries"] == "0"
    # Whatever policy an op is given.
    eager = job.graph.to_job(
        "eager",
        op_retry_policy=dg.RetryPolicy(max_retries=2),
        resource_defs={
            name: dg.ResourceDefinition.hardcoded_resource(value) for name, value in office.resources.items()
        },
    )
    result = eager.execute_in_process(run_config=run_config(number), instance=office.instance, raise_on_error=False)
    attempts = [
        event for event in result.all_events if event.step_key == "manual_approval" and event.event_type_value in TRIES
    ]
    assert [event.event_type_value for event in attempts] == ["STEP_START", "STEP_FAILURE"]


@pytest.mark.requirement("PRO-3")
def test_the_job_reads_as_what_it_does(office: Office) -> None:
    graph = office.definitions.resolve_job_def("promote_model").graph
    assert sorted(graph.node_dict) == sorted(OPS)
    comes_from = {
        node: [output.node_name for output in graph.dependency_structure.all_upstream_outputs_from_node(node)]
        for node in OPS
    }
    assert comes_from == {
        "load_request": [],
        "manual_approval": ["load_request"],
        "promote": ["manual_approval"],
        "reject": ["manual_approval"],
    }


@pytest.mark.requirement("PRO-3")
def test_what_was_approved_is_promoted_and_shown_beside_the_model(office: Office) -> None:
    number = office.works.approve(office.works.train())
    result = office.promote(number)
    assert result.success
    assert states(result) == dict.fromkeys(("load_request", "manual_approval", "promote"), "done") | {
        "reject": "skipped"
    }
    assert office.champion() == 1
    [observation] = observations(result)
    assert (observation.asset_key, observation.description) == (KEY, f"request 1 ({MODEL} version 1) is PROMOTED")
    shown = {name: value.value for name, value in observation.metadata.items()}
    assert (shown["request"], shown["state"], shown["model_version"]) == (1, "PROMOTED", 1)
    told = str(shown["history"]).splitlines()
    assert [line.split()[:4] for line in told] == [
        ["-", "requested", "by", "platform"],
        ["-", "approved", "by", "anna"],
        ["-", "promoted", "by", "platform"],
    ]
    assert told[1].endswith(": better")


@pytest.mark.requirement("PRO-3")
def test_what_was_rejected_goes_the_other_way_and_the_champion_stays(office: Office) -> None:
    office.works.crown("first")
    number = office.works.ledger.decide(pending(office.works), "reject", ANNA, "worse in the north").id
    result = office.promote(number)
    assert result.success
    assert states(result) == dict.fromkeys(("load_request", "manual_approval", "reject"), "done") | {
        "promote": "skipped"
    }
    assert office.champion() == 1
    [observation] = observations(result)
    assert (observation.asset_key, observation.metadata["state"].value) == (KEY, "REJECTED")
    assert "worse in the north" in str(observation.metadata["history"].value)


@pytest.mark.requirement("PRO-3", "PRO-6")
def test_an_approval_that_went_stale_fails_and_says_what_opens_it(office: Office) -> None:
    number = office.works.approve(office.works.train("first"))
    office.works.crown("second")
    result = office.promote(number)
    assert states(result)["promote"] == "failed"
    assert "the champion is version 2, and whoever approved it saw none" in failure(result)
    assert f"`platform-assets decide request {MODEL} 1` asks again, with fresh evidence" in failure(result)
    assert (office.champion(), office.works.ledger.request(number).state) == (2, State.FAILED)


def test_a_request_that_is_not_there_is_named(office: Office) -> None:
    result = office.promote(7)
    assert states(result)["load_request"] == "failed"
    assert "there is no request 7; `platform-assets decide list`" in failure(result)


# decide


@pytest.mark.requirement("PRO-4", "PRO-5")
@pytest.mark.parametrize(
    ("decision", "state"),
    [("approve", State.APPROVED), ("reject", State.REJECTED), ("withdraw", State.WITHDRAWN)],
)
def test_a_decision_from_the_launchpad_is_recorded_and_marked_as_a_claim(
    office: Office, decision: str, state: State
) -> None:
    number = pending(office.works)
    result = office.decide(number, decision, reason="  as discussed ")
    assert result.success
    assert office.works.ledger.request(number).state is state
    event = office.works.ledger.history(number)[-1]
    assert (event.kind, event.actor, event.authenticated) == (decision, "Launchpad: anna", False)
    assert (event.reason, event.delivery) == ("as discussed", result.run_id)
    assert "(no key proved who)" in event.told


@pytest.mark.requirement("PRO-4", "PRO-5")
def test_where_identity_is_required_the_launchpad_is_refused_with_the_way_out(
    database: Database, tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    office = Office(
        Works(Ledger(database.pooled, require_identity=True), MemoryRegistry(), tmp_path, database.lock), instance
    )
    number = pending(office.works)
    result = office.decide(number, "approve")
    assert "PLATFORM_APPROVALS_REQUIRE_IDENTITY is on; decide on the page or by" in failure(result)
    assert office.works.ledger.request(number).state is State.PENDING
    office.works.crown("first")
    office.works.crown("second")
    config = {"ops": {"roll_back": {"config": {"model": MODEL, "reason": REPORT, "approver": "anna"}}}}
    assert "PLATFORM_APPROVALS_REQUIRE_IDENTITY is on" in failure(office.run("rollback_model", config))
    assert office.champion() == office.works.registry.versions(MODEL)[0].version


@pytest.mark.requirement("PRO-4")
@pytest.mark.parametrize(
    ("others", "said"),
    [({"reason": " "}, "say why"), ({"approver": ""}, "say who"), ({"override": True}, "nothing to override")],
)
def test_a_decision_that_says_too_little_is_refused(office: Office, others: dict[str, Any], said: str) -> None:
    number = pending(office.works)
    assert said in failure(office.decide(number, "approve", **others))
    assert office.kinds(number) == ["request"]


@pytest.mark.requirement("PRO-5")
def test_a_second_decision_is_told_which_one_stands(office: Office) -> None:
    number = pending(office.works)
    assert office.decide(number, "reject", reason="worse").success
    told = failure(office.decide(number, "approve", approver="bert"))
    assert f"request 1 ({MODEL} version 1) is closed: rejected by Launchpad: anna" in told


@pytest.mark.requirement("PRO-5")
def test_a_run_that_is_executed_again_delivers_one_decision(office: Office) -> None:
    number = pending(office.works)
    first = office.decide(number, "approve")
    job = office.definitions.resolve_job_def("decide")
    again = office.instance.create_run_for_job(
        job_def=job,
        run_config=decided(number, "approve"),
        parent_run_id=first.run_id,
        root_run_id=first.run_id,
    )
    assert execute_run(InMemoryJob(job), again, office.instance).success
    assert office.kinds(number) == ["request", "approve"]


# rollback_model


@pytest.mark.requirement("PRO-7")
def test_the_rollback_job_brings_the_previous_champion_back_and_is_recorded(office: Office) -> None:
    office.works.crown("first")
    office.works.crown("second")
    assert office.definitions.resolve_job_def("rollback_model").tags["dagster/max_retries"] == "0"
    assert rolled_back(office).success
    assert office.champion() == 1
    event = office.works.ledger.changes(MODEL)[-1]
    assert (event.kind, event.actor, event.authenticated, event.reason) == (
        "roll_back",
        "Launchpad: carla",
        False,
        REPORT,
    )


@pytest.mark.requirement("PRO-7")
@pytest.mark.parametrize(
    ("others", "said"),
    [({}, "version 1 is its only one so far"), ({"reason": ""}, "say why"), ({"model": "other"}, "there is none")],
)
def test_a_rollback_that_cannot_be_says_why(office: Office, others: dict[str, Any], said: str) -> None:
    office.works.crown("first")
    assert said in failure(rolled_back(office, **others))
    assert office.champion() == 1


@pytest.mark.requirement("PRO-7")
def test_a_rollback_whose_run_is_executed_again_is_one(office: Office) -> None:
    for fingerprint in ("first", "second", "third"):
        office.works.crown(fingerprint)
    first = rolled_back(office)
    job = office.definitions.resolve_job_def("rollback_model")
    config = {"ops": {"roll_back": {"config": {"model": MODEL, "reason": REPORT, "approver": "carla"}}}}
    again = office.instance.create_run_for_job(
        job_def=job, run_config=config, parent_run_id=first.run_id, root_run_id=first.run_id
    )
    assert execute_run(InMemoryJob(job), again, office.instance).success
    assert office.champion() == 2


# The check


@pytest.mark.requirement("PRO-5")
def test_the_check_passes_while_the_registry_shows_what_the_ledger_says(office: Office) -> None:
    assert office.check().passed
    office.works.crown("first")
    office.works.crown("second")
    rolled_back(office)
    check = office.check()
    assert (check.passed, check.description, check.metadata["drift"].value) == (True, None, [])


@pytest.mark.requirement("PRO-5")
def test_the_check_fails_when_the_alias_was_moved_by_hand(office: Office) -> None:
    office.works.crown("first")
    office.works.train("second")
    office.works.registry.set_alias(MODEL, CHAMPION, 2)
    check = office.check()
    assert (check.passed, check.severity) == (False, dg.AssetCheckSeverity.ERROR)
    told = f"{MODEL}: the alias champion is at version 2; the champion is version 1, request 1"
    assert (check.description, check.metadata["drift"].value) == (told, [told])


@pytest.mark.requirement("PRO-5")
def test_the_check_fails_when_the_champion_was_deleted_from_mlflow(
    database: Database, tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    registry = MlflowRegistry(database.psycopg2_url("mlflow"), str(tmp_path / "mlflow"), database.lock)
    office = Office(Works(Ledger(database.pooled), registry, tmp_path, database.lock), instance)
    office.works.crown("first")
    assert office.check().passed
    registry._client.delete_model_version(MODEL, "1")
    check = office.check()
    assert not check.passed
    assert "the champion (version 1, request 1) is not in the registry: it was deleted" in str(check.description)
