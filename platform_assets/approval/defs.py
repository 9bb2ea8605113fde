"""Jobs that follow decisions: `decide`, `promote_model`, `rollback_model`; and the sensor that launches promotions.

The ops here act; what may be done, and what is done, the ledger and `approval/promotion.py` decide. No op waits for a
person: a job that comes before the decision ends and says what would open it.
"""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from enum import Enum

import dagster as dg

from platform_assets.approval.ledger import Ledger
from platform_assets.approval.ledger_events import Event
from platform_assets.approval.promotion import Promoter
from platform_assets.approval.requests import PLATFORM, Actor, State
from platform_assets.orchestration.declared import Declared
from platform_assets.orchestration.failures import plain_failures

LAUNCHPAD = "Launchpad"
REQUEST_TAG = "platform/request"
NO_RETRIES = {"dagster/max_retries": "0"}
"""What was refused once is refused again, until a person does something."""
SENSOR_SECONDS = 15
RETRY_SECONDS = 300
"""Time after which what could not be done, because MLflow was away for one, is launched again."""


class Decision(Enum):
    """What a person can decide."""

    approve = "approve"
    reject = "reject"
    withdraw = "withdraw"


class DecisionConfig(dg.Config):
    """A decision from the Launchpad, where nobody is signed in."""

    request: int
    decision: Decision
    reason: str
    approver: str
    override: bool = False


class RequestConfig(dg.Config):
    """The request that was decided about."""

    request: int


class RollbackConfig(dg.Config):
    """Which model goes back to its previous champion, and why."""

    model: str
    reason: str
    approver: str


def definitions(declared: Declared) -> dg.Definitions:
    """Return the jobs, the sensor, and a check of each model."""
    return promotion_definitions({spec.name: spec.key for spec in declared.models})


def promotion_definitions(models: Mapping[str, str]) -> dg.Definitions:
    """The jobs, the sensor, and for each model the check that the registry shows what the ledger says.

    Parameters
    ----------
    models
        The asset's key by registered model.
    """
    promote_model = promotion_job(models)
    return dg.Definitions(
        asset_checks=[registry_check(name, key) for name, key in models.items()],
        jobs=[decision_job(), promote_model, rollback_job()],
        sensors=[decision_sensor(promote_model.name)],
    )


def decision_job() -> dg.JobDefinition:
    """The job `decide`: a decision from the Launchpad."""

    @dg.op(description="Record a person's decision; the name is a claim, for Dagster knows no users.")
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
                # A run that is executed again delivers the same decision.
                delivery=context.run.root_run_id or context.run_id,
            )
        context.log.info("%s is %s", request.called, request.state)

    @dg.job(
        name="decide",
        description="Approve, reject or withdraw a request from the Launchpad. In production use the page or "
        "`platform-assets decide`, where a key says who decides.",
        tags=NO_RETRIES,
    )
    def decide() -> None:
        record_decision()

    return decide


def promotion_job(models: Mapping[str, str]) -> dg.JobDefinition:
    """The job `promote_model`: the request, the manual approval, then one of two branches.

    Parameters
    ----------
    models
        The asset's key by registered model.
    """
    load_request, manual_approval = load_request_op(), manual_approval_op()
    promote, reject = promote_op(models), reject_op(models)

    @dg.job(
        name="promote_model",
        description="Follow the decision about a request: promote or reject. Without a decision nothing is promoted.",
        tags=NO_RETRIES,
    )
    def promote_model() -> None:
        approved, rejected = manual_approval(load_request())
        promote(approved)
        reject(rejected)

    return promote_model


def load_request_op() -> dg.OpDefinition:
    """The op that begins `promote_model`."""

    @dg.op(description="Read the request that the job is launched for.")
    def load_request(context: dg.OpExecutionContext, config: RequestConfig, ledger: dg.ResourceParam[Ledger]) -> int:
        with plain_failures():
            request = ledger.request(config.request)
        context.log.info("%s is %s", request.called, request.state)
        return request.id

    return load_request


