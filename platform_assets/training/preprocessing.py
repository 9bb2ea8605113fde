"""scikit-learn pipelines shared by domains.

Do not rename their steps: stored models, compiled pipelines and search spaces (`model__C`) refer to them by name.
"""

from __future__ import annotations

from typing import Any


def tabular_pipeline(estimator: Any) -> Any:
    """Return a pipeline for numeric columns: impute, scale, then the estimator.

    Missing values are replaced by the median. An indicator column is added, because missingness can be informative.
    """
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import StandardScaler

    from platform_assets.models.number_estimators import NumberColumns

    filled = SimpleImputer(strategy="median", add_indicator=True)
    return Pipeline([("numbers", NumberColumns()), ("fill", filled), ("scale", StandardScaler()), ("model", estimator)])


def text_pipeline(features: Any, estimator: Any) -> Any:
    """Return a pipeline for one text column: clean, extract features, then the estimator.

    The model cleans texts itself, so callers pass raw texts.
    """
    from sklearn.pipeline import Pipeline

    from platform_assets.models.text_estimators import TextCleaner

    return Pipeline([("clean", TextCleaner()), ("features", features), ("model", estimator)])
