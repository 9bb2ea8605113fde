"""Builders of a small model and of its registrations, for tests."""

from __future__ import annotations

import dataclasses
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
from sklearn.ensemble import RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline

from platform_assets.models.fitted_model import FittedModel, library_versions
from platform_assets.models.registry import Registration

NAME = "credit_risk_model"
PNG = b"\x89PNG\r\n\x1a\n and so on"


@cache
def small_model() -> FittedModel:
    """Return a random forest of five trees, fitted on a column of floats and a column of nullable integers."""
    random = np.random.default_rng(3)
    rows = pd.DataFrame({"amount": random.normal(size=60), "children": pd.array([None, 1, 2] * 20, dtype="Int64")})
    estimator = make_pipeline(SimpleImputer(), RandomForestClassifier(5, random_state=0))
    estimator.fit(rows, rows["amount"] > 0)
    model = FittedModel(estimator, ("amount", "children"), rows.head(20), np.zeros(20), library_versions())
    return dataclasses.replace(model, golden_scores=model.scores(model.golden_rows))


def registration(fingerprint: str = "print-1", **others: Any) -> Registration:
    """Return a registration with non-trivial values in all fields; keyword arguments replace them."""
    fields: dict[str, Any] = {
        "name": NAME,
        "fingerprint": fingerprint,
        "digest": "d" * 64,
        "threshold": 0.1 + 0.2,
        "tables": {"credit_risk/loans": 3, "credit_risk/loan_features": 0},
        "table_digests": {"credit_risk/loans": "12:34", "credit_risk/loan_features": "56:78"},
        "metrics": {"roc_auc": 0.1 + 0.7, "roc_auc_low": 0.75, "roc_auc_high": float("nan"), "worst": float("inf")},
        "parameters": {"model": "forest", "trees": 5, "depth": 2.5},
        "tags": {"git_commit": "abc123", "launched_by": "Zoë O'Neill", "empty": ""},
        "record": {"verdict": {"passed": True, "reasons": ["better, by 0.01"]}, "counts": [1, 2.5, None]},
        "plots": {"roc.png": PNG},
        "model": small_model(),
    }
    return Registration(**{**fields, **others})
