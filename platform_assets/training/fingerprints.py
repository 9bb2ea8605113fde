"""Fingerprint of a training: one digest over its data, code, parameters and libraries.

Two trainings with the same fingerprint give the same model, so only one of them has to run. `code_digest.py`
beside this file finds the code.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from platform_assets.evaluation.binary_classification import evaluate
from platform_assets.evaluation.splits import split
from platform_assets.models.fitted_model import FittedModel, library_versions
from platform_assets.training.code_digest import code_digest
from platform_assets.training.fitting import fit, settings_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from platform_assets.training.model_spec import ModelSpec

CODE = "code"
PARAMETERS = "parameters"
TRAINING: tuple[Callable[..., Any], ...] = (split, fit, evaluate)
"""What every training runs, whatever the model."""


def fingerprint_parts(spec: ModelSpec, table_digests: Mapping[str, str]) -> dict[str, str]:
    """Return one digest for each thing that decides the outcome: data, code, parameters, libraries.

    Parameters
    ----------
    spec
        The model. Its code is whatever its examples, its candidates and its threshold rule run; see `code_digest`.
    table_digests
        Content digest by table.
    """
    parameters = {
        "columns": [spec.id, *spec.feature_names, spec.label, spec.group, spec.time],
        "candidates": [[one.name, settings_of(one)] for one in spec.candidates],
        "holdout": asdict(spec.holdout),
        "folds": spec.folds,
        "ranked_by": spec.ranked_by,
        "threshold": [spec.threshold.name, dict(spec.threshold.parameters)],
        "seed": spec.seed,
    }
    # How a fitted model scores is no part of its training; its golden rows show that the scores stay the same.
    of_model: tuple[Callable[..., Any], ...] = (
        spec.examples,
        spec.threshold.choose,
        *(one.build for one in spec.candidates),
    )
    return {
        "data": _digest(dict(table_digests)),
        CODE: code_digest((*TRAINING, *of_model), without=(FittedModel,)),
        PARAMETERS: _digest(parameters),
        "libraries": _digest(library_versions()),
    }


def fingerprint(parts: Mapping[str, str]) -> str:
    """Combine the parts into one digest of 64 hexadecimal digits."""
    return _digest(dict(parts))


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()
