"""Which rows a model learns from, and which judge it.

The group of a row (a client, a device, a text) decides, by a stable hash and never by a draw: what
was once held out stays held out when rows are added, reordered or repeated. Where rows have times,
what judges also lies after what was learned from. Metrics are in `binary_classification.py`.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from decimal import Decimal
from numbers import Real
from typing import TYPE_CHECKING, Any

from platform_assets.base.errors import TrainingError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    import pandas as pd
    from numpy.typing import ArrayLike, NDArray

    Indices = NDArray[np.int64]

_POSITIONS = 2**64
# Other salts than the holdout's, for its hash says nothing new about those who are not in it.
_FOLD = "fold"


@dataclass(frozen=True)
class Holdout:
    """How much is kept back to judge a model.

    Attributes
    ----------
    groups
        Share of the groups that no model learns from; above 0, below 1.
    newest
        Share of the rows, by time, that count as the newest; above 0, below 1.

    Raises
    ------
    TrainingError
        A share is out of its bounds.
    """

    groups: float = 0.2
    newest: float = 0.25

    def __post_init__(self) -> None:
        for name, share in (("groups", self.groups), ("newest", self.newest)):
            if not 0 < share < 1:
                raise TrainingError(f"the holdout's share of {name} is {share:g}; it must lie between 0 and 1")


@dataclass(frozen=True, eq=False)
class Split:
    """Rows to learn from and rows to judge by.

    Attributes
    ----------
    train
        Indices of rows, ascending, int64.
    holdout
        Indices of rows, ascending, int64.
    left_out
        Rows that are neither: old ones of held-out groups, new ones of the others.
    cut
        Midnight of the first day whose rows judge, in the times' own zone; None for rows without times.
    """

    train: Indices
    holdout: Indices
    left_out: int
    cut: pd.Timestamp | None


def group_keys(groups: ArrayLike) -> tuple[Indices, list[str]]:
    """The distinct keys of groups, as text, and which of them each row has.

    Text stays as it is, and a whole number becomes its decimal digits, however it is stored: 7, 7.0 and "7" are
    one group, so that a column means the same after pandas has turned it into floats.

    Parameters
    ----------
    groups
        Key of each row's group, shape (n,).

    Returns
    -------
    tuple[NDArray[np.int64], list[str]]
        Place of each row's key among the keys, shape (n,); the keys, sorted, each once.

    Raises
    ------
    TrainingError
        A key is missing, or is neither text nor a whole number.
    """
    import numpy as np
    import pandas as pd

    codes, values = pd.factorize(pd.Series(groups))
    missing = int((codes < 0).sum())
    if missing:
        raise TrainingError(f"{missing} of {len(codes)} rows have no group; give each one, or leave those rows out")
    texts = [_text(value) for value in pd.Index(values).tolist()]
    keys = sorted(set(texts))
    places = {key: place for place, key in enumerate(keys)}
    return np.array([places[text] for text in texts], dtype=np.int64)[codes], keys


def in_holdout(groups: ArrayLike, share: float, salt: str = "holdout") -> NDArray[np.bool_]:
    """Whether the group of each row is held out.

    The first 8 bytes of SHA-256 of salt and key, as a fraction of 2^64, lie below the share. It depends on nothing
    else: not on other rows, their order, or the machine. A group held out at one share is so at every larger one.

    Parameters
    ----------
    groups
        Key of each row's group, shape (n,); see `group_keys`.
    share
        Share of all conceivable groups that are held out, 0 to 1.
    salt
        Other salts make independent choices.

    Returns
    -------
    NDArray[np.bool_]
        Shape (n,).

    Raises
    ------
    TrainingError
        A key is missing, or is neither text nor a whole number; the share is out of its bounds.
    """
    import numpy as np

    if not 0 <= share <= 1:
        raise TrainingError(f"the share of groups is {share:g}; it must lie between 0 and 1")
    codes, keys = group_keys(groups)
    # A float times a power of two is exact, and Python compares whole numbers with floats exactly.
    return np.array([_position(key, salt) < share * _POSITIONS for key in keys], dtype=np.bool_)[codes]


def split(groups: ArrayLike, times: ArrayLike | None, holdout: Holdout) -> Split:
    """Set the holdout apart.

    With times, the holdout is the held-out groups from a cut on, and the training rows are the other groups
    before it. The cut is the day on or after which the share of the rows comes closest to `holdout.newest`, the
    later of two that come equally close; the first day is none, for nothing lies before it.
    Without times the groups alone decide.

    Parameters
    ----------
    groups
        Key of each row's group, shape (n,); see `group_keys`.
    times
        Time of each row, shape (n,), as dates or timestamps of one zone, or None.
    holdout
        How much is kept back.

    Raises
    ------
    TrainingError
        A group or time is missing; no rows are left to learn from or to judge by.
    """
    held_out = in_holdout(groups, holdout.groups)
    _demand_groups(held_out, holdout.groups)
    cut, is_new = _newest(times, held_out, holdout.newest)
    train, judging = _sides(held_out, is_new, "the holdout", cut)
    return Split(train, judging, len(held_out) - len(train) - len(judging), cut)


def folds(groups: ArrayLike, times: ArrayLike | None, count: int, newest: float) -> list[tuple[Indices, Indices]]:
    """Cross-validation that asks what the holdout asks: unknown groups, and later times.

    A group's fold follows from its hash alone, so that it stays in it when rows are added. A fold is judged by its
    groups from the cut on, and learned from the other groups before it. Rows before the cut judge in no fold.

    Parameters
    ----------
    groups
        Key of each row's group, shape (n,); see `group_keys`.
    times
        Time of each row, shape (n,), as dates or timestamps of one zone, or None.
    count
        Number of folds, 2 or more.
    newest
        Share of the rows, by time, that count as the newest; above 0, below 1. Not used without times.

    Returns
    -------
    list[tuple[NDArray[np.int64], NDArray[np.int64]]]
        Indices of the rows to learn from and of those to judge by, for each fold.

    Raises
    ------
    TrainingError
        A group or time is missing; a fold has no rows to learn from or to judge by.
    """
    import numpy as np

    _demand_count(count)
    codes, keys = group_keys(groups)
    fold_of = np.array([_position(key, _FOLD) * count // _POSITIONS for key in keys], dtype=np.int64)[codes]
    cut, is_new = _newest(times, fold_of, Holdout(newest=newest).newest)
    return [_sides(fold_of == fold, is_new, f"fold {fold + 1} of {count}", cut) for fold in range(count)]


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, Real | Decimal) and math.isfinite(value) and value == math.trunc(value):
        return str(math.trunc(value))
    raise TrainingError(f"the group {value!r} is neither text nor a whole number; turn it into text first")


def _position(key: str, salt: str) -> int:
    return int.from_bytes(hashlib.sha256((salt + key).encode()).digest()[:8])


def _newest(
    times: ArrayLike | None, rows: Sequence[Any] | NDArray[Any], newest: float
) -> tuple[pd.Timestamp | None, NDArray[np.bool_] | None]:
    import numpy as np

    if times is None:
        return None, None
    days = _days(times)
    if len(days) != len(rows):
        raise TrainingError(f"there are {len(days)} times for {len(rows)} rows; each row needs one")
    counts = days.value_counts().sort_index()
    if len(counts) < 2:  # noqa: PLR2004 - one to learn from, one to judge by
        raise TrainingError(f"the rows are of {len(counts)} days; a cut in time needs two or more")
    share_from = counts.to_numpy()[::-1].cumsum()[::-1] / len(days)
    distances = np.abs(share_from[1:] - newest)
    cut = counts.index[len(distances) - int(distances[::-1].argmin())]
    return cut, np.asarray(days >= cut)


def _days(times: ArrayLike) -> pd.Series[pd.Timestamp]:
    import pandas as pd

    given = pd.Series(times)
    # pandas would take numbers for nanoseconds, and guess at the order of day and month in text.
    if len(given) and (pd.api.types.is_numeric_dtype(given.dtype) or pd.api.types.is_string_dtype(given)):
        raise TrainingError(f"the times are of type {given.dtype}; dates or timestamps are needed")
    try:
        days = pd.to_datetime(given).dt.normalize()
    except (ValueError, TypeError, AttributeError) as error:
        raise TrainingError(f"the times are not all dates or timestamps of one zone: {error}") from None
    missing = int(days.isna().sum())
    if missing:
        raise TrainingError(f"{missing} of {len(days)} rows have no time; give each one, or leave those rows out")
    return days


def _demand_count(count: int) -> None:
    if count < 2:  # noqa: PLR2004 - one to learn from, one to judge by
        raise TrainingError(f"{count} folds are asked for; two or more are needed")


def _demand_groups(held_out: NDArray[np.bool_], share: float) -> None:
    if not len(held_out):
        raise TrainingError("there are no rows to split; materialise the tables that the model learns from first")
    if not held_out.any() or held_out.all():
        which = "all" if held_out.all() else "none"
        raise TrainingError(f"{which} of the groups are held out at a share of {share:g}; more groups are needed")


def _sides(
    judges: NDArray[np.bool_], is_new: NDArray[np.bool_] | None, name: str, cut: pd.Timestamp | None
) -> tuple[Indices, Indices]:
    import numpy as np

    train = np.flatnonzero(~judges if is_new is None else ~judges & ~is_new)
    test = np.flatnonzero(judges if is_new is None else judges & is_new)
    day = "" if cut is None else f"{cut:%Y-%m-%d}"
    if not len(test):
        raise TrainingError(f"{name} has no rows to judge by{day and f' on or after {day}'}; more groups are needed")
    if not len(train):
        raise TrainingError(f"{name} has no rows to learn from{day and f' before {day}'}; more groups are needed")
    return train, test
