"""MLflow's copy of a fitted model, which MLflow's own tools load; the platform loads its own file."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

from platform_assets.models.trusted_types import TRUSTED_TYPES

if TYPE_CHECKING:
    from pathlib import Path

    from platform_assets.base.frames import Frame
    from platform_assets.models.fitted_model import FittedModel

MODEL = "model"
"""Folder of a run's artifacts with MLflow's copy of the model."""
_EXAMPLES = 5


def save_copy(model: FittedModel, folder: Path, run_id: str) -> None:
    """Write the model as MLflow's tools load it; it answers both classes' probabilities."""
    from mlflow import sklearn
    from mlflow.models import Model, infer_signature

    rows = _plain(model.golden_rows[list(model.features)])
    with warnings.catch_warnings():
        # Whole numbers without nulls, and MLflow's own use of pandas.
        warnings.simplefilter("ignore")
        sklearn.save_model(
            model.estimator,
            folder,
            mlflow_model=Model(artifact_path=MODEL, run_id=run_id),
            serialization_format=sklearn.SERIALIZATION_FORMAT_SKOPS,
            skops_trusted_types=list(TRUSTED_TYPES),
            signature=infer_signature(rows, model.estimator.predict_proba(rows)),
            input_example=rows.head(_EXAMPLES),
            # Without, MLflow would load the model in a process of its own to see what it imports, for 5 s.
            pip_requirements=[f"{name}=={number}" for name, number in model.libraries.items() if name != "python"],
            pyfunc_predict_fn="predict_proba",
        )


def _plain(rows: Frame) -> Frame:
    """The rows with numbers that may be null as floats, for MLflow's own types know no others."""
    import numpy as np

    masked = {
        name: rows[name].to_numpy(dtype=np.float64, na_value=np.nan)
        for name in rows.columns
        if hasattr(rows[name].dtype, "numpy_dtype")
    }
    return rows.assign(**masked)
