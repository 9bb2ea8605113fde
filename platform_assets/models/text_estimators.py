"""Pipeline steps for text: cleaning, TF-IDF with a compact file format, and vectors from a sentence encoder.

Do not move or rename these classes: stored models refer to them by path; see `STABLE_MODULES`.
Import this module inside functions, because it imports scikit-learn.
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
    """Transformer that cleans one text column with `clean`, for scikit-learn's vectorizers."""

    def fit(self, rows: Frame, labels: Any = None) -> TextCleaner:  # noqa: ARG002 - scikit-learn's signature
        """Return the transformer unchanged, because cleaning has no parameters to fit."""
        return self

    def transform(self, rows: Frame) -> NDArray[np.object_]:
        """Return the cleaned texts, (n,) of str. A missing text becomes an empty text.

        Parameters
        ----------
        rows
            Frame of one string column, (n, 1).

        Raises
        ------
        ValueError
            The frame does not have exactly one column.
        """
        import numpy as np

        if rows.shape[1] != 1:
            raise ValueError(f"TextCleaner takes one column, but got {rows.shape[1]}")
        texts = rows.iloc[:, 0]
        return np.array(["" if no else clean(text) for text, no in zip(texts, texts.isna(), strict=True)], dtype=object)

    def __sklearn_is_fitted__(self) -> bool:
        """Return True, because cleaning has no parameters to fit."""
        return True


class CompactTfidf(TfidfVectorizer):  # type: ignore[misc]  # scikit-learn has no types
    """scikit-learn's `TfidfVectorizer`, with the vocabulary stored as one JSON string.

    Without this class, skops would store each word and its index as separate objects. For 50,000 words, writing took
    2 s and reading 0.9 s; with one string they take 0.1 s and 0.03 s. With `max_features`, the indices are NumPy
    integers, and writing them as separate objects took half a minute.
    """

    def __getstate__(self) -> dict[str, Any]:
        """Return the attributes, with the vocabulary as a JSON list of words, sorted by index."""
        state: dict[str, Any] = dict(super().__getstate__())
        if words := state.pop("vocabulary_", None):
            state["vocabulary_"] = json.dumps(sorted(words, key=words.__getitem__))
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore the attributes from the state that `__getstate__` returns."""
        words = state.get("vocabulary_")
        number_of = {} if words is None else {"vocabulary_": {word: at for at, word in enumerate(json.loads(words))}}
        super().__setstate__(state | number_of)


class SentenceVectors(TransformerMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Transformer that encodes texts as vectors. Open the encoder first with `sentence_encoder.open_encoder`.

    Parameters
    ----------
    encoder
        Digest of the encoder's files, 64 hexadecimal digits.
    """

    def __init__(self, encoder: str = "") -> None:
        self.encoder = encoder

    def fit(self, texts: Any, labels: Any = None) -> SentenceVectors:  # noqa: ARG002 - scikit-learn's signature
        """Return the transformer unchanged, because the encoder is not trained further."""
        return self

    def transform(self, texts: NDArray[np.object_]) -> NDArray[np.float32]:
        """Return the vectors, (n, width) float32, of texts, (n,) of str.

        Raises
        ------
        ArtefactError
            The encoder is not open in this process.
        """
        from platform_assets.models.sentence_encoder import opened_encoder

        return opened_encoder(self.encoder).encode(list(texts))

    def __sklearn_is_fitted__(self) -> bool:
        """Return True, because there are no parameters to fit."""
        return True


def encoders_of(estimator: Any) -> list[str]:
    """Return the digests of the sentence encoders that an estimator uses."""
    steps = estimator.get_params().values() if hasattr(estimator, "get_params") else ()
    return sorted({step.encoder for step in steps if isinstance(step, SentenceVectors)})
