"""Asset check and job that evaluate a model on its labelled predictions."""

from typing import Any

import dagster as dg

from platform_assets.approval.ledger import Ledger
from platform_assets.monitoring.label_store import Labels
from platform_assets.monitoring.real_performance import RealPerformance, real_performance
from platform_assets.orchestration.failures import plain_failures
from platform_assets.training.assets import EVALUATION
from platform_assets.training.metadata import of_assessment
from platform_assets.training.model_spec import ModelSpec

REAL_PERFORMANCE = "criteria_hold_on_labelled_predictions"
"""Name of the asset check that evaluates a champion on its labelled predictions."""


def real_performance_check(spec: ModelSpec) -> dg.AssetChecksDefinition:
    """Return the check that the champion meets the model's criteria on its labelled predictions."""

    @dg.asset_check(
        asset=spec.key.split("/"),
        name=REAL_PERFORMANCE,
        description=f"The champion of {spec.key} meets the criteria on its labelled predictions since promotion. "
        "The check passes while there are too few labels.",
    )
    def check(ledger: dg.ResourceParam[Ledger], labels: dg.ResourceParam[Labels]) -> dg.AssetCheckResult:
        with plain_failures():
            found = real_performance(spec, ledger, labels)
            metadata = metadata_of(found) if found else {}
        return dg.AssetCheckResult(
            passed=found is None or found.assessment is None or found.assessment.verdict.passed,
            severity=dg.AssetCheckSeverity.WARN,
            description=found.told if found else "there is no champion yet",
            metadata=metadata,
        )

    return check


def metadata_of(performance: RealPerformance) -> dict[str, Any]:
    """Return the metadata of the check: counts of labels and, if there are enough labels, metrics and plots."""
    champion, found = performance.champion, performance.found
    return {
        "model_version": champion.version,
        "champion_since": dg.MetadataValue.timestamp(champion.event.at),
        "predictions": found.predictions,
        "labelled_predictions": len(found.labels),
        "labelled_share": found.share,
        "contradictory_predictions": found.contradictory,
        "labels_without_prediction": found.unmatched,
        "labels_of_other_versions": found.of_others,
        **(of_assessment(performance.assessment, performance.assessment.plots) if performance.assessment else {}),
    }


def evaluation_job(spec: ModelSpec) -> Any:
    """Return the job that evaluates the model on newly labelled examples, and on its labelled predictions."""
    key = dg.AssetKey(spec.key.split("/"))
    checks = (dg.AssetCheckKey(key, name) for name in (EVALUATION, REAL_PERFORMANCE))
    return dg.define_asset_job(
        f"evaluate_{spec.name}",
        selection=dg.AssetSelection.checks(*checks),
        description=f"Evaluate the champion of {spec.key} on newly labelled examples and on its labelled predictions. "
        "Without a champion, evaluate the newest version on the examples only.",
    )
