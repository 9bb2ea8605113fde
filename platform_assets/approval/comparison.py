"""A request's evidence for display: the criteria of the gate, and each metric of challenger and champion.

The evidence is JSON that an older release may have written, so missing parts are left out. Its texts are untrusted, so
this module returns plain text, which the templates escape.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from platform_assets.base.printable_text import numbers_in_order
from platform_assets.evaluation.metric_catalogue import SUBGROUP_METRICS, find_metric, ordered
from platform_assets.evaluation.metric_definitions import Metric
from platform_assets.web.number_formats import UNDEFINED, Number, number, signed

if TYPE_CHECKING:
    from collections.abc import Mapping

NOTHING = "\N{EN DASH}"
"""Shown in place of a missing value."""
# The evidence has no field for the bound. Parse it from the names and sentences that `evaluation/gate.py` writes.
_CRITERION = re.compile(r"(?P<metric>\w+)_is_at_(?:least|most)_(?P<bound>(?:minus_)?\d+(?:[._]\d+)?)")
_COMPARISON = re.compile(r"(?P<metric>\w+)_is_not_worse_than_champion")
# Earlier releases wrote "lower end" instead of "lower bound".
_MARGIN = re.compile(r"(?:bound|end) must be at (?:least|most) (-?[\d.]+\d|-?\d)")


class Standing(StrEnum):
    """State of a criterion of the gate."""

    NOT_MET = "Not met"
    UNCERTAIN = "Uncertain"
    MET = "Met"
    NOT_APPLICABLE = "Not applicable"


@dataclass(frozen=True)
class Outcome:
    """Outcome of one criterion of the gate.

    Attributes
    ----------
    standing
        `UNCERTAIN` if the 95 % interval contains the bound; `NOT_APPLICABLE` for a comparison without a champion.
    passed
        Whether the gate considered the criterion met.
    told
        A sentence with value, interval and bound.
    """

    standing: Standing
    passed: bool
    told: str


@dataclass(frozen=True)
class Bar:
    """A difference and its interval as drawing coordinates from -100 to 100; 0 means no difference."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Comparison:
    """One metric of challenger and champion on the same examples.

    Attributes
    ----------
    name, label, description
        The metric and its meaning.
    champion, challenger
        Values as text. The champion's value is the challenger's value minus the difference.
    interval
        95 % interval of the challenger's value, as text; empty if there is none.
    difference, difference_interval
        Challenger minus champion, as text; empty without a champion.
    reading
        `better`, `worse`, `higher`, `lower`, `no clear difference`, `no difference` or `undefined`; empty without a
        champion.
    bar
        The difference as drawing coordinates; None without an interval.
    """

    name: str
    label: str
    description: str
    champion: str
    challenger: str
    interval: str
    difference: str
    difference_interval: str
    reading: str
    bar: Bar | None


@dataclass(frozen=True)
class Cell:
    """A value and its 95 % interval as text; the interval is empty if there is none."""

    value: str
    interval: str = ""


@dataclass(frozen=True)
class Subgroups:
    """Metrics of subgroups, one subgroup for each value of a column.

    Attributes
    ----------
    column
        Column whose values form the subgroups.
    headings
        Names of the metrics.
    rows
        Each value with its metrics, in the order of the headings.
    """

    column: str
    headings: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Cell, ...]], ...]


def comparisons(evidence: Mapping[str, Any]) -> list[Comparison]:
    """Return every measured metric in the order of the metric definitions, unknown metrics last."""
    metrics, differences = _mapping(evidence, "metrics"), _mapping(evidence, "difference")
    unit = _mapping(evidence, "record").get("unit") or ""
    return [_comparison(name, metrics[name], differences.get(name), unit) for name in ordered(metrics)]


def subgroups(evidence: Mapping[str, Any]) -> list[Subgroups]:
    """Return the metrics of subgroups, one item for each column."""
    found = []
    for column, values in _mapping(evidence, "subgroups").items():
        in_order = sorted(values.items(), key=lambda entry: numbers_in_order(str(entry[0])))
        shown = [name for name in SUBGROUP_METRICS if any(name in one for one in values.values())]
        rows = ((str(value), tuple(_cell(one.get(name)) for name in shown)) for value, one in in_order)
        found.append(Subgroups(column, tuple(_metric(name).label for name in shown), tuple(rows)))
    return found


