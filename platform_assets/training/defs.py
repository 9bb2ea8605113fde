"""The asset, the jobs, the schedule and the sensor of each model that a domain declares."""

import dagster as dg

from platform_assets.orchestration.declared import Declared
from platform_assets.training.assets import model_definitions


def definitions(declared: Declared) -> dg.Definitions:
    """Return what Dagster shows and runs of all models."""
    return dg.Definitions.merge(*(model_definitions(spec) for spec in declared.models))
