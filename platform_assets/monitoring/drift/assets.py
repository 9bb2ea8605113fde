"""Asset check that compares a table of new rows with a model's training rows to detect drift."""

import dagster as dg

from platform_assets.base.errors import PlatformError
from platform_assets.monitoring.drift import metadata
from platform_assets.monitoring.drift.history import DriftHistory, Stream
from platform_assets.monitoring.drift.monitor import DriftMonitor, Measurement
from platform_assets.training.model_spec import Incoming, ModelSpec


def drift_check(spec: ModelSpec, incoming: Incoming) -> dg.AssetChecksDefinition:
    """Return the drift check of a model.

    The check measures new batches. If there is an alarm, it fails with severity WARN and does not stop later steps.

    Parameters
    ----------
    spec
        Declaration of the model.
    incoming
        The model's table of new rows.
    """

    @dg.asset_check(
        name=f"distribution_is_as_in_training_of_{spec.name}",
        asset=dg.AssetKey(incoming.table.split("/")),
        description=f"The newest rows have the same distribution as the training rows of {spec.key}.",
    )
    def check(
        context: dg.AssetCheckExecutionContext,
        drift_monitor: dg.ResourceParam[DriftMonitor],
        drift_history: dg.ResourceParam[DriftHistory],
    ) -> dg.AssetCheckResult:
        try:
            measurement = drift_monitor.measure(spec, context.run.run_id)
            stands, told = verdict(drift_history, Stream(spec.name, incoming.table), measurement)
        except PlatformError as error:
            # Return a failed check instead of raising, so that later steps such as predictions still run. The next run
            # measures the rows that were not measured now.
            context.log.warning("drift was not measured: %s", error)
            return _result(passed=False, told=f"not measured: {error}", measurement=Measurement())
        context.log.info("%s", told)
        return _result(passed=stands, told=told, measurement=measurement)

    return check


def verdict(history: DriftHistory, stream: Stream, measurement: Measurement) -> tuple[bool, str]:
    """Return whether the check passes, and a one-line summary.

    The check passes if the newest measurement raised no alarm.
    """
    newest = history.of_newest_measurement(stream)
    if not newest:
        return True, f"nothing has been measured yet: {measurement.reason}"
    alarmed = [batch for batch in newest if batch.alarm]
    rows = sum(batch.rows for batch in newest)
    compared = f"{rows:,} rows in {_batches(len(newest))}, compared with version {newest[-1].version} of {stream.model}"
    if measurement.reason:
        compared += f" at {newest[-1].measured_at:%Y-%m-%d %H:%M} UTC ({measurement.reason})"
    if not alarmed:
        return True, f"no drift in {compared}"
    columns = sorted({name for batch in measurement.batches for name in batch.alarm})
    where = f" in {', '.join(columns)}" if columns else ""
    return (
        False,
        f"drift{where} in {len(alarmed):,} of {_batches(len(newest))}, first in {alarmed[0].name}: {compared}",
    )


def _batches(count: int) -> str:
    return f"{count:,} batch{'' if count == 1 else 'es'}"


def _result(*, passed: bool, told: str, measurement: Measurement) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        passed=passed,
        severity=dg.AssetCheckSeverity.WARN,
        description=told,
        metadata=metadata.of_measurement(measurement),
    )
