"""Dagster definitions of all declared models."""

import dagster as dg

from platform_assets.orchestration.declared import Declared
from platform_assets.training.assets import model_definitions


def definitions(declared: Declared) -> dg.Definitions:
    """Return the asset, checks, training job, schedule and sensor of each declared model."""
    return dg.Definitions.merge(*(model_definitions(spec) for spec in declared.models))
