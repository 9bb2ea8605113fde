"""Registry entries of a new version: its record as JSON, its metrics and its parameters."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from platform_assets.training.model_card import write_card

if TYPE_CHECKING:
    from collections.abc import Mapping

    from platform_assets.evaluation.intervals import Estimate
    from platform_assets.evaluation.splits import Split
    from platform_assets.training.examples import Examples
    from platform_assets.training.fitting import Fitted
    from platform_assets.training.model_spec import ModelSpec
    from platform_assets.training.training_results import Assessment


def write_record(spec: ModelSpec, fitted: Fitted, examples: Examples, assessment: Assessment) -> dict[str, Any]:
    """Return the record of a new version: leaderboard, split, tables, metrics, verdict, explanations and card."""
    parts = examples.parts
    record = {
        "task": spec.task.name,
        "candidate": fitted.best.candidate,
        "parameters": dict(fitted.best.parameters),
        "threshold": fitted.threshold,
        "leaderboard": [asdict(line) for line in fitted.leaderboard],
        "split": {
            "training_rows": len(parts.train),
            "holdout_rows": len(parts.holdout),
            "left_out_rows": parts.left_out,
            "cut": None if parts.cut is None else f"{parts.cut:%Y-%m-%d}",
        },
        "tables": {name: version.version for name, version in examples.inputs.items()},
        "demo": examples.demo,
        "metrics": {name: one.as_dict() for name, one in assessment.estimates.items()},
        "subgroups": {
            column: {value: {name: one.as_dict() for name, one in found.items()} for value, found in values.items()}
            for column, values in assessment.subgroups.items()
        },
        "verdict": assessment.verdict.as_dict(),
        "difference": (
            {name: one.as_dict() for name, one in assessment.difference.items()} if assessment.difference else None
        ),
        **({"learning_curve": _curve(spec, fitted)} if fitted.curve else {}),
        **{one.name: one.found for one in assessment.explanations},
        **spec.task.facts(assessment.judged),
        "libraries": dict(fitted.model.libraries),
    }
    return record | {"card": write_card(spec, record)}


def _curve(spec: ModelSpec, fitted: Fitted) -> dict[str, Any]:
    return {"metric": spec.ranked_by, "points": [asdict(point) for point in fitted.curve]}


def recorded_parameters(spec: ModelSpec, fitted: Fitted, parts: Split) -> dict[str, str]:
    """Return the training parameters of a version as text: candidate, hyperparameters, seed, folds and split."""
    return {
        "candidate": fitted.best.candidate,
        "seed": str(spec.seed),
        "folds": str(spec.folds),
        **parts.recorded,
        **fitted.best.parameters,
    }


def flat_metrics(estimates: Mapping[str, Estimate]) -> dict[str, float]:
    """Flatten metrics to numbers: `<name>` for the value, `<name>_low` and `<name>_high` for the interval."""
    return {
        f"{name}{end}": number
        for name, estimate in estimates.items()
        for end, number in (("", estimate.value), ("_low", estimate.low), ("_high", estimate.high))
    }
