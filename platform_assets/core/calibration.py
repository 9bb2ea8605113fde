"""An estimator whose scores were turned into probabilities by what it said of examples that it had not seen.

scikit-learn's `CalibratedClassifierCV` calibrates one estimator only by predictions for every training row; ours
are for the newest rows of other groups, which is what it will be asked about.

Heavy: imports scikit-learn. Import it inside functions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sklearn.base import BaseEstimator, ClassifierMixin  # noqa: TID253 - an estimator has to inherit these

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from platform_assets.core.frames import Frame


def raw_scores(estimator: Any, rows: Frame) -> NDArray[np.float64]:
    """What an estimator says of rows before calibration: its decision function, or else its probability, (n,)."""
    if hasattr(estimator, "decision_function"):
        scores: NDArray[np.float64] = estimator.decision_function(rows)
        return scores
    probabilities: NDArray[np.float64] = estimator.predict_proba(rows)
    return probabilities[:, 1]


class CalibratedEstimator(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """A fitted classifier behind a sigmoid (Platt, Probabilistic outputs for support vector machines, 1999).

    Parameters
    ----------
    estimator
        Fitted, of two classes.
    sigmoid
        A logistic regression, fitted on raw scores (n, 1) of examples that were not the estimator's, and their labels.
    """

    def __init__(self, estimator: Any, sigmoid: Any) -> None:
        self.estimator = estimator
        self.sigmoid = sigmoid

    @property
    def classes_(self) -> NDArray[np.int64]:
        """The labels, in the order of the probabilities, (2,)."""
        labels: NDArray[np.int64] = self.sigmoid.classes_
        return labels

    def predict_proba(self, rows: Frame) -> NDArray[np.float64]:
        """Probabilities of both classes, (n, 2)."""
        probabilities: NDArray[np.float64] = self.sigmoid.predict_proba(raw_scores(self.estimator, rows)[:, None])
        return probabilities
