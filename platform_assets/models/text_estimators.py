"""Steps of a model's pipeline that take text, so that a service cleans it as training did.

Stable: stored models name these classes by path; see `STABLE_MODULES`.
Heavy: imports scikit-learn. Import it inside functions.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from sklearn.base import BaseEstimator, TransformerMixin  # noqa: TID253 - an estimator has to inherit these
from sklearn.feature_extraction.text import TfidfVectorizer  # noqa: TID253 - as above

from platform_assets.base.text_cleaning import clean

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from platform_assets.base.frames import Frame


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


class CompactTfidf(TfidfVectorizer):  # type: ignore[misc]  # scikit-learn has no types
    """scikit-learn's, except that its vocabulary is stored as one text instead of word by word.

    skops keeps each word and its number as objects of their own: of 50,000 words, 2 s to write and 0.9 s to read
    instead of 0.1 and 0.03, and half a minute to write where `max_features` made the numbers NumPy's.
    """

    def __getstate__(self) -> dict[str, Any]:
        """The attributes, with the words in the order of their numbers, as JSON."""
        state: dict[str, Any] = dict(super().__getstate__())
        if words := state.pop("vocabulary_", None):
            state["vocabulary_"] = json.dumps(sorted(words, key=words.__getitem__))
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Attributes as `__getstate__` gives them."""
        words = state.get("vocabulary_")
        number_of = {} if words is None else {"vocabulary_": {word: at for at, word in enumerate(json.loads(words))}}
        super().__setstate__(state | number_of)
