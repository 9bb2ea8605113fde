"""The score of a row is bit-identical whether the row comes from a table or a request. Scoring uses one thread."""

from __future__ import annotations

import dataclasses
import timeit
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
import sklearn
from sklearn.ensemble import (
    RandomForestClassifier,
)
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from platform_assets.base.errors import ArtefactError
from platform_assets.models.fitted_model import FittedModel, library_versions
from platform_assets.models.number_estimators import NumberColumns
from platform_assets.serving.live_models import LiveModel
from platform_assets_tests.models.small_models import (
    ABSENT,
    NUMBERS,
    a_model,
    fitted,
    labels,
    mixed,
    text,
    training_rows,
)

if TYPE_CHECKING:
    from collections.abc import Callable


def test_rows_that_cannot_be_scored_raise_an_error() -> None:
    model = fitted(text(), ["words"])
    for words in (None, float("nan")):
        with pytest.raises(ArtefactError, match="the model cannot score these rows"):
            model.scores(pd.DataFrame({"words": ["a", words]}))
    with pytest.raises(ArtefactError, match="a value does not fit its feature's type"):
        a_model().scores(pd.DataFrame({"amount": ["much"], "age": [1]}))


class Counting(LogisticRegression):  # type: ignore[misc]
    """Stores its input frame as `asked_`, and then modifies the frame in place."""

    feature_names_in_ = np.array(NUMBERS)

    def predict_proba(self, X: pd.DataFrame) -> Any:  # noqa: N803 - scikit-learn's name
        self.asked_ = X
        X.iloc[0, 0] = 99.0
        return np.column_stack([X["amount"], X["age"]])


def test_columns_are_matched_by_name() -> None:
    rows = training_rows()
    expected = a_model().scores(rows)
    turned = rows[["age", "words", "amount"]]
    np.testing.assert_array_equal(a_model().scores(turned), expected)
    assert expected.dtype == np.float64
    assert expected.shape == (300,)


def test_the_error_for_a_missing_column_names_the_column() -> None:
    with pytest.raises(ArtefactError, match=r"the columns \['age'\] are missing; the model needs \['amount', 'age'\]"):
        a_model().scores(training_rows()[["amount", "words"]])


def linear_steps() -> list[Any]:
    return [SimpleImputer(add_indicator=True), StandardScaler(), LogisticRegression()]


@cache
def model_of(kind: str) -> FittedModel:
    if kind == "numbers":
        numbers = make_pipeline(*linear_steps())
        return fitted(numbers, ("income", "amount", "age"))
    if kind == "matrix":
        return fitted(make_pipeline(NumberColumns(), *linear_steps()), ("income", "amount", "age"))
    return fitted(text(), ("words",)) if kind == "text" else fitted(mixed(), ("income", "children", "house", "has_car"))


@pytest.mark.requirement("CRE-5")
@pytest.mark.parametrize("kind", ["numbers", "matrix", "text", "mixed"])
@pytest.mark.parametrize("count", [1, 2, 7, 300])
def test_mappings_and_frames_give_bit_identical_vectors_and_scores(kind: str, count: int) -> None:
    model = model_of(kind)
    table = training_rows().head(count)
    plain = table.astype(object).where(table.notna(), None)
    rows = [dict(row) for _, row in plain.iterrows()]
    of_table, of_rows = model.vectors(table), model.vectors(rows)
    assert type(of_table) is type(of_rows) is (np.ndarray if kind == "matrix" else pd.DataFrame)
    pd.testing.assert_frame_equal(pd.DataFrame(of_table), pd.DataFrame(of_rows), check_exact=True)
    assert np.asarray(of_rows).flags.f_contiguous == np.asarray(of_table).flags.f_contiguous
    assert model.scores(rows).tobytes() == model.scores(table).tobytes()


