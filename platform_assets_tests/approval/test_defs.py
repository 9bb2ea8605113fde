"""The jobs that carry out approval decisions, and the asset check of the registry, with a real ledger."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dagster as dg
import pytest
from dagster._core.definitions.job_base import InMemoryJob
from dagster._core.execution.api import execute_run

from platform_assets.approval.defs import run_config
from platform_assets.approval.requests import State
from platform_assets.database.policies import write_rules
from platform_assets.models.memory_registry import MemoryRegistry
from platform_assets.models.mlflow_registry import MlflowRegistry
from platform_assets.models.registry import CHAMPION
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
from platform_assets_tests.approval.proposals import ANNA, MODEL, owner_at, prepared, url_of
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
    return Office(Works(prepared(database), AwayRegistry(), tmp_path, database.lock), instance)


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
        (pending, "PENDING", "`platform-assets decide approve 1` or on the approval page"),
        (withdrawn, "WITHDRAWN", f"open a new request: `platform-assets decide request {MODEL} 1`"),
        (superseded, "SUPERSEDED", "decide on the newer version"),
    ],
)
def test_unapproved_request_stops_at_manual_approval_and_the_error_names_the_fix(
    office: Office, prepare: Callable[[Works], int], state: str, way_out: str
) -> None:
    number = prepare(office.works)
    head = office.works.ledger.head()
    result = office.promote(number)
    assert not result.success
    # Neither the branch for approval nor the branch for rejection starts.
    assert states(result) == {"load_request": "done", "manual_approval": "failed"}
    assert f"it is {state}" in failure(result)
    assert way_out in failure(result)
    assert "Traceback" not in failure(result)
    assert (office.champion(), office.works.ledger.head()) == (None, head)


@pytest.mark.requirement("PRO-3")
def test_refusal_is_not_retried(office: Office) -> None:
    number = pending(office.works)
    job = office.definitions.resolve_job_def("promote_model")
    assert job.tags["dagster/max_retries"] == "0"
    # The refusal is not retried even if the op has a retry policy.
    eager = job.graph.to_job(
        "with_retries",
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
def test_promotion_job_connects_its_ops_in_order(office: Office) -> None:
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
def test_approved_request_is_promoted_and_shown_on_the_asset(office: Office) -> None:
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
def test_rejected_request_takes_the_reject_branch(office: Office) -> None:
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
def test_stale_approval_fails_and_the_error_names_the_fix(office: Office) -> None:
    number = office.works.approve(office.works.train("first"))
    office.works.crown("second")
    result = office.promote(number)
    assert states(result)["promote"] == "failed"
    assert "is version 2, but the approved version was compared with no champion" in failure(result)
    assert f"open a new request with new evidence: `platform-assets decide request {MODEL} 1`" in failure(result)
    assert (office.champion(), office.works.ledger.request(number).state) == (2, State.FAILED)


def test_missing_request_is_reported(office: Office) -> None:
    result = office.promote(7)
    assert states(result)["load_request"] == "failed"
    assert "there is no request 7; `platform-assets decide list --all`" in failure(result)


# decide


@pytest.mark.requirement("PRO-4", "PRO-5")
@pytest.mark.parametrize(
    ("decision", "state"),
    [("approve", State.APPROVED), ("reject", State.REJECTED), ("withdraw", State.WITHDRAWN)],
)
def test_launchpad_decision_is_recorded_as_unverified(office: Office, decision: str, state: State) -> None:
    number = pending(office.works)
    result = office.decide(number, decision, reason="  as discussed ")
    assert result.success
    assert office.works.ledger.request(number).state is state
    event = office.works.ledger.history(number)[-1]
    assert (event.kind, event.actor, event.authenticated) == (decision, "unverified: Launchpad: anna", False)
    assert (event.reason, event.delivery) == ("as discussed", result.run_id)
    assert "by Launchpad: anna (identity not verified) at" in event.told


@pytest.mark.requirement("PRO-4", "PRO-5")
def test_launchpad_decision_is_refused_if_identity_is_required(
    database: Database, tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    office = Office(Works(prepared(database), MemoryRegistry(), tmp_path, database.lock), instance)
    with owner_at(url_of(database)) as owner:
        write_rules(owner, identity_required=True)
    number = pending(office.works)
    result = office.decide(number, "approve")
    assert "PLATFORM_APPROVALS_REQUIRE_IDENTITY is on; set PLATFORM_API_KEY to a key" in failure(result)
    assert office.works.ledger.request(number).state is State.PENDING
    office.works.crown("first")
    office.works.crown("second")
    config = {"ops": {"roll_back": {"config": {"model": MODEL, "reason": REPORT, "approver": "anna"}}}}
    assert "PLATFORM_APPROVALS_REQUIRE_IDENTITY is on" in failure(office.run("rollback_model", config))
    assert office.champion() == office.works.registry.versions(MODEL)[0].version


@pytest.mark.requirement("PRO-4")
@pytest.mark.parametrize(
    ("job", "said"),
    [("decide", "give a reason"), ("rollback_model", "give a reason"), ("promote_model", "no request 0")],
)
def test_launchpad_template_is_refused_until_it_is_filled_in(office: Office, job: str, said: str) -> None:
    shown = office.definitions.resolve_job_def(job).run_config
    assert shown is not None
    assert set(shown) == {"ops"}
    assert said in failure(office.run(job, None))


@pytest.mark.requirement("PRO-4")
@pytest.mark.parametrize(
    ("others", "said"),
    [
        ({"reason": " "}, "give a reason"),
        ({"approver": ""}, "give the name"),
        ({"override": True}, "nothing to override"),
    ],
)
def test_incomplete_decision_is_refused(office: Office, others: dict[str, Any], said: str) -> None:
    number = pending(office.works)
    assert said in failure(office.decide(number, "approve", **others))
    assert office.kinds(number) == ["request"]


@pytest.mark.requirement("PRO-5")
def test_second_decision_is_refused_with_a_message_about_the_first(office: Office) -> None:
    number = pending(office.works)
    assert office.decide(number, "reject", reason="worse").success
    told = failure(office.decide(number, "approve", approver="bert"))
    assert f"request 1 ({MODEL} version 1) is closed: rejected by Launchpad: anna" in told


@pytest.mark.requirement("PRO-5")
def test_reexecuted_run_records_one_decision(office: Office) -> None:
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
def test_rollback_job_restores_the_previous_champion(office: Office) -> None:
    office.works.crown("first")
    office.works.crown("second")
    assert office.definitions.resolve_job_def("rollback_model").tags["dagster/max_retries"] == "0"
    assert rolled_back(office).success
    assert office.champion() == 1
    event = office.works.ledger.changes(MODEL)[-1]
    assert (event.kind, event.actor, event.authenticated, event.reason) == (
        "roll_back",
        "unverified: Launchpad: carla",
        False,
        REPORT,
    )


@pytest.mark.requirement("PRO-7")
@pytest.mark.parametrize(
    ("others", "said"),
    [
        ({}, "version 1 is the only champion so far"),
        ({"reason": ""}, "give a reason"),
        ({"model": "other"}, "there is no champion yet"),
    ],
)
def test_impossible_rollback_is_refused_with_the_reason(office: Office, others: dict[str, Any], said: str) -> None:
    office.works.crown("first")
    assert said in failure(rolled_back(office, **others))
    assert office.champion() == 1


@pytest.mark.requirement("PRO-7")
def test_reexecuted_rollback_run_rolls_back_once(office: Office) -> None:
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
def test_registry_check_passes_if_the_registry_agrees_with_the_ledger(office: Office) -> None:
    assert office.check().passed
    office.works.crown("first")
    office.works.crown("second")
    rolled_back(office)
    check = office.check()
    assert (check.passed, check.description, check.metadata["drift"].value) == (True, None, [])


@pytest.mark.requirement("PRO-5")
def test_registry_check_fails_if_the_alias_was_moved_by_hand(office: Office) -> None:
    office.works.crown("first")
    office.works.train("second")
    office.works.registry.set_alias(MODEL, CHAMPION, 2)
    check = office.check()
    assert (check.passed, check.severity) == (False, dg.AssetCheckSeverity.ERROR)
    told = f"{MODEL}: the alias `champion` points to version 2, but the champion is version 1, request 1"
    assert (check.description, check.metadata["drift"].value) == (told, [told])


@pytest.mark.requirement("PRO-5")
def test_registry_check_fails_if_the_champion_was_deleted_from_mlflow(
    database: Database, tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    registry = MlflowRegistry(database.psycopg2_url("mlflow"), str(tmp_path / "mlflow"), database.lock)
    office = Office(Works(prepared(database), registry, tmp_path, database.lock), instance)
    office.works.crown("first")
    assert office.check().passed
    registry._client.delete_model_version(MODEL, "1")
    check = office.check()
    assert not check.passed
    assert "the champion (version 1, request 1) was deleted from the registry" in str(check.description)
