"""`NumberColumns` checks column names and types."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from platform_assets.models.number_estimators import NumberColumns

ROWS = pd.DataFrame({"heat": [1.0, np.nan], "noise": [3, 4]})


def test_columns_are_converted_to_a_matrix() -> None:
    numbers = NumberColumns().fit_transform(ROWS)
    assert numbers.dtype == np.float64
    np.testing.assert_array_equal(numbers, [[1.0, 3.0], [np.nan, 4.0]])


def test_an_unfitted_step_raises_an_error() -> None:
    with pytest.raises(NotFittedError, match="This NumberColumns instance is not fitted yet"):
        NumberColumns().transform(ROWS)


@pytest.mark.parametrize(
    "others", [ROWS[["noise", "heat"]], ROWS[["heat"]], ROWS.assign(more=1.0), ROWS.rename(columns={"heat": "cold"})]
)
def test_a_frame_whose_columns_differ_from_the_fitted_columns_is_refused(others: pd.DataFrame) -> None:
    fitted = NumberColumns().fit(ROWS)
    with pytest.raises(ValueError, match=r"the columns must be \['heat', 'noise'\], in this order; they are \["):
        fitted.transform(others)


def test_text_is_refused() -> None:
    with pytest.raises(ValueError, match="could not convert string to float: 'much'"):
        NumberColumns().fit(ROWS).transform(ROWS.assign(heat=["much", "little"]))


@pytest.mark.parametrize("values", [pd.to_datetime(["2020-01-01", "2021-01-01"]), pd.to_timedelta([1, 2]), [1j, 2j]])
def test_times_and_complex_numbers_are_refused(values: Any) -> None:
    with pytest.raises(ValueError, match=r"the columns \['heat'\] do not contain real numbers"):
        NumberColumns().fit(ROWS).transform(ROWS.assign(heat=values))


def test_a_matrix_of_objects_is_refused() -> None:
    with pytest.raises(ValueError, match="could not convert string to float: 'x'"):
        NumberColumns().fit(ROWS).transform(np.array([["x", "y"]], dtype=object))


def test_a_matrix_with_the_right_number_of_columns_is_accepted() -> None:
    fitted = NumberColumns().fit(ROWS)
    matrix = np.array([[1.0, 2.0]])
    assert fitted.transform(matrix) is matrix
    for wrong in (np.ones((1, 3)), np.ones(2)):
        with pytest.raises(ValueError, match=r"the matrix must have 2 columns, \['heat', 'noise'\]; its shape is"):
            fitted.transform(wrong)


def test_later_pipeline_steps_do_not_warn_about_feature_names() -> None:
    rows = ROWS.fillna(0.0)
    pipeline = make_pipeline(NumberColumns(), LogisticRegression()).fit(rows, [0, 1])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        of_frame, of_matrix = pipeline.predict_proba(rows), pipeline.predict_proba(rows.to_numpy(dtype=np.float64))
    assert of_frame.tolist() == of_matrix.tolist()
