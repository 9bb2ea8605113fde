"""Limit the rows on which a classifier is fitted, for classifiers whose time or memory grows fast with the rows.

Do not move or rename these classes: stored models refer to them by path; see `STABLE_MODULES`.
Import this module inside functions, because it imports scikit-learn.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sklearn.base import BaseEstimator, ClassifierMixin, clone  # noqa: TID253 - an estimator has to inherit these
from sklearn.utils.metaestimators import available_if  # noqa: TID253 - as above

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def _decides(model: Any) -> bool:
    return hasattr(model.estimator, "decision_function")


class LimitedRows(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Classifier that is fitted on all rows, or on a stratified random sample if there are more than `most_rows`.

    Parameters
    ----------
    estimator
        A classifier.
    most_rows
        Maximum number of rows to fit on.
    random_state
        Random seed of the sample.
    """

    def __init__(self, estimator: Any, most_rows: int, random_state: int = 0) -> None:
        self.estimator = estimator
        self.most_rows = most_rows
        self.random_state = random_state

    def fit(self, rows: Any, labels: Any) -> LimitedRows:
        """Fit the estimator.

        Parameters
        ----------
        rows
            Features, (n, k).
        labels
            Labels, (n,).
        """
        import numpy as np

        if len(rows) > self.most_rows:
            from sklearn.model_selection import train_test_split

            rows, _, labels, _ = train_test_split(
                np.asarray(rows), labels, train_size=self.most_rows, stratify=labels, random_state=self.random_state
            )
        self.estimator_ = clone(self.estimator).fit(rows, labels)
        self.classes_ = self.estimator_.classes_
        return self

    def predict_proba(self, rows: Any) -> NDArray[np.float64]:
        """Return the probabilities of the classes, (n, classes)."""
        found: NDArray[np.float64] = self.estimator_.predict_proba(rows)
        return found

    @available_if(_decides)  # type: ignore[untyped-decorator]  # scikit-learn has no types
    def decision_function(self, rows: Any) -> NDArray[np.float64]:
        """Return the values of the estimator's decision function, (n,)."""
        found: NDArray[np.float64] = self.estimator_.decision_function(rows)
        return found
