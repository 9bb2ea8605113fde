"""Compiled pipelines give bit-identical scores without calling scikit-learn's steps."""

from __future__ import annotations

import logging
import pickle
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
from sklearn.decomposition import PCA
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.gaussian_process import GaussianProcessClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, QuantileTransformer, StandardScaler
from sklearn.svm import LinearSVC

from platform_assets.base.errors import ArtefactError
from platform_assets.models import fitted_model
from platform_assets.models.artefact_store import ArtefactStore
from platform_assets.models.calibration import CalibratedEstimator
from platform_assets.models.compiled_pipeline import arithmetic_of
from platform_assets.models.fitted_model import ROWS_AT_ONCE, FittedModel, library_versions
from platform_assets.models.number_estimators import NumberColumns

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

NAMES = ("amount", "age", "years", "loans")


def rows_like_loans(count: int, missing: Sequence[str] = ("amount", "years")) -> pd.DataFrame:
    """Return columns of different magnitudes. A fifth of the numbers is missing in each column named in `missing`."""
    random = np.random.default_rng(count)
    rows = pd.DataFrame(random.normal(size=(count, len(NAMES))) * [1e4, 40, 1, 1e-3], columns=list(NAMES))
    for name in missing:
        rows.loc[random.random(count) < 0.2, name] = np.nan
    return rows


def calibrated(*steps: Any, rows: pd.DataFrame | None = None) -> CalibratedEstimator:
    """Return a fitted and calibrated pipeline."""
    rows = rows_like_loans(400) if rows is None else rows
    labels = rows["age"] + rows["loans"] * 1e4 > 0
    return CalibratedEstimator(make_pipeline(NumberColumns(), *steps).fit(rows, labels), 0.7, -1.3)


def matrix_of(rows: pd.DataFrame) -> Any:
    """Return the rows as a matrix with the memory layout of `FittedModel.vectors`."""
    return np.array(rows.to_numpy().T, order="C").T


def filled(**settings: Any) -> SimpleImputer:
    return SimpleImputer(strategy="median", **settings)


class Doubling(StandardScaler):  # type: ignore[misc]  # scikit-learn has no types
    """A subclass of a supported step that gives different results."""

    def transform(self, X: Any, copy: bool | None = None) -> Any:  # noqa: N803 - scikit-learn's name
        return 2 * super().transform(X, copy)


class Sparse(LogisticRegression):  # type: ignore[misc]  # scikit-learn has no types
    """An estimator whose coefficients are a sparse matrix."""

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Any:  # noqa: N803 - scikit-learn's name
        return super().fit(X, y, sample_weight).sparsify()


KNOWN: dict[str, Callable[[], Sequence[Any]]] = {
    "the platform's own": lambda: [filled(add_indicator=True), StandardScaler(), LogisticRegression()],
    "not indicated": lambda: [filled(), StandardScaler(), LogisticRegression()],
    "mean": lambda: [SimpleImputer(add_indicator=True), StandardScaler(), LogisticRegression()],
    "not centred": lambda: [filled(), StandardScaler(with_mean=False), LogisticRegression()],
    "not scaled": lambda: [filled(), StandardScaler(with_std=False), LogisticRegression()],
    "neither": lambda: [filled(), StandardScaler(with_mean=False, with_std=False), LogisticRegression()],
    "scaled first": lambda: [StandardScaler(), filled(add_indicator=True), LogisticRegression()],
    "no intercept": lambda: [filled(), LogisticRegression(fit_intercept=False)],
    # In these pipelines, the final estimator is not compiled.
    "histograms": lambda: [filled(add_indicator=True), StandardScaler(), HistGradientBoostingClassifier(max_iter=5)],
    "forest": lambda: [filled(), StandardScaler(), RandomForestClassifier(5, random_state=0)],
    "Gaussian process": lambda: [filled(), StandardScaler(), GaussianProcessClassifier(optimizer=None)],
    "support vectors": lambda: [filled(), StandardScaler(), LinearSVC()],
    "sparse": lambda: [filled(), Sparse()],
}
OTHERS: dict[str, Callable[[], Sequence[Any]]] = {
    "constant": lambda: [SimpleImputer(strategy="constant", fill_value=-1.0), StandardScaler(), LogisticRegression()],
    "other steps": lambda: [filled(), QuantileTransformer(n_quantiles=50), PCA(2), LogisticRegression()],
    "inherits": lambda: [filled(), Doubling(), LogisticRegression()],
    "another mark": lambda: [filled(), filled(missing_values=0.0), LogisticRegression()],
    "no step": lambda: [filled(), "passthrough", LogisticRegression()],
    "frames": lambda: [filled(), StandardScaler().set_output(transform="pandas"), LogisticRegression()],
    "in place": lambda: [filled(), MinMaxScaler(copy=False), LogisticRegression()],
}


@pytest.mark.requirement("CRE-5", "SRV-1")
@pytest.mark.parametrize("count", [ROWS_AT_ONCE, 10 * ROWS_AT_ONCE, 401])
@pytest.mark.parametrize("steps", KNOWN.values(), ids=KNOWN)
def test_compiled_scores_are_bit_identical_to_those_of_the_pipeline(
    steps: Callable[[], Sequence[Any]], count: int
) -> None:
    estimator = calibrated(*steps())
    arithmetic = arithmetic_of(estimator)
    assert arithmetic
    for missing in (("amount", "years"), (), NAMES):
        matrix = matrix_of(rows_like_loans(count, missing))
        before = matrix.copy()
        expected = estimator.predict_proba(matrix)[:, 1]
        assert arithmetic(matrix).tobytes() == expected.tobytes()
        np.testing.assert_array_equal(matrix, before)