def outcomes(evidence: Mapping[str, Any]) -> list[Outcome]:
    """Return the outcome of each criterion of the gate, in the order of `Standing`."""
    given = _mapping(evidence, "verdict").get("reasons") or []
    order = list(Standing)
    found = [Outcome(_standing(one, evidence), bool(one.get("passed")), str(one.get("told"))) for one in given]
    return sorted(found, key=lambda one: (order.index(one.standing), one.passed))


def _standing(reason: Mapping[str, Any], evidence: Mapping[str, Any]) -> Standing:
    passed, name, told = bool(reason.get("passed")), str(reason.get("name")), str(reason.get("told"))
    if criterion := _CRITERION.fullmatch(name):
        estimate = _mapping(evidence, "metrics").get(criterion["metric"]) or {}
        bound = float(criterion["bound"].replace("minus_", "-").replace("_", "."))
    elif criterion := _COMPARISON.fullmatch(name):
        estimate = _mapping(evidence, "difference").get(criterion["metric"])
        if estimate is None:
            return Standing.NOT_APPLICABLE if passed else Standing.NOT_MET
        margin = _MARGIN.search(told)
        bound = float(margin[1]) if margin else math.nan
    else:
        estimate, bound = {}, math.nan
    low, high = estimate.get("low"), estimate.get("high")
    if low is not None and high is not None and low < high and low <= bound <= high:
        return Standing.UNCERTAIN
    return Standing.MET if passed else Standing.NOT_MET


def _comparison(name: str, own: Mapping[str, Number], difference: Mapping[str, Number] | None, unit: str) -> Comparison:
    metric, value = _metric(name), own.get("value")
    gap = difference.get("value") if difference else None
    return Comparison(
        name=name,
        label=f"{metric.label} ({unit})" if unit and metric.in_unit else metric.label,
        description=metric.description,
        champion=NOTHING if not difference else number(None if value is None or gap is None else value - gap),
        challenger=number(value),
        interval=_interval(own),
        difference=signed(gap) if difference else "",
        difference_interval=_interval(difference, sign=True) if difference else "",
        reading=_reading(metric, difference) if difference else "",
        bar=_bar(difference) if difference else None,
    )


def _reading(metric: Metric, difference: Mapping[str, Number]) -> str:
    """Describe a difference in a few words.

    A difference is clear if its 95 % interval excludes 0. Counts are exact: their intervals have length 0, so every
    difference between counts is clear.
    """
    value, low, high = (difference.get(name) for name in ("value", "low", "high"))
    if value is None:
        return UNDEFINED
    if low is None or high is None or low <= 0 <= high:
        return "no clear difference" if value else "no difference"
    higher = low > 0
    if metric.higher_is_better is None:
        return "higher" if higher else "lower"
    return "better" if higher == metric.higher_is_better else "worse"


def _bar(difference: Mapping[str, Number]) -> Bar | None:
    value, low, high = (difference.get(name) for name in ("value", "low", "high"))
    if value is None or low is None or high is None or low == high:
        return None
    scale = 95 / max(abs(low), abs(high), abs(value))
    return Bar(round(value * scale, 1), round(low * scale, 1), round(high * scale, 1))


def _interval(one: Mapping[str, Number], *, sign: bool = False) -> str:
    low, high = one.get("low"), one.get("high")
    # Show no interval for a constant metric. The ends of its interval differ by at most a rounding error.
    if low is None or high is None or math.isclose(low, high, rel_tol=1e-9):
        return ""
    shown = signed if sign else number
    return f"{shown(low)} to {shown(high)}"


def _cell(one: Mapping[str, Number] | None) -> Cell:
    return Cell(NOTHING) if one is None else Cell(number(one.get("value")), _interval(one))


def _metric(name: str) -> Metric:
    return find_metric(name) or Metric(name.replace("_", " ").capitalize(), "")


def _mapping(evidence: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = evidence.get(name)
    return found if isinstance(found, dict) else {}
