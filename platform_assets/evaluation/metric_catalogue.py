"""The metrics of all tasks by name, for code that reads metric names from declarations and records.

A name has the same meaning in every task, so a record can be read without its task.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from platform_assets.base.errors import TrainingError
from platform_assets.evaluation import metrics, regression_metrics

if TYPE_CHECKING:
    from collections.abc import Iterable

    from platform_assets.evaluation.metric_definitions import Metric

_COUNTS = ("rows", "positives")
_KNOWN = {**metrics.METRICS, **regression_metrics.METRICS}
# Counts of rows come last in tables.
_KNOWN |= {name: _KNOWN.pop(name) for name in _COUNTS}
_BEFORE_SKILLS = "r2"
SUBGROUP_METRICS = tuple(dict.fromkeys((*metrics.SUBGROUP_METRICS, *regression_metrics.SUBGROUP_METRICS)))
"""Metrics that are shown for each subgroup, in this order. Each task has only some of them."""


def find_metric(name: str) -> Metric | None:
    """Return the definition of a metric; None if it is unknown."""
    return _KNOWN.get(name) or regression_metrics.skill_named(name)


def metric_named(name: str) -> Metric:
    """Return the definition of a metric.

    Raises
    ------
    TrainingError
        The metric is unknown.
    """
    found = find_metric(name)
    if found is None:
        raise TrainingError(f"unknown metric {name}; use one of: {', '.join(_KNOWN)}")
    return found


def ordered(names: Iterable[str]) -> list[str]:
    """Sort the names of metrics in the order of their definitions.

    Skill scores over baselines come directly after R² and are sorted by name. Unknown metrics come last.
    """
    places = {name: float(place) for place, name in enumerate(_KNOWN)}

    def place(name: str) -> float:
        return places.get(name, places[_BEFORE_SKILLS] + 0.5 if find_metric(name) else len(places))

    return sorted(names, key=lambda name: (place(name), name))


def bounded_metrics() -> list[str]:
    """Return the names of the metrics that have an exact lower bound, i.e. are a share of a known number of rows."""
    return [name for name, one in _KNOWN.items() if one.share_of]
