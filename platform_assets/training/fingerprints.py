"""Fingerprint of a training run: a digest of its data, code, parameters and libraries.

Training runs with equal fingerprints give identical models, so the second run is skipped. `code_digest.py` computes the
digest of the code.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from platform_assets.models.fitted_model import FittedModel, library_versions
from platform_assets.training.code_digest import code_digest
from platform_assets.training.fitting import fit, settings_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from platform_assets.training.model_spec import ModelSpec

CODE = "code"
PARAMETERS = "parameters"
TRAINING: tuple[Callable[..., Any], ...] = (fit,)
"""Functions that the training of every model runs; the task adds its own."""


def fingerprint_parts(spec: ModelSpec, table_digests: Mapping[str, str]) -> dict[str, str]:
    """Return the digests of data, code, parameters and libraries.

    Parameters
    ----------
    spec
        Declaration of the model. Its functions and classes for examples, task, split and candidates are included in
        the digest of the code; see `code_digest`.
    table_digests
        Content digest of each input table, by table name.
    """
    parameters = {
        "columns": [spec.id, *spec.feature_names, spec.label, spec.group, getattr(spec.split, "time", None)],
        "candidates": [[one.name, settings_of(one)] for one in spec.candidates],
        "holdout": dict(spec.split.identity),
        "folds": spec.folds,
        "ranked_by": spec.ranked_by,
        "seed": spec.seed,
        **spec.task.identity,
    }
    # The code that scores rows (`FittedModel` and the output class) is excluded, because it does not affect training.
    # Golden rows verify that scores are unchanged.
    of_model: tuple[Callable[..., Any], ...] = (
        spec.examples,
        type(spec.split),
        *spec.task.code,
        *(one.build for one in spec.candidates),
    )
    return {
        "data": _digest(dict(table_digests)),
        CODE: code_digest((*TRAINING, *of_model), without=(FittedModel, type(spec.task.learner.output))),
        PARAMETERS: _digest(parameters),
        "libraries": _digest(library_versions()),
    }


def fingerprint(parts: Mapping[str, str]) -> str:
    """Combine the parts into one SHA-256, 64 hexadecimal digits."""
    return _digest(dict(parts))


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()
