"""Classifier with Platt scaling: a sigmoid that was fitted on scores of examples outside the training set.

scikit-learn's `CalibratedClassifierCV` needs out-of-fold predictions for every training row. The platform calibrates
only on the newest rows of groups that are not in a fold's training set, because predictions are made for such rows.

Do not move or rename these classes: stored models refer to them by path; see `STABLE_MODULES`.
Import this module inside functions, because it imports scikit-learn.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sklearn.base import BaseEstimator, ClassifierMixin  # noqa: TID253 - an estimator has to inherit these

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray

    from platform_assets.base.frames import Frame


def raw_scores(estimator: Any, rows: Frame) -> NDArray[np.float64]:
    """Return uncalibrated scores, (n,): the decision function, or else the probability of the positive class."""
    if hasattr(estimator, "decision_function"):
        scores: NDArray[np.float64] = estimator.decision_function(rows)
        return scores
    probabilities: NDArray[np.float64] = estimator.predict_proba(rows)
    return probabilities[:, 1]


def sigmoid(scores: NDArray[np.float64], slope: float, intercept: float) -> NDArray[np.float64]:
    """Return 1 / (1 + exp(-(slope * score + intercept))) for each score, shape (n,), float64."""
    from scipy.special import expit

    probabilities: NDArray[np.float64] = expit(slope * scores + intercept)
    return probabilities


class CalibratedEstimator(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """A fitted classifier with a sigmoid (Platt, Probabilistic outputs for support vector machines, 1999).

    Parameters
    ----------
    estimator
        A fitted binary classifier.
    slope, intercept
        Parameters of the sigmoid, fitted on the estimator's scores of examples outside its training set.
    """

    def __init__(self, estimator: Any, slope: float, intercept: float) -> None:
        self.estimator = estimator
        self.slope = slope
        self.intercept = intercept

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        """Restore the attributes; older artefacts contain an estimator instead of slope and intercept."""
        attributes = dict(state)
        if (line := attributes.pop("sigmoid", None)) is not None:
            attributes["slope"], attributes["intercept"] = _line_of(line)
        super().__setstate__(attributes)

    @property
    def classes_(self) -> NDArray[np.int64]:
        """Return the labels in the order of the probabilities, (2,)."""
        labels: NDArray[np.int64] = self.estimator.classes_
        return labels

    @property
    def feature_names_in_(self) -> NDArray[np.object_]:
        """Return the feature names, if the estimator was fitted with names."""
        names: NDArray[np.object_] = self.estimator.feature_names_in_
        return names

    def predict_proba(self, rows: Frame) -> NDArray[np.float64]:
        """Return the probabilities of both classes, (n, 2) float64.

        Raises
        ------
        ValueError
            The estimator's score of a row is NaN or infinite.
        """
        import numpy as np

        positive = self.calibrated(raw_scores(self.estimator, rows))
        return np.column_stack([1 - positive, positive])

    def calibrated(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the probabilities of the positive class, (n,) float64, for the estimator's scores, (n,) float64.

        Raises
        ------
        ValueError
            A score is NaN or infinite.
        """
        import numpy as np

        scores = np.asarray(scores, dtype=np.float64)
        if not np.isfinite(scores).all():
            raise ValueError("a score is NaN or infinite")
        return sigmoid(scores, self.slope, self.intercept)


def _line_of(estimator: Any) -> tuple[float, float]:
    """Return slope and intercept of a logistic regression, or of a dummy classifier with the base rate."""
    from scipy.special import logit

    if hasattr(estimator, "coef_"):
        return float(estimator.coef_[0, 0]), float(estimator.intercept_[0])
    return 0.0, float(logit(estimator.class_prior_[1]))
