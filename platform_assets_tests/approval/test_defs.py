"""What follows a person's decision: the jobs, the sensor and the check, over a real ledger."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import dagster as dg
import pytest
from dagster._core.definitions.job_base import InMemoryJob
from dagster._core.execution.api import execute_run
from sqlalchemy import make_url

from platform_assets.approval.defs import (
    REQUEST_TAG,
    RETRY_SECONDS,
    promotion_definitions,
    run_config,
    run_key,
    to_promote,
)
from platform_assets.approval.ledger import Ledger
from platform_assets.approval.requests import State
from platform_assets.base.errors import RegistryError
from platform_assets.database.connections import Database
from platform_assets.models.mlflow_registry import MlflowRegistry
from platform_assets.models.registry import CHAMPION, MemoryRegistry
from platform_assets_tests.approval.promotions import Works
from platform_assets_tests.approval.proposals import ANNA, MODEL
from platform_assets_tests.instances import empty_instance
from platform_assets_tests.training.breakage_model import ONE_CANDIDATE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from dagster._core.definitions.sensor_definition import SensorExecutionData

SPEC = replace(ONE_CANDIDATE, key=f"somewhere/{MODEL}")
KEY = dg.AssetKey(["somewhere", MODEL])
REPORT = "it flags everybody"
TRIES = ("STEP_START", "STEP_UP_FOR_RETRY", "STEP_RESTARTED", "STEP_FAILURE")
OPS = ("load_request", "manual_approval", "promote", "reject")


class AwayRegistry(MemoryRegistry):
    """A registry that can be read and not written while it is away."""

    away = False

    def set_tags(self, name: str, number: int, tags: Mapping[str, str]) -> None:
        if self.away:
            raise RegistryError("MLflow is away")
        super().set_tags(name, number, tags)


class Office:
    """The definitions of one model's promotion, with all that they need."""

    def __init__(self, works: Works, instance: dg.DagsterInstance) -> None:
        self.works = works
        self.instance = instance
        self.resources = {"ledger": works.ledger, "promoter": works.promoter}
        self.definitions = dg.Definitions.merge(
            promotion_definitions([SPEC]),
            dg.Definitions(
                assets=[dg.AssetSpec(KEY)],
                executor=dg.in_process_executor,
                resources={
                    name: dg.ResourceDefinition.hardcoded_resource(value) for name, value in self.resources.items()
                },
            ),
        )

    def run(self, job: str, config: Any) -> dg.ExecuteInProcessResult:
        found = self.definitions.resolve_job_def(job)
        return found.execute_in_process(run_config=config, instance=self.instance, raise_on_error=False)

    def promote(self, number: int) -> dg.ExecuteInProcessResult:
        return self.run("promote_model", run_config(number))

    def decide(self, number: int, decision: str, **others: Any) -> dg.ExecuteInProcessResult:
        return self.run("decide", decided(number, decision, **others))

    def tick(self, cursor: str | None = None) -> SensorExecutionData:
        repository = self.definitions.get_repository_def()
        context = dg.build_sensor_context(
            instance=self.instance,
            cursor=cursor,
            resources={"ledger": self.works.ledger},
            repository_def=repository,
        )
        return repository.get_sensor_def("model_decided").evaluate_tick(context)

    def follow(self, data: SensorExecutionData) -> list[dg.ExecuteInProcessResult]:
        """Launch what the sensor asked for."""
        return [self.run("promote_model", request.run_config) for request in data.run_requests or []]

    def check(self) -> dg.AssetCheckEvaluation:
        selection = dg.AssetSelection.checks(dg.AssetCheckKey(KEY, "registry_equals_ledger"))
        job = dg.Definitions.merge(
            self.definitions, dg.Definitions(jobs=[dg.define_asset_job("look", selection)])
        ).resolve_job_def("look")
        [evaluation] = job.execute_in_process(instance=self.instance).get_asset_check_evaluations()
        return evaluation

    def champion(self) -> int | None:
        found = self.works.registry.by_alias(MODEL, CHAMPION)
        return found.version if found else None

    def kinds(self, number: int) -> list[str]:
        return [event.kind for event in self.works.ledger.history(number)]


def decided(number: int, decision: str, **others: Any) -> dict[str, Any]:
    """What a person types into the Launchpad."""
    config = {"request": number, "decision": decision, "reason": "better", "approver": "anna"} | others
    return {"ops": {"record_decision": {"config": config}}}


def keys(data: SensorExecutionData) -> list[str | None]:
    return [request.run_key for request in data.run_requests or []]


def states(result: dg.ExecuteInProcessResult) -> dict[str, str]:
    """What became of each op."""
    said = {"STEP_SUCCESS": "done", "STEP_FAILURE": "failed", "STEP_SKIPPED": "skipped"}
    return {
        str(event.step_key): said[event.event_type_value]
        for event in result.all_events
        if event.event_type_value in said
    }


def failure(result: dg.ExecuteInProcessResult) -> str:
    """Why the run failed, in the words that Dagster shows."""
    [event] = [event for event in result.all_events if event.is_step_failure]
    assert event.step_failure_data.error is not None
    return event.step_failure_data.error.message


def observations(result: dg.ExecuteInProcessResult) -> list[dg.AssetObservation]:
    return [event.asset_observation_data.asset_observation for event in result.all_events if event.is_asset_observation]


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    database = Database(make_url(database_url))
    yield database
    database.close()


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with empty_instance() as instance:
        yield instance


