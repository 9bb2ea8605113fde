"""Jobs `decide`, `promote_model` and `rollback_model`, and the sensor that launches promotions.

The ops only call the ledger and `approval/promotion.py`. No op waits for a person: a job fails if it is launched
before the decision, and its message names the fix.
"""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from enum import Enum

import dagster as dg
from pydantic import Field

from platform_assets.approval.ledger import Ledger
from platform_assets.approval.ledger_events import Event
from platform_assets.approval.promotion import Promoter
from platform_assets.approval.requests import Actor, State
from platform_assets.orchestration.declared import Declared
from platform_assets.orchestration.failures import plain_failures

LAUNCHPAD = "Launchpad"
REQUEST_TAG = "platform/request"
NO_RETRIES = {"dagster/max_retries": "0"}
"""Tags of the jobs. They disable retries, because a refused operation fails again until a person acts."""
SENSOR_SECONDS = 15
RETRY_SECONDS = 300
"""Seconds until an unfinished promotion is launched again, for example after MLflow was unreachable."""


class Decision(Enum):
    """The decisions that a person can make."""

    approve = "approve"
    reject = "reject"
    withdraw = "withdraw"


class DecisionConfig(dg.Config):
    """A decision from the Launchpad. Dagster has no users, so the approver's name is not verified."""

    request: int = Field(description="Number of the request, as on the page /approvals.")
    decision: Decision = Field(description="approve, reject or withdraw.")
    reason: str = Field(description="Reason, recorded permanently.")
    approver: str = Field(description="Your name; recorded as not verified.")
    override: bool = Field(default=False, description="Approve despite a failed gate.")


class RequestConfig(dg.Config):
    """The request to promote or reject."""

    request: int = Field(description="Number of the request, as on the page /approvals.")


class RollbackConfig(dg.Config):
    """The model to roll back, and why."""

    model: str = Field(description="Name of the registered model.")
    reason: str = Field(description="Reason, recorded permanently.")
    approver: str = Field(description="Your name; recorded as not verified.")


def definitions(declared: Declared) -> dg.Definitions:
    """Return the jobs, the sensor, and a check for each model."""
    return promotion_definitions({spec.name: spec.key for spec in declared.models})


def promotion_definitions(models: Mapping[str, str]) -> dg.Definitions:
    """Return the jobs, the sensor, and for each model the check that the registry matches the ledger.

    Parameters
    ----------
    models
        Asset key of each registered model.
    """
    promote_model = promotion_job(models)
    return dg.Definitions(
        asset_checks=[registry_check(name, key) for name, key in models.items()],
        jobs=[decision_job(), promote_model, rollback_job()],
        sensors=[decision_sensor(promote_model.name)],
    )


def decision_job() -> dg.JobDefinition:
    """Return the job `decide`, which records a decision from the Launchpad."""

    @dg.op(description="Record a decision; Dagster has no users, so the approver's name is not verified.")
    def record_decision(
        context: dg.OpExecutionContext, config: DecisionConfig, ledger: dg.ResourceParam[Ledger]
    ) -> None:
        actor = _claimed(config.approver)
        with plain_failures():
            request = ledger.decide(
                config.request,
                config.decision.value,
                actor,
                config.reason,
                override=config.override,
                # Send the id of the first run, even from a re-execution, so that the decision is recorded once.
                delivery=context.run.root_run_id or context.run_id,
            )
        context.log.info("%s is %s", request.called, request.state)

    @dg.job(
        executor_def=dg.in_process_executor,
        name="decide",
        # A template for the Launchpad. The user must fill it in, because the ledger refuses empty values.
        config={
            "ops": {"record_decision": {"config": {"request": 0, "decision": "reject", "reason": "", "approver": ""}}}
        },
        description="Approve, reject or withdraw a request from the Launchpad. In production use the page or "
        "`platform-assets decide` with a key.",
        tags=NO_RETRIES,
    )
    def decide() -> None:
        record_decision()

    return decide


