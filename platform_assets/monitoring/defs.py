"""Dagster definitions of monitoring."""

from datetime import timedelta

import dagster as dg

from platform_assets.monitoring.assets import evaluation_job, real_performance_check
from platform_assets.monitoring.daily.assets import daily_definitions
from platform_assets.monitoring.drift.assets import drift_check
from platform_assets.monitoring.drift.sensors import drift_sensor
from platform_assets.monitoring.incidents.defs import definitions as incident_definitions
from platform_assets.monitoring.trace.sensors import lineage_sensor
from platform_assets.orchestration.declared import Declared
from platform_assets.settings import load_settings


def definitions(declared: Declared) -> dg.Definitions:
    """Return the assets, checks, jobs, schedules and sensors of monitoring.

    They cover daily measurements, incidents, lineage events, the evaluation of each model on labelled predictions, and
    drift. Drift is checked for each model with a table of new rows.
    """
    settings = load_settings()
    action, cool_down = settings.drift_action, timedelta(hours=settings.drift_cool_down_hours)
    watched = [(spec, spec.incoming) for spec in declared.models if spec.incoming]
    on_drift = [drift_sensor(*each, action, cool_down) for each in watched] if action != "none" else []
    of_models = dg.Definitions(
        asset_checks=[
            *(real_performance_check(spec) for spec in declared.models),
            *(drift_check(spec, incoming) for spec, incoming in watched),
        ],
        jobs=[evaluation_job(spec) for spec in declared.models],
        sensors=[*([lineage_sensor()] if settings.openlineage_url else []), *on_drift],
    )
    return dg.Definitions.merge(of_models, daily_definitions(declared, settings), incident_definitions(declared))
