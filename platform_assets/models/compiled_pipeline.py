"""A fitted pipeline compiled to plain NumPy calculations, with bit-identical results.

In every call, each step of scikit-learn validates its input and its own state, which takes up to nine tenths of the
time for one row. These checks are unnecessary if the caller's matrix has the right columns.

Import this module inside functions, because it imports scikit-learn.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.impute import SimpleImputer  # noqa: TID253 - whose arithmetic this is
from sklearn.linear_model import LogisticRegression  # noqa: TID253 - whose arithmetic this is
from sklearn.pipeline import Pipeline  # noqa: TID253 - whose arithmetic this is
from sklearn.preprocessing import StandardScaler  # noqa: TID253 - whose arithmetic this is

from platform_assets.models.calibration import CalibratedEstimator, raw_scores
from platform_assets.models.number_estimators import NumberColumns

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Matrix = NDArray[np.float64]
    Scores = NDArray[np.float64]
    Transform = Callable[[Matrix], Matrix]

FAR_FROM_INFINITE = 2.0**53
"""Limit on absolute values. Below it, no step can overflow to infinity, even in the single precision of trees."""


@dataclass(frozen=True, eq=False)
class Arithmetic:
    """The calculations of a calibrated pipeline.

    Attributes
    ----------
    transforms
        The calculations of all steps except the last, in order.
    raw
        Scores of the final estimator on the transformed matrix, (n,), before calibration.
    calibrated
        The calibrating sigmoid.
    """

    transforms: tuple[Transform, ...]
    raw: Callable[[Matrix], Scores]
    calibrated: Callable[[Scores], Scores]

    def __call__(self, matrix: Matrix) -> Scores:
        """Return the probabilities of the positive class, (n,) float64.

        Parameters
        ----------
        matrix
            (n, features) float64, with NaN or numbers below `FAR_FROM_INFINITE`. It is not changed.

        Raises
        ------
        ValueError
            A score is NaN or infinite.
        """
        for transform in self.transforms:
            matrix = transform(matrix)
        return self.calibrated(self.raw(matrix))


def arithmetic_of(estimator: Any) -> Arithmetic | None:
    """Compile a fitted estimator; None unless it is a calibrated pipeline whose steps are all supported.

    The final estimator may be of any type. If it cannot be compiled, its own method is called.
    """
    # Compare types exactly, because a subclass can calculate something else.
    if type(estimator) is not CalibratedEstimator or type(estimator.estimator) is not Pipeline:
        return None
    *steps, (_, last) = estimator.estimator.steps
    transforms = [_transform(step) for _, step in steps]
    known = tuple(transform for transform in transforms if transform is not None)
    return Arithmetic(known, _raw(last), estimator.calibrated) if len(known) == len(steps) else None


def _transform(step: Any) -> Transform | None:
    if hasattr(step, "_sklearn_output_config"):
        # A step with this attribute is not supported, because it may return a frame instead of a matrix.
        return None
    if type(step) is NumberColumns:
        return _itself
    if type(step) is SimpleImputer and _fills_only_nan(step):
        indicated = step.indicator_.features_ if step.add_indicator else None
        return partial(_filled, statistics=step.statistics_, indicated=indicated)
    if type(step) is StandardScaler:
        mean, scale = step.mean_ if step.with_mean else 0.0, step.scale_ if step.with_std else 1.0
        # Do not compile a scaler that can overflow: the compiled steps after it would not reject the infinity, but
        # scikit-learn's steps do.
        if np.all(np.abs(mean) < FAR_FROM_INFINITE) and np.all(scale > 1 / FAR_FROM_INFINITE):
            return partial(_scaled, mean=mean, scale=scale)
    return None


def _raw(step: Any) -> Callable[[Matrix], Scores]:
    if type(step) is LogisticRegression and isinstance(step.coef_, np.ndarray) and len(step.coef_) == 1:
        return partial(_linear, weights=step.coef_.T, intercept=step.intercept_)
    return partial(raw_scores, step)


def _fills_only_nan(step: SimpleImputer) -> bool:
    statistics = step.statistics_
    # Do not compile an imputer with a statistic of NaN: that column was entirely NaN in training, so scikit-learn drops
    # it.
    plain = statistics.dtype == np.float64 and np.all(np.abs(statistics) < FAR_FROM_INFINITE)
    return bool(plain) and isinstance(step.missing_values, float) and math.isnan(step.missing_values)


def _itself(matrix: Matrix) -> Matrix:
    return matrix


def _filled(matrix: Matrix, statistics: Matrix, indicated: NDArray[np.intp] | None) -> Matrix:
    missing = np.isnan(matrix)
    filled = np.where(missing, statistics, matrix)
    return filled if indicated is None else np.concatenate((filled, missing[:, indicated]), axis=1)


def _scaled(matrix: Matrix, mean: Matrix | float, scale: Matrix | float) -> Matrix:
    scaled: Matrix = (matrix - mean) / scale
    return scaled


def _linear(matrix: Matrix, weights: Matrix, intercept: Matrix) -> Scores:
    scores: Scores = (matrix @ weights + intercept).ravel()
    return scores
