"""A classifier that is fitted on a limited number of rows."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.tree import DecisionTreeClassifier

from platform_assets.models.row_limit import LimitedRows


def rows_of(count: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(count)
    rows = random.normal(size=(count, 2))
    return rows, (rows[:, 0] + random.normal(size=count) > 1).astype(int)


@pytest.mark.requirement("SEN-3")
def test_up_to_the_limit_the_estimator_is_fitted_on_all_rows() -> None:
    rows, labels = rows_of(200)
    limited = LimitedRows(LogisticRegression(), 200).fit(rows, labels)
    alone = LogisticRegression().fit(rows, labels)
    assert np.array_equal(limited.predict_proba(rows), alone.predict_proba(rows))
    assert np.array_equal(limited.decision_function(rows), alone.decision_function(rows))
    assert limited.classes_.tolist() == [0, 1]


@pytest.mark.requirement("SEN-3", "PLT-7")
def test_above_the_limit_a_seeded_sample_with_the_same_class_shares_is_used() -> None:
    rows, labels = rows_of(5_000)
    # The root node of the tree stores how many rows of each class the tree was fitted on.
    one = LimitedRows(DecisionTreeClassifier(random_state=1), 300, random_state=1).fit(rows, labels)
    counts = one.estimator_.tree_.value[0, 0] * one.estimator_.tree_.n_node_samples[0]
    assert counts.sum() == pytest.approx(300)
    assert counts[1] / 300 == pytest.approx(labels.mean(), abs=0.005)
    again = clone(one).fit(rows, labels)
    other = clone(one).set_params(random_state=2).fit(rows, labels)
    assert np.array_equal(again.predict_proba(rows), one.predict_proba(rows))
    assert not np.array_equal(other.predict_proba(rows), one.predict_proba(rows))


def test_the_decision_function_exists_only_if_the_estimator_has_one() -> None:
    assert not hasattr(LimitedRows(DecisionTreeClassifier(), 10), "decision_function")