@pytest.mark.parametrize("steps", OTHERS.values(), ids=OTHERS)
@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_unsupported_steps_are_not_compiled(
    steps: Callable[[], Sequence[Any]], caplog: pytest.LogCaptureFixture
) -> None:
    estimator = calibrated(*steps())
    assert arithmetic_of(estimator) is None
    rows = rows_like_loans(ROWS_AT_ONCE)
    assert model_of(estimator).scores(rows).tolist() == estimator.predict_proba(matrix_of(rows))[:, 1].tolist()
    assert caplog.messages == []


@pytest.mark.filterwarnings("ignore:Skipping features without any observed values")
def test_a_pipeline_with_an_entirely_missing_column_is_not_compiled() -> None:
    rows = rows_like_loans(400).assign(years=np.nan)
    assert arithmetic_of(calibrated(filled(add_indicator=True), LogisticRegression(), rows=rows)) is None


@pytest.mark.parametrize("factor", [1e-30, 1e30])
def test_a_scaler_that_can_overflow_is_not_compiled(factor: float) -> None:
    """After an overflow, scikit-learn's next step rejects the infinite numbers; a compiled step would not."""
    rows = rows_like_loans(400)
    rows["amount"] *= factor
    for steps in ([StandardScaler(), filled()], [filled(), StandardScaler()]):
        assert arithmetic_of(calibrated(*steps, HistGradientBoostingClassifier(max_iter=5), rows=rows)) is None


def test_a_compiled_pipeline_calls_no_step_of_scikit_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    estimator = calibrated(*KNOWN["the platform's own"]())
    matrix = matrix_of(rows_like_loans(16))
    expected = estimator.predict_proba(matrix)[:, 1].tolist()
    arithmetic = arithmetic_of(estimator)
    assert arithmetic
    for _, step in estimator.estimator.steps:
        for name in ("transform", "decision_function", "predict_proba"):
            if hasattr(step, name):
                monkeypatch.setattr(type(step), name, None)
    assert arithmetic(matrix).tolist() == expected


def test_a_score_that_is_nan_is_refused() -> None:
    estimator = calibrated(StandardScaler(), LogisticRegression(), rows=rows_like_loans(400, ()))
    arithmetic = arithmetic_of(estimator)
    assert arithmetic
    with pytest.raises(ValueError, match="a score is NaN or infinite"):
        arithmetic(matrix_of(rows_like_loans(16)))


@pytest.mark.parametrize(
    "estimator",
    [
        LogisticRegression(),
        make_pipeline(StandardScaler(), LogisticRegression()),
        CalibratedEstimator(LogisticRegression(), 1.0, 0.0),
    ],
)
def test_estimators_other_than_calibrated_pipelines_are_not_compiled(estimator: Any) -> None:
    assert arithmetic_of(estimator) is None


# Compiled pipelines in fitted models


def model_of(estimator: CalibratedEstimator) -> FittedModel:
    golden = rows_like_loans(100)
    scores = estimator.predict_proba(golden)[:, 1]
    return FittedModel(estimator, NAMES, golden, scores, library_versions())


@pytest.mark.requirement("SRV-1")
def test_a_loaded_model_scores_without_calling_its_pipeline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = ArtefactStore(str(tmp_path))
    model = store.load(store.save(model_of(calibrated(*KNOWN["the platform's own"]()))))
    rows = rows_like_loans(7)
    expected = model.estimator.predict_proba(rows)[:, 1]
    monkeypatch.setattr(CalibratedEstimator, "predict_proba", None)
    np.testing.assert_allclose(model.scores(rows), expected, rtol=1e-12)


def test_a_compiled_pipeline_with_different_scores_is_not_used(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Simulates an update of scikit-learn that changes the results of a step."""
    monkeypatch.setattr(
        "platform_assets.models.compiled_pipeline._scaled", lambda matrix, mean, scale: (matrix - mean) * scale
    )
    model = model_of(calibrated(*KNOWN["the platform's own"]()))
    with caplog.at_level(logging.WARNING, fitted_model.__name__):
        assert model.scores(model.golden_rows).tolist() == pytest.approx(model.golden_scores, rel=1e-12)
    [told] = caplog.messages
    assert told.startswith("the compiled pipeline gives different scores than scikit-learn ")
    assert told.endswith("; using scikit-learn, which is slower")


@pytest.mark.parametrize("strange", [np.inf, -1e308])
@pytest.mark.filterwarnings("ignore:overflow encountered")
def test_infinite_values_raise_the_error_of_the_original_pipeline(strange: float) -> None:
    model = model_of(calibrated(*KNOWN["the platform's own"]()))
    rows = rows_like_loans(3) * 1e-3
    assert np.isfinite(model.scores(rows)).all()
    rows.loc[1, "loans"] = strange
    with pytest.raises(ArtefactError, match="the model cannot score these rows: ValueError: Input X contains infinity"):
        model.scores(rows)


def test_a_missing_number_without_an_imputer_raises_the_error_of_the_original_pipeline() -> None:
    estimator = calibrated(StandardScaler(), LogisticRegression(), rows=rows_like_loans(400, ()))
    for missing in ((), NAMES):
        model = FittedModel(estimator, NAMES, rows_like_loans(100, missing), np.zeros(100), library_versions())
        with pytest.raises(ArtefactError, match="ValueError: Input X contains NaN. LogisticRegression does not accept"):
            model.scores(rows_like_loans(3, NAMES))
        assert np.isfinite(model.scores(rows_like_loans(3, ()))).all()


def test_a_model_can_be_pickled_after_scoring() -> None:
    model = model_of(calibrated(*KNOWN["the platform's own"]()))
    rows = rows_like_loans(3)
    scores = model.scores(rows).tolist()
    assert pickle.loads(pickle.dumps(model)).scores(rows).tolist() == scores
