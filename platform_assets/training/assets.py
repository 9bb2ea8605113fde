"""Dagster asset, checks, training job, schedule and sensor of a declared model. `trainer.py` does the training."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import dagster as dg

from platform_assets.approval.ledger import Ledger
from platform_assets.approval.requests import Request, request_approval
from platform_assets.evaluation.gate import Criterion, NotWorse
from platform_assets.lake.assets import IO_MANAGER
from platform_assets.lake.delta_tables import TableStore
from platform_assets.orchestration.declared import ON_REQUEST
from platform_assets.orchestration.failures import plain_failures
from platform_assets.orchestration.run_states import UNFINISHED
from platform_assets.training import metadata as model_metadata
from platform_assets.training.model_spec import ModelSpec, Retraining
from platform_assets.training.proposal import proposal_of
from platform_assets.training.trainer import Trainer
from platform_assets.training.training_results import Assessment

USER = "user"
"""`launched_by` of runs that neither a schedule nor a sensor launched."""
EVALUATION = "criteria_hold_on_newest_examples"
"""Name of the check that evaluates a model on newly labelled examples."""
SENSOR_SECONDS = 60
"""Minimum interval between two ticks of `new_data_sensor`."""


def model_definitions(spec: ModelSpec) -> dg.Definitions:
    """Return the Dagster definitions of a model.

    Parameters
    ----------
    spec
        Declaration of the model. The asset is `<domain>/<name>`, and the job `train_<name>`. The package
        `platform_assets.monitoring` adds the job `evaluate_<name>`.
    """
    asset, evaluation = model_asset(spec), evaluation_check(spec)
    loaded = dg.AssetSelection.assets(*(name.split("/") for name in spec.loaded_separately)).upstream()
    refreshed = (dg.AssetSelection.assets(asset).upstream() - loaded).downstream()
    train = dg.define_asset_job(
        f"train_{spec.name}",
        # Upstream tables are refreshed so that training sees new rows. Downstream assets of these tables are refreshed
        # so that the online tables match them.
        selection=refreshed - dg.AssetSelection.checks(evaluation),
        description=f"Refresh the tables of {spec.key}, then train and evaluate the model, and register it as "
        "challenger.",
    )
    return dg.Definitions(
        assets=[asset],
        asset_checks=[evaluation],
        jobs=[train],
        schedules=[
            dg.ScheduleDefinition(
                name=f"train_{spec.name}_nightly",
                job=train,
                cron_schedule=spec.retraining.cron,
                execution_timezone="UTC",
                description=f"Train {spec.key} every night. If nothing has changed, no new version is registered.",
            )
        ],
        sensors=[new_data_sensor(spec, train)],
    )


def model_asset(spec: ModelSpec) -> dg.AssetsDefinition:
    """Return the model's asset. Materialising it trains, evaluates and registers the model. Its checks do not block."""

    @dg.asset(
        name=spec.name,
        key_prefix=spec.domain,
        group_name=spec.domain,
        description=spec.description,
        owners=list(spec.owners),
        kinds={"scikitlearn", "mlflow"},
        deps=[dg.AssetKey(name.split("/")) for name in spec.tables],
        # The asset returns no value. Models are loaded from the registry.
        io_manager_key=IO_MANAGER,
        check_specs=[
            dg.AssetCheckSpec(one.name, asset=spec.key.split("/"), description=one.description)
            for one in _demands(spec)
        ],
    )
    def model(
        context: dg.AssetExecutionContext, trainer: dg.ResourceParam[Trainer], ledger: dg.ResourceParam[Ledger]
    ) -> dg.MaterializeResult:  # type: ignore[type-arg]  # Dagster reads it
        with plain_failures():
            # Check the policy before training, so that an invalid policy does not waste a training run.
            ledger.settle_policy(spec.name, spec.approval)
            training = trainer.train(spec, launched_by(context.run.tags), context.log.info)
            request = request_approval(ledger, proposal_of(spec, training, dagster_run=context.run.run_id))
        verdict = training.assessment.verdict
        if not verdict.passed:
            context.log.warning("%s: the quality gate FAILED: %s", spec.key, "; ".join(model_metadata.faults(verdict)))
        return dg.MaterializeResult(
            data_version=dg.DataVersion(training.version.digest),
            metadata=model_metadata.of_training(spec, training, request) | page_of(ledger, request),
            check_results=list(_check_results(spec, training.assessment)),
        )

    return model


def page_of(ledger: Ledger, request: Request | None) -> dict[str, Any]:
    """Return metadata with a link to the page of an approval request; empty if there is no page."""
    page = ledger.page(request.id) if request else ""
    return {"approval_request": dg.MetadataValue.url(page)} if page else {}


