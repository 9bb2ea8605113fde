"""A fitted pipeline as the arithmetic that it comes to: what its steps calculate, without what they check.

scikit-learn's steps each find out anew what they are given and whether they were fitted. Of one row that is nine
tenths of the time, and whoever has a matrix of the right columns knows both. The results are the same, bit for bit.

Heavy: imports scikit-learn. Import it inside functions.
"""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.impute import SimpleImputer  # noqa: TID253 - whose arithmetic this is
from sklearn.linear_model import LogisticRegression  # noqa: TID253 - whose arithmetic this is
from sklearn.pipeline import Pipeline  # noqa: TID253 - whose arithmetic this is
from sklearn.preprocessing import StandardScaler  # noqa: TID253 - whose arithmetic this is

from platform_assets.core.calibration import CalibratedEstimator, raw_scores
from platform_assets.core.number_estimators import NumberColumns

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Matrix = NDArray[np.float64]
    Scores = NDArray[np.float64]


def arithmetic_of(estimator: Any) -> Callable[[Matrix], Scores] | None:
    """What an estimator says of a matrix: (n,) float64, the probability of the positive class.

    A step that is not known here, or is set to something that is not, does its work itself.

    Parameters
    ----------
    estimator
        Fitted.

    Returns
    -------
    Callable or None
        Takes (n, features) float64 of finite numbers or NaN; raises `ValueError` where a score is no number. None for
        what is no pipeline behind a sigmoid.
    """
    # Whoever inherits from these may calculate something else.
    if type(estimator) is not CalibratedEstimator or type(estimator.estimator) is not Pipeline:
        return None
    *steps, (_, last) = estimator.estimator.steps
    transforms = [_transform(step) for _, step in steps]
    raw = _raw(last)

    def probabilities(matrix: Matrix) -> Scores:
        for transform in transforms:
            matrix = transform(matrix)
        return estimator.calibrated(raw(matrix))

    return probabilities


def _transform(step: Any) -> Callable[[Matrix], Matrix]:
    if type(step) is NumberColumns:
        return _itself
    if type(step) is SimpleImputer and _fills_only_nan(step):
        indicated = step.indicator_.features_ if step.add_indicator else None
        return partial(_filled, statistics=step.statistics_, indicated=indicated)
    if type(step) is StandardScaler:
        mean, scale = step.mean_ if step.with_mean else 0.0, step.scale_ if step.with_std else 1.0
        return partial(_scaled, mean=mean, scale=scale)
    return step.transform  # type: ignore[no-any-return]  # scikit-learn has no types


def _raw(step: Any) -> Callable[[Matrix], Scores]:
    if type(step) is LogisticRegression and isinstance(step.coef_, np.ndarray) and len(step.coef_) == 1:
        return partial(_linear, weights=step.coef_.T, intercept=step.intercept_)
    return partial(raw_scores, step)


def _fills_only_nan(step: SimpleImputer) -> bool:
    # A column of nothing but NaN, which has no statistic, is left out.
    numbers = step.statistics_.dtype == np.float64 and not np.isnan(step.statistics_).any()
    return numbers and isinstance(step.missing_values, float) and math.isnan(step.missing_values)


def _itself(matrix: Matrix) -> Matrix:
    return matrix


def _filled(matrix: Matrix, statistics: Matrix, indicated: NDArray[np.intp] | None) -> Matrix:
    missing = np.isnan(matrix)
    filled = np.where(missing, statistics, matrix)
    return filled if indicated is None else np.hstack((filled, missing[:, indicated]))


def _scaled(matrix: Matrix, mean: Matrix | float, scale: Matrix | float) -> Matrix:
    scaled: Matrix = (matrix - mean) / scale
    return scaled


def _linear(matrix: Matrix, weights: Matrix, intercept: Matrix) -> Scores:
    scores: Scores = (matrix @ weights + intercept).ravel()
    return scores
