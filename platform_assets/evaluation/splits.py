"""Splits of rows into training set, holdout and cross-validation folds, by group and time.

A stable hash of the group key (client, device, text) decides membership, so a group that is held out stays held out
when rows are added, reordered or repeated. If rows have times, test rows are also later than training rows.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, field
from datetime import date, datetime, time
from decimal import Decimal
from numbers import Real
from typing import TYPE_CHECKING, Any

from platform_assets.base.errors import TrainingError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    import pandas as pd
    from numpy.typing import ArrayLike, NDArray

    Indices = NDArray[np.int64]

_POSITIONS = 2**64
# Folds need their own salt: given that a group is in the training set, its holdout hash is no longer uniform.
_FOLD = "fold"


@dataclass(frozen=True)
class Holdout:
    """Size of the holdout.

    Attributes
    ----------
    groups
        Share of groups that are held out; above 0, below 1.
    newest
        Share of rows that count as the newest; above 0, below 1. Not used without times.

    Raises
    ------
    TrainingError
        A share is out of range.
    """

    groups: float = 0.2
    newest: float = 0.25

    def __post_init__(self) -> None:
        for name, share in (("groups", self.groups), ("newest", self.newest)):
            if not 0 < share < 1:
                raise TrainingError(f"Holdout.{name} is {share:g}; it must be a share above 0 and below 1")


@dataclass(frozen=True, eq=False)
class Split:
    """Indices of the training rows and the held-out rows.

    Attributes
    ----------
    train
        Indices of the training rows, ascending, int64.
    holdout
        Indices of the held-out rows, ascending, int64.
    left_out
        Number of rows in neither set: old rows of held-out groups, and new rows of other groups.
    cut
        Midnight of the first day of the holdout, in the time zone of the times; None without times.
    recorded
        Parameters that are recorded with a version, so that its held-out rows can be recognised later.
    """

    train: Indices
    holdout: Indices
    left_out: int
    cut: pd.Timestamp | None
    recorded: Mapping[str, str] = field(default_factory=dict)


def group_keys(groups: ArrayLike) -> tuple[Indices, list[str]]:
    """Encode group keys as text.

    Dates are written in ISO 8601, and integers as decimal digits. 7, 7.0 and "7" are one group, because pandas turns an
    integer column into floats when a value is missing.

    Parameters
    ----------
    groups
        Group key of each row, shape (n,).

    Returns
    -------
    tuple[NDArray[np.int64], list[str]]
        Code of each row, shape (n,), and the distinct keys, sorted. The code is the index of the row's key.

    Raises
    ------
    TrainingError
        A key is missing, or is neither text, an integer nor a date.
    """
    import numpy as np
    import pandas as pd

    codes, values = pd.factorize(pd.Series(groups))
    missing = int((codes < 0).sum())
    if missing:
        raise TrainingError(f"{missing} of {len(codes)} rows have no group; fill in their group, or drop them")
    texts = [_text(value) for value in pd.Index(values).tolist()]
    keys = sorted(set(texts))
    places = {key: place for place, key in enumerate(keys)}
    return np.array([places[text] for text in texts], dtype=np.int64)[codes], keys


def in_holdout(groups: ArrayLike, share: float, salt: str = "holdout") -> NDArray[np.bool_]:
    """Return whether the group of each row is held out.

    The first 8 bytes of the SHA-256 of salt and key are read as a number and divided by 2^64. A group is held out if
    this quotient is below the share. The result does not depend on other rows, on the order of rows or on the machine.
    A group that is held out at one share is also held out at every larger share.

    Parameters
    ----------
    groups
        Group key of each row, shape (n,); see `group_keys`.
    share
        Expected share of groups that are held out, 0 to 1.
    salt
        Prefix of the hashed text. Different salts hold out independent sets of groups.

    Returns
    -------
    NDArray[np.bool_]
        Shape (n,).

    Raises
    ------
    TrainingError
        A key is missing, or is neither text, an integer nor a date, or the share is out of range.
    """
    import numpy as np

    if not 0 <= share <= 1:
        raise TrainingError(f"the share of groups is {share:g}; it must be between 0 and 1")
    codes, keys = group_keys(groups)
    # This product is exact, because a float times a power of two is not rounded, and Python compares int with float
    # exactly.
    return np.array([hash_position(key, salt) < share * _POSITIONS for key in keys], dtype=np.bool_)[codes]


def split(groups: ArrayLike, times: ArrayLike | None, holdout: Holdout) -> Split:
    """Split rows into training set and holdout.

    With times, the holdout is the rows of held-out groups on or after the cut date, and the training set is the rows
    of other groups before it. The cut date is the day for which the share of rows on or after it is closest to
    `holdout.newest`; in a tie, the later day. It is never the first day, because no row would be left for training.
    Without times, the holdout is all rows of held-out groups.

    Parameters
    ----------
    groups
        Group key of each row, shape (n,); see `group_keys`.
    times
        Dates, or timestamps in one time zone, shape (n,); None if rows have no times.
    holdout
        Size of the holdout.

    Raises
    ------
    TrainingError
        A group or time is missing, or the training set or the holdout is empty.
    """
    held_out = in_holdout(groups, holdout.groups)
    _demand_groups(held_out, holdout.groups)
    cut, is_new = _newest(times, held_out, holdout.newest)
    train, judging = _sides(held_out, is_new, "the holdout", cut)
    return Split(train, judging, len(held_out) - len(train) - len(judging), cut)


def folds(groups: ArrayLike, times: ArrayLike | None, count: int, newest: float) -> list[tuple[Indices, Indices]]:
    """Return cross-validation folds. Test rows belong to other groups, and to later times, than the training rows.

    The hash of a group decides its fold, so a group keeps its fold when rows are added. With times, the test rows of
    a fold are its groups' rows on or after the cut date, and its training rows are the other groups' rows before it.
    Rows before the cut date are never test rows.

    Parameters
    ----------
    groups
        Group key of each row, shape (n,); see `group_keys`.
    times
        Dates, or timestamps in one time zone, shape (n,); None if rows have no times.
    count
        Number of folds, 2 or more.
    newest
        Share of rows that count as the newest; above 0, below 1. Not used without times.

    Returns
    -------
    list[tuple[NDArray[np.int64], NDArray[np.int64]]]
        Indices of the training rows and of the test rows of each fold.

    Raises
    ------
    TrainingError
        A group or time is missing, or a fold has no training rows or no test rows.
    """
    import numpy as np

    demand_folds(count)
    codes, keys = group_keys(groups)
    fold_of = np.array([hash_position(key, _FOLD) * count // _POSITIONS for key in keys], dtype=np.int64)[codes]
    cut, is_new = _newest(times, fold_of, Holdout(newest=newest).newest)
    return [_sides(fold_of == fold, is_new, f"fold {fold + 1} of {count}", cut) for fold in range(count)]


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    # A column of dates may arrive as timestamps at midnight.
    if isinstance(value, datetime) and value.tzinfo is None and value.time() == time():
        return value.date().isoformat()
    if isinstance(value, date) and not isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Real | Decimal) and math.isfinite(value) and value == math.trunc(value):
        return str(math.trunc(value))
    raise TrainingError(f"the group {value!r} is neither text, an integer nor a date; convert the column to text")


def hash_position(key: str, salt: str) -> int:
    """Return the first 8 bytes of the SHA-256 of salt and key as a number."""
    return int.from_bytes(hashlib.sha256((salt + key).encode()).digest()[:8])


def _newest(
    times: ArrayLike | None, rows: Sequence[Any] | NDArray[Any], newest: float
) -> tuple[pd.Timestamp | None, NDArray[np.bool_] | None]:
    import numpy as np

    if times is None:
        return None, None
    days = _days(times)
    if len(days) != len(rows):
        raise TrainingError(f"there are {len(days)} times for {len(rows)} rows; pass one time per row")
    counts = days.value_counts().sort_index()
    if len(counts) < 2:  # noqa: PLR2004 - one to train on, one to test on
        raise TrainingError("all rows are from one day; a split by time needs two or more days")
    share_from = counts.to_numpy()[::-1].cumsum()[::-1] / len(days)
    distances = np.abs(share_from[1:] - newest)
    cut = counts.index[len(distances) - int(distances[::-1].argmin())]
    return cut, np.asarray(days >= cut)


def _days(times: ArrayLike) -> pd.Series[pd.Timestamp]:
    import pandas as pd

    given = pd.Series(times)
    # Reject numbers and text: pandas reads numbers as nanoseconds, and guesses the order of day and month in text.
    if len(given) and (pd.api.types.is_numeric_dtype(given.dtype) or pd.api.types.is_string_dtype(given)):
        raise TrainingError(f"the times have type {given.dtype}; convert the column to dates or timestamps")
    try:
        days = pd.to_datetime(given).dt.normalize()
    except (ValueError, TypeError, AttributeError) as error:
        raise TrainingError(
            "the times cannot be read as dates, or as timestamps in one time zone; convert the column to one of these: "
            f"{error}"
        ) from None
    missing = int(days.isna().sum())
    if missing:
        raise TrainingError(f"{missing} of {len(days)} rows have no time; fill in their time, or drop them")
    return days


def demand_folds(count: int) -> None:
    """Reject fewer than two folds."""
    if count < 2:  # noqa: PLR2004 - one to train on, one to test on
        raise TrainingError(f"the number of folds is {count}; it must be 2 or more")


def _demand_groups(held_out: NDArray[np.bool_], share: float) -> None:
    if not len(held_out):
        raise TrainingError("there are no rows to split; materialise the model's tables first")
    if not held_out.any() or held_out.all():
        which = "all" if held_out.all() else "none"
        raise TrainingError(f"{which} of the groups are held out at a share of {share:g}; load data with more groups")


def _sides(
    judges: NDArray[np.bool_], is_new: NDArray[np.bool_] | None, name: str, cut: pd.Timestamp | None
) -> tuple[Indices, Indices]:
    import numpy as np

    train = np.flatnonzero(~judges if is_new is None else ~judges & ~is_new)
    test = np.flatnonzero(judges if is_new is None else judges & is_new)
    day = "" if cut is None else f"{cut:%Y-%m-%d}"
    if not len(test):
        raise TrainingError(f"{name} has no rows{day and f' on or after {day}'}; load data with more groups")
    if not len(train):
        raise TrainingError(f"there are no rows outside {name}{day and f' before {day}'}; load data with more groups")
    return train, test
