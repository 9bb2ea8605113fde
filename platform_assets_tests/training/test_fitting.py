"""Fitting: calibration, threads, and cross-validation with shared preprocessing."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from platform_assets.base.errors import TrainingError
from platform_assets.models.fitted_model import GOLDEN_ROWS
from platform_assets.training.binary_classification import REFERENCE
from platform_assets.training.fitting import feature_frame, fit, labels_of
from platform_assets.training.model_spec import Candidate
from platform_assets_tests.training.breakage_model import ONE_CANDIDATE, SPEC, forest, linear, readings

if TYPE_CHECKING:
    from platform_assets_tests.training.bench import Bench

FITTED: list[float] = []
"""Value of `fill` in each fit of `Counted`, in order."""


class Counted(TransformerMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Replaces missing values with a number, and records each fit in `FITTED`."""

    def __init__(self, fill: float = 0.0) -> None:
        self.fill = fill

    def fit(self, _rows: Any, _labels: Any = None) -> Counted:
        FITTED.append(self.fill)
        return self

    def transform(self, rows: Any) -> Any:
        return rows.fillna(self.fill)

    def __sklearn_is_fitted__(self) -> bool:
        return True


class InPlace(LogisticRegression):  # type: ignore[misc]  # scikit-learn has no types
    """Modifies its training rows in place after fitting."""

    def fit(self, rows: Any, labels: Any, sample_weight: Any = None) -> InPlace:
        super().fit(rows, labels, sample_weight)
        rows *= 1000
        return self


def logistic(seed: int) -> Any:
    return make_pipeline(Counted(), StandardScaler(), LogisticRegression(random_state=seed))


def bayes(_seed: int) -> Any:
    return make_pipeline(Counted(), StandardScaler(), GaussianNB())


def in_place(seed: int) -> Any:
    return make_pipeline(Counted(), StandardScaler(), InPlace(random_state=seed))


def not_comparable(_seed: int) -> Any:
    return make_pipeline(Counted(), FunctionTransformer(lambda rows: rows * 2), GaussianNB())


@pytest.mark.requirement("PRO-1")
def test_scores_equal_those_of_cross_validating_whole_pipelines() -> None:
    spec = replace(
        SPEC,
        candidates=(
            Candidate("in place", in_place),
            Candidate("logistic", logistic, {"counted__fill": (0.0, 5.0), "logisticregression__C": (0.001, 1.0)}),
            Candidate("bayes", bayes),
            Candidate("linear", linear),
            # This estimator is not a pipeline.
            Candidate("forest", forest),
        ),
    )
    examples = readings().sort_values("day", ignore_index=True)
    start, told = time.monotonic(), list[str]()
    fitted = fit(spec, examples, told.append)
    assert 0 < sum(line.seconds for line in fitted.leaderboard) < time.monotonic() - start
    assert told[1].startswith("2 of 8: logistic (counted__fill=0.0, logisticregression__C=0.001): roc_auc 0.")
    rows, labels = feature_frame(examples, spec), examples["broken"].to_numpy()
    parts = spec.split.folds(examples, labels_of(spec, examples), spec.folds)
    for line in fitted.leaderboard:
        if line.candidate == REFERENCE:
            continue
        [candidate] = [one for one in spec.candidates if one.name == line.candidate]
        pipeline = candidate.build(spec.seed).set_params(**{name: float(v) for name, v in line.parameters.items()})
        alone = cross_val_score(pipeline, rows, labels, scoring="roc_auc", cv=parts)
        assert (line.mean, line.deviation) == (np.mean(alone), np.std(alone))
    assert len(fitted.leaderboard) == 9
    golden = fitted.model.golden_rows
    assert golden.index.tolist() == list(range(GOLDEN_ROWS))
    assert golden.iloc[[0, -1]].to_numpy().tolist() == rows.iloc[[0, -1]].to_numpy().tolist()
    assert list(golden.columns) == ["heat", "noise"]
    assert fitted.model.training_ranges == {name: (rows[name].min(), rows[name].max()) for name in ("heat", "noise")}
    assert len(set(fitted.model.estimator.predict_proba(rows)[:, 1])) > len(rows) / 2


def test_transformers_that_cannot_be_hashed_are_not_shared() -> None:
    FITTED.clear()
    fit(
        replace(SPEC, candidates=(Candidate("one", not_comparable), Candidate("two", not_comparable))),
        readings(),
        print,
    )
    assert len(FITTED) == 2 * SPEC.folds + 1


def test_shared_transformers_are_fitted_once_per_fold() -> None:
    grid = {"counted__fill": (0.0, 5.0), "logisticregression__C": (0.001, 1.0)}
    spec = replace(
        SPEC,
        candidates=(Candidate("bayes", bayes), Candidate("logistic", logistic, grid)),
    )
    FITTED.clear()
    fitted = fit(spec, readings(), lambda _: None)
    final = 5.0 if fitted.best.parameters.get("counted__fill") == "5.0" else 0.0
    expected = [*[0.0] * spec.folds, *[5.0] * spec.folds, final]
    assert expected == FITTED


@pytest.mark.parametrize("factor", [-1, -3])
def test_the_base_rate_is_predicted_if_the_calibration_slope_is_negative(bench: Bench, factor: float) -> None:
    """The effect of `heat` is reversed in the newest examples."""
    frame = readings(2_000, signal=2.0)
    newest = frame["day"] >= frame["day"].quantile(0.6)
    frame["heat"] = np.where(newest, factor * frame["heat"], frame["heat"])
    fitted = fit(ONE_CANDIDATE, frame, bench.lines.append)
    scores = fitted.model.scores(frame)
    assert len(set(scores)) == 1
    assert fitted.threshold == scores[0]
    assert any("predicting the base rate for every row" in line for line in bench.lines)


def test_training_and_test_examples_of_each_fold_need_both_classes() -> None:
    labels, mixed, one_class = np.array([0, 1, 0, 1, 1]), np.array([0, 1, 2]), np.array([1, 3, 4])
    learner = SPEC.task.learner
    learner.demand_fittable(labels, [(mixed, np.array([0, 3, 4]))])
    for fold in ((mixed, one_class), (one_class, mixed), (mixed, np.array([0, 2]))):
        with pytest.raises(TrainingError, match="each fold needs both classes"):
            learner.demand_fittable(labels, [fold])


def test_fitting_uses_one_thread() -> None:
    from threadpoolctl import threadpool_info, threadpool_limits

    seen: list[int] = []

    def counting(seed: int) -> Any:
        seen.extend(pool["num_threads"] for pool in threadpool_info())
        return linear(seed)

    frame = readings()
    with threadpool_limits(2):
        fit(replace(SPEC, candidates=(Candidate("linear", counting),)), frame, lambda _: None)
    assert seen
    assert set(seen) == {1}
