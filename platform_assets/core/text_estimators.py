"""Steps of a model's pipeline that take text, so that a service cleans it as training did.

Heavy: imports scikit-learn. Import it inside functions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sklearn.base import BaseEstimator, TransformerMixin  # noqa: TID253 - an estimator has to inherit these

from platform_assets.core.texts import clean

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from platform_assets.core.frames import Frame


class TextCleaner(TransformerMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """A column of text, any text, to what `clean` leaves of it, as scikit-learn's vectorizers take it.

    It learns nothing.
    """

    def fit(self, rows: Frame, labels: Any = None) -> TextCleaner:  # noqa: ARG002 - scikit-learn's own form
        """Nothing."""
        return self

    def transform(self, rows: Frame) -> NDArray[np.object_]:
        """The words of each row, (n,) of str; of a missing text, none.

        Parameters
        ----------
        rows
            (n, 1), strings.

        Raises
        ------
        ValueError
            There is not one column.
        """
        import numpy as np

        if rows.shape[1] != 1:
            raise ValueError(f"text is cleaned column by column; there are {rows.shape[1]}")
        texts = rows.iloc[:, 0]
        return np.array(["" if no else clean(text) for text, no in zip(texts, texts.isna(), strict=True)], dtype=object)

    def __sklearn_is_fitted__(self) -> bool:
        """Always."""
        return True