def test_mappings_may_contain_any_type_of_number() -> None:
    model = model_of("numbers")
    forms = [1, 1.0, True, np.int8(1), np.float32(1)]
    rows = [{"income": None, "amount": one, "age": 2**53 + 1, "more": "ignored"} for one in forms]
    vectors = model.vectors(rows)
    assert isinstance(vectors, pd.DataFrame)
    assert vectors.to_numpy().tolist() == [[pytest.approx(float("nan"), nan_ok=True), 1.0, 2.0**53]] * 5
    assert list(vectors.columns) == ["income", "amount", "age"]


def test_the_transformer_number_columns_does_not_change_the_scores() -> None:
    rows = training_rows()
    assert model_of("matrix").scores(rows).tolist() == model_of("numbers").scores(rows).tolist()
    turned = rows[["age", "amount", "income"]]
    assert model_of("matrix").scores(turned).tolist() == model_of("numbers").scores(rows).tolist()


@pytest.mark.parametrize("kind", ["numbers", "matrix", "mixed"])
def test_the_error_for_a_row_that_lacks_a_feature_says_which_one(kind: str) -> None:
    whole = {"income": 1.0, "amount": 1.0, "age": 1.0, "children": 1, "house": "own", "has_car": True}
    without = {name: value for name, value in whole.items() if name != "income"}
    with pytest.raises(ArtefactError, match=r"the columns \['income'\] are missing; the model needs \['income', "):
        model_of(kind).scores([whole, without])


@pytest.mark.parametrize("strange", ["much", 10**400, pd.NA, [1.0], {}, b"x", float("inf"), pd.Timestamp(0), 1j])
def test_a_value_that_is_not_a_number_is_refused(strange: Any) -> None:
    with pytest.raises(ArtefactError, match=r"a value does not fit its feature's type|cannot score these rows"):
        a_model().scores([{"amount": strange, "age": 1.0}])


def test_preparing_a_single_row_is_faster_than_scoring_it() -> None:
    model = model_of("numbers")
    row = {"income": 1.0, "amount": None, "age": 3}

    def seconds(work: Callable[[], object]) -> float:
        return min(timeit.repeat(work, number=5, repeat=20))

    assert seconds(lambda: model.vectors([row])) < seconds(lambda: model.estimator.predict_proba(model.golden_rows)) / 4


def test_an_estimator_that_changes_its_input_does_not_change_the_callers_frame() -> None:
    rows = training_rows().head(3).copy()
    before = rows.copy()
    model = dataclasses.replace(a_model(), estimator=Counting())
    assert model.scores(rows).tolist() == rows["age"].tolist()
    assert list(model.estimator.asked_.columns) == ["amount", "age"]
    pd.testing.assert_frame_equal(rows, before)


class Looking:
    """An estimator whose scores are 1 if scikit-learn checks for missing and infinite numbers, else 0."""

    def predict_proba(self, X: Any) -> Any:  # noqa: N803 - scikit-learn's name
        return np.full((len(X), 2), float(not sklearn.get_config()["assume_finite"]))


@pytest.mark.parametrize(("amount", "looks"), [(1.0, 0.0), (None, 1.0), (float("inf"), 1.0), (1e39, 1.0)])
def test_scikit_learn_checks_for_infinity_only_if_numbers_are_missing_or_very_large(
    amount: float | None, looks: float
) -> None:
    model = dataclasses.replace(a_model(), estimator=Looking())
    assert model.scores([{"amount": amount, "age": 2.0}]).tolist() == [looks]
    assert not sklearn.get_config()["assume_finite"]


@pytest.mark.filterwarnings("ignore:overflow encountered in cast")
@pytest.mark.parametrize("strange", [1e39, -1e39])
def test_a_row_that_overflows_in_a_step_is_refused_alone_and_together_with_another_row(strange: float) -> None:
    rows = training_rows()[list(NUMBERS)]
    forest = make_pipeline(NumberColumns(), RandomForestClassifier(5, random_state=0)).fit(rows, labels())
    model = dataclasses.replace(a_model(), estimator=forest)
    for others in ([], [{"amount": None, "age": 1.0}]):
        with pytest.raises(ArtefactError, match="the model cannot score these rows: ValueError"):
            model.scores([{"amount": strange, "age": 2.0}, *others])


