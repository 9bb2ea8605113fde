"""The sigmoid gives the same probabilities as scikit-learn's logistic regression."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from platform_assets.models.calibration import CalibratedEstimator, raw_scores, sigmoid
from platform_assets.models.number_estimators import NumberColumns

ONE_ROW = pd.DataFrame({"heat": [1.0]})


def test_the_sigmoid_equals_a_logistic_regression() -> None:
    random = np.random.default_rng(1)
    scores = random.normal(size=500)
    labels = random.random(500) < 1 / (1 + np.exp(1 - 2 * scores))
    line = LogisticRegression(C=np.inf).fit(scores[:, None], labels)
    found = sigmoid(scores, float(line.coef_[0, 0]), float(line.intercept_[0]))
    np.testing.assert_allclose(found, line.predict_proba(scores[:, None])[:, 1], rtol=1e-14)


def test_raw_scores_are_the_decision_function_or_else_the_probability_of_the_positive_class() -> None:
    rows, labels = pd.DataFrame({"x": [0.0, 1.0, 2.0]}), [0, 0, 1]
    linear, prior = LogisticRegression().fit(rows, labels), DummyClassifier(strategy="prior").fit(rows, labels)
    assert raw_scores(linear, rows).tolist() == linear.decision_function(rows).tolist()
    assert raw_scores(prior, rows).tolist() == [1 / 3] * 3


@pytest.mark.parametrize(("score", "probability"), [(-1e9, 0.0), (0.0, 0.5), (1e9, 1.0)])
def test_large_scores_do_not_overflow(score: float, probability: float) -> None:
    assert sigmoid(np.array([score]), 1.0, 0.0).tolist() == [probability]


def test_probabilities_sum_to_1_and_increase_with_the_score() -> None:
    rows, labels = pd.DataFrame({"heat": [0.0, 1.0, 2.0, 3.0]}), [0, 0, 1, 1]
    named = LogisticRegression().fit(rows, labels)
    calibrated = CalibratedEstimator(named, 2.0, -1.0)
    assert calibrated.classes_.tolist() == [0, 1]
    np.testing.assert_allclose(calibrated.predict_proba(rows).sum(axis=1), 1.0)
    assert (np.diff(calibrated.predict_proba(rows)[:, 1]) > 0).all()


@pytest.mark.parametrize("strange", [np.nan, np.inf])
def test_a_score_that_is_not_finite_is_refused(strange: float) -> None:
    estimator = LogisticRegression().fit(pd.DataFrame({"heat": [0.0, 1.0]}), [0, 1])
    estimator.coef_ = np.array([[strange]])
    with pytest.raises(ValueError, match="a score is NaN or infinite"):
        CalibratedEstimator(estimator, 1.0, 0.0).predict_proba(ONE_ROW)


def test_probabilities_are_float64() -> None:
    class Single(LogisticRegression):  # type: ignore[misc]  # scikit-learn has no types
        def decision_function(self, rows: Any) -> Any:
            return super().decision_function(rows).astype(np.float32)

    estimator = Single().fit(pd.DataFrame({"heat": [0.0, 1.0]}), [0, 1])
    assert CalibratedEstimator(estimator, 1.0, 0.0).predict_proba(ONE_ROW).dtype == np.float64


@pytest.mark.parametrize("line", [LogisticRegression(C=np.inf), DummyClassifier(strategy="prior")])
def test_an_old_artefact_that_stores_its_sigmoid_as_an_estimator_keeps_its_probabilities(line: Any) -> None:
    random = np.random.default_rng(1)
    rows = pd.DataFrame({"heat": random.normal(size=200)})
    labels = random.random(200) < sigmoid(rows["heat"].to_numpy(), 2.0, -1.0)
    estimator = LogisticRegression().fit(rows, labels)
    scores = estimator.decision_function(rows)
    line.fit(scores[:, None], labels)
    before = CalibratedEstimator.__new__(CalibratedEstimator)
    before.__setstate__({"estimator": estimator, "sigmoid": line})
    expected = line.predict_proba(scores[:, None])
    np.testing.assert_allclose(before.predict_proba(rows), expected, rtol=1e-13)
    assert set(vars(before)) == {"estimator", "slope", "intercept"}


def test_feature_names_are_those_of_the_estimator() -> None:
    rows, labels = pd.DataFrame({"heat": [0.0, 1.0]}), [0, 1]
    named = CalibratedEstimator(LogisticRegression().fit(rows, labels), 1.0, 0.0)
    bound = CalibratedEstimator(make_pipeline(NumberColumns(), LogisticRegression()).fit(rows, labels), 1.0, 0.0)
    assert named.feature_names_in_.tolist() == ["heat"]
    assert not hasattr(bound, "feature_names_in_")
