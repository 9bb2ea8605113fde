"""Save a copy of a model for MLflow's tools. The platform does not load this copy; it loads the model's artefact."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

from platform_assets.models.trusted_types import TRUSTED_TYPES

if TYPE_CHECKING:
    from pathlib import Path

    from platform_assets.base.frames import Frame
    from platform_assets.models.fitted_model import FittedModel

MODEL = "model"
"""Name of the folder for the copy in a run's artifacts."""
_EXAMPLES = 5
"""Number of rows in the input example."""


def save_copy(model: FittedModel, folder: Path, run_id: str) -> None:
    """Write a model in MLflow's format.

    The copy of a classifier predicts the probabilities of both classes; the copy of a regressor predicts the values.
    """
    from mlflow import sklearn
    from mlflow.models import Model, infer_signature

    rows = _plain(model.golden_rows[list(model.features)])
    with warnings.catch_warnings():
        # Ignore MLflow's warnings about integer columns, and pandas' warnings about how MLflow uses it.
        warnings.simplefilter("ignore")
        sklearn.save_model(
            model.estimator,
            folder,
            mlflow_model=Model(artifact_path=MODEL, run_id=run_id),
            serialization_format=sklearn.SERIALIZATION_FORMAT_SKOPS,
            skops_trusted_types=list(TRUSTED_TYPES),
            signature=infer_signature(rows, getattr(model.estimator, model.output.method)(rows)),
            input_example=rows.head(_EXAMPLES),
            # Without this list, MLflow would spend 5 s loading the model in another process to find its imports.
            pip_requirements=[f"{name}=={number}" for name, number in model.libraries.items() if name != "python"],
            pyfunc_predict_fn=model.output.method,
        )


def _plain(rows: Frame) -> Frame:
    """Convert nullable numbers to floats, because MLflow has no nullable types."""
    import numpy as np

    masked = {
        name: rows[name].to_numpy(dtype=np.float64, na_value=np.nan)
        for name in rows.columns
        if hasattr(rows[name].dtype, "numpy_dtype")
    }
    return rows.assign(**masked)
