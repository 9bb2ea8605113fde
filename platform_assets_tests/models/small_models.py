"""Small fitted models, and sample rows with columns of every supported type."""

from __future__ import annotations

import dataclasses
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from sklearn.compose import ColumnTransformer
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import ComplementNB
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from platform_assets.models.fitted_model import GOLDEN_ROWS, FittedModel, library_versions

if TYPE_CHECKING:
    from collections.abc import Sequence

NUMBERS = ("amount", "age")
ABSENT = "0" * 64
"""A digest for which no artefact exists."""


@cache
def training_rows() -> pd.DataFrame:
    """Return 300 rows with columns of every supported type, including nulls."""
    random = np.random.default_rng(7)
    amount = random.normal(size=300)
    rows = pd.DataFrame(
        {
            "amount": amount,
            "age": random.normal(size=300),
            "children": pd.array(random.integers(0, 5, 300), dtype="Int64"),
            "house": random.choice(np.array(["own", "rent", None], dtype=object), 300),
            "has_car": amount + random.normal(size=300) > 0,
            "words": random.choice(["late payment", "new client", "late client"], 300),
        }
    )
    rows["income"] = rows["amount"].mask(rows.index % 7 == 0)
    rows.loc[::11, "children"] = pd.NA
    return rows


def labels() -> np.ndarray[Any, Any]:
    """Return a label for each row."""
    return (training_rows()["amount"] + training_rows()["has_car"] > 0.5).to_numpy()


def fitted(estimator: Any, features: Sequence[str] = NUMBERS) -> FittedModel:
    """Fit the estimator, and return a model with golden rows and their scores."""
    rows = training_rows()[list(features)]
    estimator.fit(rows, labels())
    golden = rows.head(GOLDEN_ROWS)
    model = FittedModel(estimator, tuple(features), golden, np.zeros(len(golden)), library_versions())
    return dataclasses.replace(model, golden_scores=model.scores(golden))


@cache
def a_model() -> FittedModel:
    """Return a fitted logistic regression with two numeric features."""
    return fitted(LogisticRegression())


def mixed() -> Any:
    """Return a pipeline for columns of every type."""
    numbers = make_pipeline(SimpleImputer(add_indicator=True), StandardScaler())
    columns = ColumnTransformer(
        [
            ("numbers", numbers, ["income", "children"]),
            ("names", OneHotEncoder(handle_unknown="ignore"), ["house"]),
            ("rest", "passthrough", ["has_car"]),
        ]
    )
    return make_pipeline(columns, LogisticRegression())


def text() -> Any:
    """Return a pipeline for one text column."""
    words = FeatureUnion(
        [("words", TfidfVectorizer(ngram_range=(1, 2))), ("parts", TfidfVectorizer(analyzer="char_wb"))]
    )
    return make_pipeline(ColumnTransformer([("text", words, "words")]), ComplementNB())