def promotion_job(models: Mapping[str, str]) -> dg.JobDefinition:
    """Return the job `promote_model`: load the request, check the manual approval, then promote or reject.

    Parameters
    ----------
    models
        Asset key of each registered model.
    """
    load_request, manual_approval = load_request_op(), manual_approval_op()
    promote, reject = promote_op(models), reject_op(models)

    @dg.job(
        executor_def=dg.in_process_executor,
        name="promote_model",
        # A template for the Launchpad. The user must replace 0, because no request has this number.
        config={"ops": {"load_request": {"config": {"request": 0}}}},
        description="Carry out the decision about a request. Without a decision nothing is promoted.",
        tags=NO_RETRIES,
    )
    def promote_model() -> None:
        approved, rejected = manual_approval(load_request())
        promote(approved)
        reject(rejected)

    return promote_model


def load_request_op() -> dg.OpDefinition:
    """Return the first op of `promote_model`."""

    @dg.op(description="Read the request.")
    def load_request(context: dg.OpExecutionContext, config: RequestConfig, ledger: dg.ResourceParam[Ledger]) -> int:
        with plain_failures():
            request = ledger.request(config.request)
        context.log.info("%s is %s", request.called, request.state)
        return request.id

    return load_request


def manual_approval_op() -> dg.OpDefinition:
    """Return the op of `promote_model` that fails unless a person has decided."""

    @dg.op(
        description="Check that a person approved or rejected the request. Without a decision, fail and name the fix.",
        out={"approved": dg.Out(int, is_required=False), "rejected": dg.Out(int, is_required=False)},
    )
    def manual_approval(
        context: dg.OpExecutionContext,
        number: int,
        ledger: dg.ResourceParam[Ledger],
        promoter: dg.ResourceParam[Promoter],
    ) -> Iterator[dg.Output[int]]:
        with plain_failures():
            request = ledger.request(number)
            if request.state is State.REJECTED:
                yield dg.Output(number, "rejected")
                return
            promoter.demand_approved(number)
        context.log.info(ledger.history(number)[-1].told)
        yield dg.Output(number, "approved")

    return manual_approval


def promote_op(models: Mapping[str, str]) -> dg.OpDefinition:
    """Return the op of `promote_model` that runs after an approval; `models` as in `promotion_job`."""

    @dg.op(description="Promote the approved version: first in the ledger, then in the registry.")
    def promote(
        context: dg.OpExecutionContext,
        number: int,
        ledger: dg.ResourceParam[Ledger],
        promoter: dg.ResourceParam[Promoter],
    ) -> None:
        with plain_failures():
            champion = promoter.promote(number)
            context.log_event(_observation(ledger, number, models))
        context.log.info("%s version %s is the champion", champion.model, champion.version)

    return promote


def reject_op(models: Mapping[str, str]) -> dg.OpDefinition:
    """Return the op of `promote_model` that runs after a rejection; `models` as in `promotion_job`."""

    @dg.op(description="Keep the champion, and show the rejection on the model's asset.")
    def reject(context: dg.OpExecutionContext, number: int, ledger: dg.ResourceParam[Ledger]) -> None:
        with plain_failures():
            context.log_event(_observation(ledger, number, models))

    return reject


def rollback_job() -> dg.JobDefinition:
    """Return the job `rollback_model`."""

    @dg.op(description="Restore the previous champion.")
    def roll_back(context: dg.OpExecutionContext, config: RollbackConfig, promoter: dg.ResourceParam[Promoter]) -> None:
        actor = _claimed(config.approver)
        with plain_failures():
            champion = promoter.rollback(
                config.model, actor, config.reason, delivery=context.run.root_run_id or context.run_id
            )
        context.log.info("%s version %s is the champion again", champion.model, champion.version)

    @dg.job(
        executor_def=dg.in_process_executor,
        name="rollback_model",
        # A template for the Launchpad. The user must fill it in, because the ledger refuses empty values.
        config={"ops": {"roll_back": {"config": {"model": "", "reason": "", "approver": ""}}}},
        description="Restore the previous champion of a model, and record who did it and why.",
        tags=NO_RETRIES,
    )
    def rollback_model() -> None:
        roll_back()

    return rollback_model