@pytest.fixture
def office(database: Database, tmp_path: Path, instance: dg.DagsterInstance) -> Office:
    return Office(Works(Ledger(database.pooled), AwayRegistry(), tmp_path, database.lock), instance)


@pytest.fixture
def works(office: Office) -> Works:
    return office.works


def registry_goes(office: Office, *, away: bool) -> None:
    assert isinstance(office.works.registry, AwayRegistry)
    office.works.registry.away = away


# promote_model


def pending(works: Works) -> int:
    return works.ask(works.train("new")).id


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


def rolled_back(office: Office, **others: Any) -> dg.ExecuteInProcessResult:
    config = {"model": MODEL, "reason": REPORT, "approver": "carla"} | others
    return office.run("rollback_model", {"ops": {"roll_back": {"config": config}}})


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


# The sensor


@pytest.mark.requirement("PLT-2", "PRO-3")
def test_the_sensor_waits_for_a_decision(office: Office) -> None:
    assert office.tick().skip_message == "no decision waits to be followed"
    pending(office.works)
    assert office.tick().skip_message == "no decision waits to be followed"


@pytest.mark.requirement("PLT-2", "PRO-3")
def test_the_sensor_launches_what_was_approved_until_it_is_promoted(office: Office) -> None:
    number = office.works.approve(office.works.train())
    data = office.tick()
    [request] = data.run_requests or []
    assert (request.run_key, request.tags[REQUEST_TAG]) == ("event 2, attempt 1", str(number))
    # The same key again: Dagster launches it once.
    assert keys(office.tick()) == ["event 2, attempt 1"]
    [result] = office.follow(data)
    assert result.success
    assert office.champion() == 1
    assert office.tick().skip_message == "no decision waits to be followed"


@pytest.mark.requirement("PLT-2", "PRO-3")
def test_the_sensor_launches_a_rejection_once(office: Office) -> None:
    office.works.ledger.decide(pending(office.works), "reject", ANNA, "worse")
    data = office.tick()
    assert (keys(data), data.cursor) == (["event 2, attempt 1"], "2")
    [result] = office.follow(data)
    assert states(result)["reject"] == "done"
    after = office.tick(data.cursor)
    assert (after.run_requests, after.skip_message) == ([], "no decision waits to be followed")
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
def test_the_attempt_grows_with_the_age_of_what_is_not_complete(office: Office, age: float, attempt: int) -> None:
    number = office.works.approve(office.works.train())
    approval = office.works.ledger.history(number)[-1]
    assert run_key(approval, age) == f"event 2, attempt {attempt}"
    assert to_promote(office.works.ledger, approval.at + timedelta(seconds=age)) == {run_key(approval, age): number}


@pytest.mark.requirement("PLT-2", "PRO-3")
def test_a_promotion_that_the_registry_does_not_show_is_launched_again(office: Office) -> None:
    number = office.works.approve(office.works.train())
    registry_goes(office, away=True)
    [failed] = office.follow(office.tick())
    assert "MLflow is away" in failure(failed)
    assert office.works.ledger.request(number).state is State.PROMOTED
    data = office.tick()
    assert keys(data) == ["event 3, attempt 1"]
    assert not office.follow(data)[0].success
    registry_goes(office, away=False)
    [result] = office.follow(data)
    assert result.success
    assert (office.champion(), office.kinds(number)) == (1, ["request", "approve", "promote"])
    assert office.tick().skip_message == "no decision waits to be followed"


@pytest.mark.requirement("PLT-2", "PRO-7")
@pytest.mark.parametrize("also_the_promotion", [False, True])
def test_a_rollback_that_the_registry_does_not_show_is_completed(office: Office, also_the_promotion: bool) -> None:
    office.works.crown("first")
    registry_goes(office, away=also_the_promotion)
    office.promote(office.works.approve(office.works.train("second")))
    registry_goes(office, away=True)
    assert "MLflow is away" in failure(rolled_back(office))
    registry_goes(office, away=False)
    data = office.tick()
    assert keys(data) == ["event 7, attempt 1"]
    [result] = office.follow(data)
    assert result.success
    assert office.champion() == 1
    assert office.check().passed
    assert office.tick().skip_message == "no decision waits to be followed"


@pytest.mark.requirement("PLT-2", "PRO-6")
def test_the_sensor_records_what_has_expired(office: Office) -> None:
    number = office.works.ask(office.works.train(), lifetime=timedelta(0)).id
    assert office.tick().skip_message == "no decision waits to be followed"
    assert office.works.ledger.request(number).state is State.EXPIRED
    office.tick()
    assert office.kinds(number) == ["request", "expire"]


@pytest.mark.requirement("PLT-2", "PRO-3")
def test_when_dagster_forgets_everything_nothing_is_promoted_twice(office: Office) -> None:
    rejected = office.works.ledger.decide(pending(office.works), "reject", ANNA, "worse").id
    number = office.works.approve(office.works.train("good"))
    launched = office.tick()
    assert all(result.success for result in office.follow(launched))
    head = office.works.ledger.head()
    office.instance.wipe()
    again = office.tick()
    # A rejection is shown again, which changes nothing.
    assert [request.tags[REQUEST_TAG] for request in again.run_requests or []] == [str(rejected)]
    assert all(result.success for result in office.follow(again))
    # Nor does what the lost storage had in its queue.
    assert all(result.success for result in office.follow(launched))
    assert office.works.ledger.head() == head
    assert (office.champion(), office.kinds(number)) == (2, ["request", "approve", "promote"])


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