def manual_approval_op() -> dg.OpDefinition:
    """The op of `promote_model` that goes on only with a person's decision."""

    @dg.op(
        description="Pass on what a person decided; without a decision, end and say who can decide, and how.",
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
    """The op of `promote_model` after an approval; the asset's key by registered model."""

    @dg.op(description="Make the approved version the champion: ledger first, then the registry.")
    def promote(
        context: dg.OpExecutionContext,
        number: int,
        ledger: dg.ResourceParam[Ledger],
        promoter: dg.ResourceParam[Promoter],
    ) -> None:
        with plain_failures():
            champion = promoter.promote(number, Actor(PLATFORM))
            context.log_event(_observation(ledger, number, models))
        context.log.info("%s version %s is the champion", champion.model, champion.version)

    return promote


def reject_op(models: Mapping[str, str]) -> dg.OpDefinition:
    """The op of `promote_model` after a rejection; the asset's key by registered model."""

    @dg.op(description="Leave the champion as it is, and show the rejection beside the model.")
    def reject(context: dg.OpExecutionContext, number: int, ledger: dg.ResourceParam[Ledger]) -> None:
        with plain_failures():
            context.log_event(_observation(ledger, number, models))

    return reject


def rollback_job() -> dg.JobDefinition:
    """The job `rollback_model`: back to the previous champion, recorded like any decision."""

    @dg.op(description="Make the previous champion the champion again.")
    def roll_back(context: dg.OpExecutionContext, config: RollbackConfig, promoter: dg.ResourceParam[Promoter]) -> None:
        actor = _claimed(config.approver)
        with plain_failures():
            champion = promoter.rollback(
                config.model, actor, config.reason, delivery=context.run.root_run_id or context.run_id
            )
        context.log.info("%s version %s is the champion again", champion.model, champion.version)

    @dg.job(
        name="rollback_model",
        description="Bring a model's previous champion back; recorded with who and why.",
        tags=NO_RETRIES,
    )
    def rollback_model() -> None:
        roll_back()

    return rollback_model


def decision_sensor(job: str) -> dg.SensorDefinition:
    """Launches `promote_model` for each decision, and for promotions and rollbacks that a killed process began."""

    @dg.sensor(
        name="model_decided",
        # By name: of the job itself, Dagster 1.13 makes the sensor anew with its resources, and warns of doing so.
        job_name=job,
        minimum_interval_seconds=SENSOR_SECONDS,
        description="Launch promote_model for each decision about a model; record which requests have expired.",
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
            return dg.SkipReason("no decision waits to be followed")
        return dg.SensorResult(
            run_requests=[
                dg.RunRequest(run_key=key, run_config=run_config(number), tags={REQUEST_TAG: str(number)})
                for key, number in keys.items()
            ],
            cursor=str(rejected[-1].sequence) if rejected else context.cursor,
        )

    return model_decided


def to_promote(ledger: Ledger, now: datetime) -> dict[str, int]:
    """Requests whose promotion is not complete, by run key; after a rollback, the one of the champion that is back.

    What is due follows from the ledger, not from Dagster's memory, which may be lost. The key carries the attempt,
    for run keys are remembered for ever: while MLflow is away, each is followed by another.

    Parameters
    ----------
    ledger
        Where decisions are.
    now
        With time zone.
    """
    approved = [ledger.history(request.id)[-1] for request in ledger.requests(states=[State.APPROVED])]
    due = [(event, event.request_id) for event in approved]
    for model in ledger.models():
        waiting, champion = ledger.unprojected(model), ledger.champion(model)
        if waiting and champion:
            # Whatever was begun, what is missing is that the registry shows the champion.
            due.append((waiting[-1], champion.request_id))
    return {run_key(event, (now - event.at).total_seconds()): number for event, number in due}


def run_key(event: Event, age: float = 0.0) -> str:
    """The event and, by its age in seconds, the attempt."""
    return f"event {event.sequence}, attempt {1 + max(0, int(age // RETRY_SECONDS))}"


def run_config(number: int) -> dg.RunConfig:
    """The configuration of `promote_model` for a request."""
    return dg.RunConfig({"load_request": RequestConfig(request=number)})


def registry_check(model: str, key: str) -> dg.AssetChecksDefinition:
    """The check that MLflow's alias and tags are where the ledger says."""

    @dg.asset_check(
        asset=key.split("/"),
        name="registry_equals_ledger",
        description=f"The alias champion of {model} is at the version that a person approved, and is there.",
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
    """Who somebody on the Launchpad says to be; nobody, whom the ledger refuses, without a name."""
    return Actor(f"{LAUNCHPAD}: {name.strip()}" if name.strip() else "")


def _observation(ledger: Ledger, number: int, models: Mapping[str, str]) -> dg.AssetObservation:
    """What became of a request, beside its model."""
    request, history = ledger.request(number), ledger.history(number)
    return dg.AssetObservation(
        asset_key=models.get(request.model, request.model).split("/"),
        description=f"{request.called} is {request.state}",
        metadata={
            "request": request.id,
            "state": request.state.value,
            "model_version": request.version,
            "history": dg.MetadataValue.md("\n".join(f"- {event.told}" for event in history)),
        },
    )
