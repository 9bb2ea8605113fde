"""A request's frozen evidence as people read it: challenger beside champion, number by number, in words.

Evidence is JSON that was frozen when the request was made, perhaps by an older version of this code: what is not
there is left out, and what is there is text of others. No HTML here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from platform_assets.evaluation.metrics import METRICS, Metric
from platform_assets.web.number_formats import UNDEFINED, Number, number, signed

if TYPE_CHECKING:
    from collections.abc import Mapping

SUBGROUP_METRICS = ("rows", "base_rate", "roc_auc", "recall", "precision", "f1", "flagged", "calibration_error")
"""What is shown of each subgroup."""
NOTHING = "\N{EN DASH}"


@dataclass(frozen=True)
class Bar:
    """A difference and its interval as a picture; no difference is at 0, and all of it between -100 and 100."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Comparison:
    """One metric of challenger and champion on the same examples.

    Attributes
    ----------
    name, label, description
        Which metric, and what it means.
    champion, challenger
        The values, as text; that of the champion is the challenger's less the difference.
    interval
        Of the challenger's value, 95 %, as text; empty where there is none.
    difference, difference_interval
        Challenger less champion, as text; empty without a champion.
    reading
        `better`, `worse`, `higher`, `lower`, `no clear difference`, `no difference` or `undefined`; empty without a
        champion.
    bar
        The difference drawn; None where there is none to draw.
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
    """A value and its 95 % interval, as text; the latter is empty where there is none."""

    value: str
    interval: str = ""


@dataclass(frozen=True)
class Subgroups:
    """Metrics by the values of one column.

    Attributes
    ----------
    column
        By what the examples are divided.
    headings
        Names of the metrics.
    rows
        Each value with its metrics, in the order of the headings.
    """

    column: str
    headings: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Cell, ...]], ...]


def comparisons(evidence: Mapping[str, Any]) -> list[Comparison]:
    """Every metric that was measured, in the order of `METRICS`; those that it does not know come last."""
    metrics, differences = _mapping(evidence, "metrics"), _mapping(evidence, "difference")
    return [
        _comparison(name, metrics[name], differences.get(name))
        for name in (*(name for name in METRICS if name in metrics), *sorted(set(metrics) - set(METRICS)))
    ]


def subgroups(evidence: Mapping[str, Any]) -> list[Subgroups]:
    """The metrics of subgroups, column by column."""
    found = []
    for column, values in _mapping(evidence, "subgroups").items():
        shown = [name for name in SUBGROUP_METRICS if any(name in one for one in values.values())]
        rows = ((str(value), tuple(_cell(one.get(name)) for name in shown)) for value, one in sorted(values.items()))
        found.append(Subgroups(column, tuple(_metric(name).label for name in shown), tuple(rows)))
    return found


def reasons(evidence: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """What became of each demand of the gate; those that were not met come first."""
    return sorted(_mapping(evidence, "verdict").get("reasons") or [], key=lambda one: bool(one.get("passed")))


def _comparison(name: str, own: Mapping[str, Number], difference: Mapping[str, Number] | None) -> Comparison:
    metric, value = _metric(name), own.get("value")
    gap = difference.get("value") if difference else None
    return Comparison(
        name=name,
        label=metric.label,
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
    """A difference is clear when its interval leaves out 0; rows and positives have no interval but themselves."""
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
    if low is None or high is None or low == high:
        return ""
    shown = signed if sign else number
    return f"{shown(low)} to {shown(high)}"


def _cell(one: Mapping[str, Number] | None) -> Cell:
    return Cell(NOTHING) if one is None else Cell(number(one.get("value")), _interval(one))


def _metric(name: str) -> Metric:
    return METRICS.get(name) or Metric(name.replace("_", " ").capitalize(), "")


def _mapping(evidence: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = evidence.get(name)
    return found if isinstance(found, dict) else {}