def test_features_in_another_order_than_during_fitting_are_refused() -> None:
    learned = make_pipeline(NumberColumns(), LogisticRegression()).fit(training_rows()[["amount", "age"]], labels())
    model = FittedModel(learned, ("age", "amount"), training_rows()[["age", "amount"]], np.zeros(300), {})
    with pytest.raises(ArtefactError, match=r"the columns must be \['amount', 'age'\], in this order"):
        model.scores([{"amount": 1.0, "age": 2.0}])


class Threads:
    """An estimator whose scores are OpenMP's thread limit in the calling thread.

    BLAS is not measured, because its limit applies to the whole process.
    """

    def predict_proba(self, X: pd.DataFrame) -> Any:  # noqa: N803 - scikit-learn's name
        import threadpoolctl

        of_openmp = [pool["num_threads"] for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "openmp"]
        return np.full((len(X), 2), max(of_openmp))


def test_scoring_uses_one_thread() -> None:
    model = dataclasses.replace(a_model(), estimator=Threads())
    with threadpool_limits(2):
        assert model.scores(training_rows().head(1)).tolist() == [1]


def test_serving_threads_use_one_thread_each() -> None:
    model = dataclasses.replace(a_model(), estimator=Threads())
    live = LiveModel("risk", 1, ABSENT, 0.5, 1, {}, demo=True, model=model, loaded_at=datetime.now(UTC))
    with threadpool_limits(2), ThreadPoolExecutor(1) as threads:
        assert threads.submit(live.scores, [{"amount": 1.0, "age": 2.0}]).result().tolist() == [1]


@pytest.mark.requirement("CRE-5")
@pytest.mark.parametrize("size", [1, 2, 3, 7, 16, 17])
def test_a_score_does_not_depend_on_the_other_rows(size: int) -> None:
    random = np.random.default_rng(1)
    rows = pd.DataFrame(random.normal(size=(203, 5)), columns=list("abcde"))
    estimator = LogisticRegression().fit(rows, rows["a"] + rows["b"] > random.normal(size=len(rows)))
    model = FittedModel(estimator, tuple("abcde"), rows.head(20), np.zeros(20), library_versions())
    together = model.scores(rows)
    apart = [model.scores(rows.iloc[start : start + size]) for start in range(0, len(rows), size)]
    # Require bit-identical scores.
    assert np.concatenate(apart).tolist() == together.tolist()


@pytest.mark.requirement("SEN-8")
@pytest.mark.parametrize("estimator", [LogisticRegression, Counting])
def test_rows_outside_the_training_range_are_marked(estimator: Callable[[], Any]) -> None:
    ranges = {"amount": (-1.0, 2.5), "age": (0.0, 4.0)}
    model = dataclasses.replace(fitted(estimator()), training_ranges=ranges)
    rows = [(2.5, 0.0), (2.500001, 1.0), (-1.0, 4.0), (-1.1, 1.0), (1.0, -5.0), (None, 1.0), (None, 9.0)]
    listed = [dict(zip(NUMBERS, row, strict=True)) for row in rows]
    for form in (listed, pd.DataFrame(listed)[["age", "amount"]]):
        found = model.outside_training_range(form)
        assert found is not None
        assert found.tolist() == [False, True, False, True, True, False, True]
    assert model.outside_training_range([]) is not None


def test_text_features_are_not_compared_with_a_range() -> None:
    features = ("income", "children", "house", "has_car")
    rows = training_rows()[list(features)].assign(children=training_rows()["children"].astype("float64"))
    model = dataclasses.replace(
        fitted(mixed(), features), golden_rows=rows.head(20), training_ranges={"children": (0.0, 3.0)}
    )
    found = model.outside_training_range(rows)
    assert found is not None
    assert found.tolist() == (rows["children"] > 3).tolist()


@pytest.mark.parametrize("ranges", [None, {}])
def test_a_model_without_training_ranges_returns_none_for_outside_training_range(
    ranges: dict[str, tuple[float, float]] | None,
) -> None:
    model = dataclasses.replace(a_model(), training_ranges=ranges)
    assert model.outside_training_range(training_rows()) is None
