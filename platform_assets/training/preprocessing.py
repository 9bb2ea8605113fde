"""scikit-learn pipelines that domains share: what is done to rows before an estimator sees them.

Stored models, compiled pipelines and search spaces (`model__C`) rely on the names of the steps.
"""

from __future__ import annotations

from typing import Any


def tabular_pipeline(estimator: Any) -> Any:
    """Return a pipeline for columns of numbers: fill missing ones, scale, then the estimator.

    The median replaces a missing number. A further column says that it was missing, because that can tell something.
    """
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import StandardScaler

    from platform_assets.models.number_estimators import NumberColumns

    filled = SimpleImputer(strategy="median", add_indicator=True)
    return Pipeline([("numbers", NumberColumns()), ("fill", filled), ("scale", StandardScaler()), ("model", estimator)])


def text_pipeline(features: Any, estimator: Any) -> Any:
    """Return a pipeline for one column of text: clean it, turn it into features, then the estimator.

    Cleaning is part of the model, so callers send texts as people wrote them.
    """
    from sklearn.pipeline import Pipeline

    from platform_assets.models.text_estimators import TextCleaner

    return Pipeline([("clean", TextCleaner()), ("features", features), ("model", estimator)])
