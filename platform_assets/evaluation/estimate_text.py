"""Formatting of a recorded estimate and its interval as text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from platform_assets.base.number_text import significant

if TYPE_CHECKING:
    from collections.abc import Mapping


def told_estimate(metric: Mapping[str, float | None], digits: int = 3) -> str:
    """Format a recorded value with its interval, e.g. `0.746 (0.714 to 0.777)`.

    Parameters
    ----------
    metric
        Estimate in the form of `Estimate.as_dict`.
    digits
        Number of significant digits.
    """
    value, low, high = (metric.get(name) for name in ("value", "low", "high"))
    if value is None:
        return "undefined"
    interval = "" if low is None or high is None else f" ({significant(low, digits)} to {significant(high, digits)})"
    return f"{significant(value, digits)}{interval}"
