"""An estimator whose scores were turned into probabilities by what it said of examples that it had not seen.

scikit-learn's `CalibratedClassifierCV` calibrates one estimator only by predictions for every training row; ours
are for the newest rows of other groups, which is what it will be asked about.

Stable: stored models name these classes by path; see `STABLE_MODULES`.
Heavy: imports scikit-learn. Import it inside functions.
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
    """What an estimator says of rows before calibration: its decision function, or else its probability, (n,)."""
    if hasattr(estimator, "decision_function"):
        scores: NDArray[np.float64] = estimator.decision_function(rows)
        return scores
    probabilities: NDArray[np.float64] = estimator.predict_proba(rows)
    return probabilities[:, 1]


def sigmoid(scores: NDArray[np.float64], slope: float, intercept: float) -> NDArray[np.float64]:
    """Probabilities for raw scores (n,): 1 / (1 + exp(-(slope * score + intercept))), (n,) float64."""
    from scipy.special import expit

    probabilities: NDArray[np.float64] = expit(slope * scores + intercept)
    return probabilities


class CalibratedEstimator(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """A fitted classifier behind a sigmoid (Platt, Probabilistic outputs for support vector machines, 1999).

    Parameters
    ----------
    estimator
        Fitted, of two classes.
    slope, intercept
        Of the sigmoid, fitted on raw scores of examples that were not the estimator's, and their labels.
    """

    def __init__(self, estimator: Any, slope: float, intercept: float) -> None:
        self.estimator = estimator
        self.slope = slope
        self.intercept = intercept

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        """Attributes, as they are stored; models that were stored before have an estimator as their sigmoid."""
        attributes = dict(state)
        if (line := attributes.pop("sigmoid", None)) is not None:
            attributes["slope"], attributes["intercept"] = _line_of(line)
        super().__setstate__(attributes)

    @property
    def classes_(self) -> NDArray[np.int64]:
        """The labels, in the order of the probabilities, (2,)."""
        labels: NDArray[np.int64] = self.estimator.classes_
        return labels

    @property
    def feature_names_in_(self) -> NDArray[np.object_]:
        """The names of the features, as scikit-learn's estimators have them if they were fitted with some."""
        names: NDArray[np.object_] = self.estimator.feature_names_in_
        return names

    def predict_proba(self, rows: Frame) -> NDArray[np.float64]:
        """Probabilities of both classes, (n, 2) float64.

        Raises
        ------
        ValueError
            What the estimator says of a row is no number, or infinite.
        """
        import numpy as np

        positive = self.calibrated(raw_scores(self.estimator, rows))
        return np.column_stack([1 - positive, positive])

    def calibrated(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        """Probabilities of the positive class for what the estimator says, (n,) float64 both.

        Raises
        ------
        ValueError
            A score is no number, or infinite.
        """
        import numpy as np

        scores = np.asarray(scores, dtype=np.float64)
        if not np.isfinite(scores).all():
            raise ValueError("a score is no number")
        return sigmoid(scores, self.slope, self.intercept)


def _line_of(estimator: Any) -> tuple[float, float]:
    """Slope and intercept of a logistic regression, or of a dummy that says the base rate."""
    from scipy.special import logit

    if hasattr(estimator, "coef_"):
        return float(estimator.coef_[0, 0]), float(estimator.intercept_[0])
    return 0.0, float(logit(estimator.class_prior_[1]))