def evaluation_check(spec: ModelSpec) -> dg.AssetChecksDefinition:
    """Return the check that evaluates the champion, or the newest version, on newly labelled examples."""

    @dg.asset_check(
        asset=spec.key.split("/"),
        name=EVALUATION,
        description=f"The champion of {spec.key} (or the newest version, if there is no champion) meets the criteria "
        "on the examples labelled since it was trained. If these are too few, it is evaluated on the holdout.",
        metadata={ON_REQUEST: True},
    )
    def check(trainer: dg.ResourceParam[Trainer]) -> dg.AssetCheckResult:
        with plain_failures():
            evaluation = trainer.evaluate(spec)
        verdict = evaluation.assessment.verdict
        return dg.AssetCheckResult(
            passed=verdict.passed,
            severity=dg.AssetCheckSeverity.WARN,
            description="; ".join([*model_metadata.faults(verdict), evaluation.examples]),
            metadata=model_metadata.of_evaluation(evaluation),
        )

    return check


def new_data_sensor(spec: ModelSpec, job: Any) -> dg.SensorDefinition:
    """Return the sensor that trains the model when its first table has grown enough since the last training run."""
    first = spec.tables[0]
    asset_key = dg.AssetKey(spec.key.split("/"))

    @dg.sensor(
        name=f"{spec.name}_new_data",
        job=job,
        minimum_interval_seconds=SENSOR_SECONDS,
        description=(
            f"Train {spec.key} when {first} has {spec.retraining.min_new_rows:,} new rows since the last training run, "
            f"at most once per {spec.retraining.cool_down} (h:mm:ss)."
        ),
    )
    def sensor(
        context: dg.SensorEvaluationContext, tables: dg.ResourceParam[TableStore]
    ) -> dg.RunRequest | dg.SkipReason:
        with plain_failures():
            current = tables.current(first)
        if current is None:
            return dg.SkipReason(f"table {first} does not exist yet")
        if busy := _at_work(context.instance, asset_key):
            return dg.SkipReason(f"run {busy} is already training the model")
        last = last_training(context.instance.get_latest_materialization_event(asset_key))
        reason = why_not(spec.retraining, current.rows, last, datetime.now(UTC))
        # The sensor launches one run per table version. If the run fails, the schedule or a person retries it.
        return dg.SkipReason(reason) if reason else dg.RunRequest(run_key=f"{first} version {current.version}")

    return sensor


def _at_work(instance: dg.DagsterInstance, key: dg.AssetKey) -> str | None:
    """Return the id of an unfinished run, in any job, that materialises the asset; None if there is none."""
    for record in instance.get_run_records(dg.RunsFilter(statuses=UNFINISHED)):
        run = record.dagster_run
        if key in (run.asset_selection or ()) or run.job_name == f"train_{key.path[-1]}":
            return run.run_id
    return None


@dataclass(frozen=True)
class LastTraining:
    """Time of a model's last training run, and the number of rows that the model's first table had at that time."""

    at: datetime
    rows: int


def last_training(event: dg.EventLogEntry | None) -> LastTraining | None:
    """Read the last training run from the asset's newest materialisation; None before the first run."""
    materialisation = event.asset_materialization if event else None
    if event is None or materialisation is None or model_metadata.FIRST_TABLE_ROWS not in materialisation.metadata:
        return None
    rows: Any = materialisation.metadata[model_metadata.FIRST_TABLE_ROWS].value
    return LastTraining(datetime.fromtimestamp(event.timestamp, UTC), int(rows))


def why_not(policy: Retraining, rows: int, last: LastTraining | None, now: datetime) -> str | None:
    """Return the reason why training is not due, or None if it is due.

    Parameters
    ----------
    policy
        Retraining policy of the model.
    rows
        Current number of rows in the model's first table.
    last
        Last training run, if any.
    now
        Current time, with time zone.
    """
    new = rows - (last.rows if last else 0)
    if new < policy.min_new_rows:
        return f"{new:,} new rows; {policy.min_new_rows:,} are required"
    if last and now - last.at < policy.cool_down:
        return f"last trained {last.at:%Y-%m-%d %H:%M} UTC; the cool-down is {policy.cool_down} (h:mm:ss)"
    return None


def launched_by(tags: Mapping[str, str]) -> str:
    """Return the launcher of a run, from its tags: `schedule:<name>`, `sensor:<name>` or `user`."""
    for kind in ("schedule", "sensor"):
        if name := tags.get(f"dagster/{kind}_name"):
            return f"{kind}:{name}"
    return USER


def _check_results(spec: ModelSpec, assessment: Assessment) -> Iterator[dg.AssetCheckResult]:
    for demand, reason in zip(_demands(spec), assessment.verdict.reasons, strict=True):
        yield dg.AssetCheckResult(
            passed=reason.passed,
            asset_key=spec.key.split("/"),
            check_name=reason.name,
            severity=dg.AssetCheckSeverity.WARN,
            description=reason.told,
            metadata=model_metadata.of_check(assessment, demand),
        )


def _demands(spec: ModelSpec) -> list[Criterion | NotWorse]:
    """Return the criteria, then the comparison with the champion, in the same order as `verdict.reasons`."""
    return [*spec.criteria, spec.not_worse]