def decision_sensor(job: str) -> dg.SensorDefinition:
    """Return the sensor that launches `promote_model` for decisions and for interrupted promotions and rollbacks."""

    @dg.sensor(
        name="model_decided",
        # Pass the job's name. If the job itself is passed, Dagster 1.13 rebuilds the sensor and logs a warning.
        job_name=job,
        minimum_interval_seconds=SENSOR_SECONDS,
        description="Launch promote_model for each decision, and record expired requests.",
    )
    def model_decided(
        context: dg.SensorEvaluationContext, ledger: dg.ResourceParam[Ledger]
    ) -> dg.SensorResult | dg.SkipReason:
        with plain_failures():
            for request in ledger.expire():
                context.log.info("%s has expired", request.called)
            rejected = ledger.rejections(int(context.cursor or 0))
            keys = {**to_promote(ledger, datetime.now(UTC)), **{run_key(event): event.request_id for event in rejected}}
        if not keys:
            return dg.SkipReason("no decision to carry out")
        return dg.SensorResult(
            run_requests=[
                dg.RunRequest(run_key=key, run_config=run_config(number), tags={REQUEST_TAG: str(number)})
                for key, number in keys.items()
            ],
            cursor=str(rejected[-1].sequence) if rejected else context.cursor,
        )

    return model_decided


def to_promote(ledger: Ledger, now: datetime) -> dict[str, int]:
    """Return the number of each request whose promotion or rollback is not complete, keyed by run key.

    The requests are read from the ledger, because Dagster's storage may be lost. The run key contains the number of the
    attempt, because Dagster never launches two runs with the same run key. While MLflow is unreachable, a new attempt
    starts every `RETRY_SECONDS`.

    Parameters
    ----------
    ledger
        The record of decisions.
    now
        Current time, with time zone.
    """
    approved = [ledger.history(request.id)[-1] for request in ledger.requests(states=[State.APPROVED])]
    due = [(event, event.request_id) for event in approved]
    for model in ledger.models():
        waiting, champion = ledger.unprojected(model), ledger.champion(model)
        if waiting and champion:
            # The registry does not yet reflect the model's last promotion or rollback.
            due.append((waiting[-1], champion.request_id))
    return {run_key(event, (now - event.at).total_seconds()): number for event, number in due}


def run_key(event: Event, age: float = 0.0) -> str:
    """Return the run key of an event. The number of the attempt is computed from the age of the event."""
    return f"event {event.sequence}, attempt {1 + max(0, int(age // RETRY_SECONDS))}"


def run_config(number: int) -> dg.RunConfig:
    """Return the configuration of `promote_model` for a request."""
    return dg.RunConfig({"load_request": RequestConfig(request=number)})


def registry_check(model: str, key: str) -> dg.AssetChecksDefinition:
    """Return the check that MLflow's alias and tags match the ledger."""

    @dg.asset_check(
        asset=key.split("/"),
        name="registry_equals_ledger",
        description=f"MLflow's alias `champion` of {model} points to the approved version, which was not altered.",
    )
    def check(promoter: dg.ResourceParam[Promoter]) -> dg.AssetCheckResult:
        with plain_failures():
            drift = [*promoter.drifted(model), *promoter.altered(model)]
        return dg.AssetCheckResult(
            passed=not drift,
            severity=dg.AssetCheckSeverity.ERROR,
            description="; ".join(drift) or None,
            metadata={"drift": dg.MetadataValue.json(drift)},
        )

    return check


def _claimed(name: str) -> Actor:
    """Return an unverified actor with a claimed name. The ledger refuses an empty name."""
    return Actor(f"{LAUNCHPAD}: {name.strip()}" if name.strip() else "")


def _observation(ledger: Ledger, number: int, models: Mapping[str, str]) -> dg.AssetObservation:
    """Return an observation that shows the history of a request on the model's asset."""
    request, history = ledger.request(number), ledger.history(number)
    return dg.AssetObservation(
        asset_key=models.get(request.model, request.model).split("/"),
        description=f"{request.called} is {request.state}",
        metadata={
            "request": dg.MetadataValue.url(page) if (page := ledger.page(number)) else request.id,
            "state": request.state.value,
            "model_version": request.version,
            "history": dg.MetadataValue.md("\n".join(f"- {event.told}" for event in history)),
        },
    )
