"""Which texts say nearly the same, so that none of them judges a model that learned from another.

The rule is fixed: two texts are near-duplicates if, of the pairs of neighbouring words that either has, both have
at least two fifths (Jaccard); a group is what such texts connect. Whether two texts are near-duplicates depends on
those two alone, so that further texts never part a group; they may join two.
"""

from __future__ import annotations

import hashlib
from fractions import Fraction
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray
    from scipy.sparse import csr_matrix

SHINGLE_WORDS = 2
AT_LEAST = Fraction(2, 5)
"""Share of pairs of words that two near-duplicates have in common."""
_MOST_CELLS = 20_000_000
_KEY_DIGITS = 16


def near_duplicates(texts: Sequence[str]) -> list[str]:
    """A key for each text: the same for near-duplicates, directly or by way of others.

    Every pair of texts that shares a pair of words is compared, none is estimated. Time grows with the number of such
    pairs of texts, memory with the number of texts: 9,000 short texts take a second or two, 100,000 some twenty.

    Parameters
    ----------
    texts
        Cleaned: words with blanks between them. The oldest first, so that the keys stay what they are when texts are
        added at the end.

    Returns
    -------
    list[str]
        16 hexadecimal digits for each text, in order: of SHA-256 of the first text of its group.
    """
    if not texts:
        return []
    import numpy as np

    distinct = list(dict.fromkeys(texts))
    groups = _connected(_incidence(distinct))
    # The first text of each group, for `distinct` keeps the order of the texts.
    _, first = np.unique(groups, return_index=True)
    keys = dict(zip(distinct, (_key(distinct[first[group]]) for group in groups), strict=True))
    return [keys[text] for text in texts]


def shingles(text: str) -> set[str]:
    """The pairs of neighbouring words of a cleaned text; the text itself where it has less than two words."""
    words = text.split()
    starts = range(max(1, len(words) - SHINGLE_WORDS + 1))
    return {" ".join(words[start : start + SHINGLE_WORDS]) for start in starts}


def _incidence(texts: Sequence[str]) -> csr_matrix:
    """Which text has which pair of words: one row per text, 1 or nothing."""
    from sklearn.feature_extraction.text import CountVectorizer

    return CountVectorizer(analyzer=shingles, binary=True, dtype="int32").fit_transform(texts)


def _connected(incidence: csr_matrix, most_cells: int = _MOST_CELLS) -> NDArray[np.int32]:
    """The number of each text's group; texts are compared in parts of so many pairs."""
    import numpy as np
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    count = incidence.shape[0]
    sizes = np.asarray(incidence.sum(axis=1)).ravel()
    # A part at a time: were all texts alike, the product would have a cell for every two of them.
    step = max(1, most_cells // count)
    pairs = [_similar(incidence, sizes, start, start + step) for start in range(0, count, step)]
    one, other = (np.concatenate(ends) for ends in zip(*pairs, strict=True))
    graph = coo_matrix((np.ones(len(one), dtype=bool), (one, other)), shape=(count, count))
    groups: NDArray[np.int32] = connected_components(graph, directed=False)[1]
    return groups


def _similar(
    incidence: csr_matrix, sizes: NDArray[np.int64], start: int, end: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Both ends of each pair of near-duplicates whose first is in a range of the texts."""
    common = (incidence[start:end] @ incidence.T).tocoo()
    one, other = common.row.astype("int64") + start, common.col.astype("int64")
    either = sizes[one] + sizes[other] - common.data
    # In whole numbers, for a quotient of exactly two fifths may be rounded to less.
    similar = common.data * AT_LEAST.denominator >= either * AT_LEAST.numerator
    return one[similar], other[similar]


def _key(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:_KEY_DIGITS]
