"""Shared pipelines: how they transform rows, and how their steps are named."""

from __future__ import annotations

import numpy as np
import pandas as pd
from sklearn.dummy import DummyClassifier
from sklearn.feature_extraction.text import CountVectorizer

from platform_assets.training.preprocessing import tabular_pipeline, text_pipeline


def test_tabular_pipeline_imputes_and_scales_values_and_adds_indicators() -> None:
    estimator = DummyClassifier()
    pipeline = tabular_pipeline(estimator)
    assert list(pipeline.named_steps) == ["numbers", "fill", "scale", "model"]
    assert pipeline.named_steps["model"] is estimator
    rows = pd.DataFrame({"age": [20, 40, 60], "years": [1.0, None, 5.0]})
    pipeline.fit(rows, [0, 1, 0])
    # The missing value becomes the median of 1 and 5. The last column is the indicator of missing values.
    expected = np.column_stack((_scaled(20, 40, 60), _scaled(1, 3, 5), _scaled(0, 1, 0)))
    assert np.allclose(pipeline[:-1].transform(rows), expected)


def test_text_pipeline_cleans_texts_before_extracting_features() -> None:
    estimator, features = DummyClassifier(), CountVectorizer()
    pipeline = text_pipeline(features, estimator)
    assert list(pipeline.named_steps) == ["clean", "features", "model"]
    assert pipeline.named_steps["features"] is features
    assert pipeline.named_steps["model"] is estimator
    pipeline.fit(pd.DataFrame({"text": ["FIRE http://t.co/x1", "no fire @you"]}), [1, 0])
    assert set(features.vocabulary_) == {"fire", "no"}


def _scaled(*values: float) -> list[float]:
    numbers = np.array(values)
    return list((numbers - numbers.mean()) / numbers.std())
