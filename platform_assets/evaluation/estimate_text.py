"""An estimate as text: a recorded value with its interval, for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


def told_estimate(metric: Mapping[str, float | None], digits: int = 3) -> str:
    """A recorded value and its interval, for people.

    Parameters
    ----------
    metric
        As `Estimate.as_dict` gives it.
    digits
        Significant ones.
    """
    value, low, high = metric["value"], metric["low"], metric["high"]
    if value is None:
        return "undefined"
    interval = "" if low is None or high is None else f" ({low:.{digits}g} to {high:.{digits}g})"
    return f"{value:.{digits}g}{interval}"
