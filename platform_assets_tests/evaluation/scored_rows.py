"""Labels, scores and groups for tests of evaluation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from hypothesis import strategies as st

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from platform_assets.evaluation.intervals import Estimate

# Few distinct scores, so that there are many ties.
SCORES = st.one_of(st.integers(0, 6).map(lambda tenth: tenth / 10), st.floats(0, 1))
ROWS = st.lists(st.tuples(st.integers(0, 1), SCORES, st.integers(0, 3)), min_size=1, max_size=60)


def scored(rows: int, groups: int, seed: int = 0, base_rate: float = 0.05) -> tuple[NDArray[Any], ...]:
    """Return random labels, scores that are better than chance, and groups."""
    random = np.random.default_rng(seed)
    labels = (random.random(rows) < base_rate).astype(np.int64)
    scores = np.clip(random.beta(1, 15, rows) + 0.05 * labels * random.random(rows), 0, 1)
    return labels, scores, random.integers(0, groups, rows)


def columns(rows: list[tuple[int, float, int]]) -> Any:
    """Transpose rows into columns."""
    return [np.array(column, dtype=np.float64) for column in zip(*rows, strict=True)]


def values(estimates: dict[str, Estimate]) -> dict[str, float]:
    """Return the value of each estimate, without its interval."""
    return {name: estimate.value for name, estimate in estimates.items()}
