"""The section about a shadow on the page of a request, and the same facts as lines of text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from platform_assets.approval.evidence import UNREADABLE
from platform_assets.approval.shadows import newest_report
from platform_assets.base.printable_text import escaped
from platform_assets.web.number_formats import number, signed

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from platform_assets.approval.ledger_events import Event
    from platform_assets.approval.requests import Request
    from platform_assets.approval.shadows import Shadow

_QUANTILES = {"0.5": "Half of the rows", "0.9": "90 % of the rows", "0.99": "99 % of the rows", "1": "All rows"}


@dataclass(frozen=True)
class Disagreement:
    """One of the rows for which the decisions or scores of the two versions differ most."""

    request_id: str
    item: str
    champion: str
    challenger: str
    difference: str
    agrees: bool


@dataclass(frozen=True)
class ShadowSection:
    """The section about a shadow.

    Attributes
    ----------
    shadow
        The shadow to describe.
    report
        The newest report; None if there is none.
    agreement
        Share of rows for which both versions agree, as a sentence; empty without rows.
    counts
        Number of scored rows, of requests, and of rows that were not scored.
    differences
        Label and value of each quantile of the absolute difference between the scores.
    mean
        Mean difference, challenger minus champion.
    disagreements
        The largest disagreements.
    """

    shadow: Shadow
    report: Event | None
    agreement: str = ""
    counts: str = ""
    differences: tuple[tuple[str, str], ...] = ()
    mean: str = ""
    disagreements: tuple[Disagreement, ...] = ()


def shadow_section(shadow: Shadow | None, request: Request, history: Sequence[Event]) -> ShadowSection | None:
    """Return the section of a request; None if its version never ran as a shadow."""
    if shadow is None:
        return None
    event = newest_report(history)
    if event is None:
        return ShadowSection(shadow, None)
    try:
        return _section(shadow, request, event)
    except UNREADABLE:
        return ShadowSection(shadow, event, counts="its content cannot be read")


def _section(shadow: Shadow, request: Request, event: Event) -> ShadowSection:
    report: Mapping[str, Any] = event.details
    rows = report["rows"]
    return ShadowSection(
        shadow=shadow,
        report=event,
        agreement=_agreement(request, report) if rows else "",
        counts=_counts(report),
        differences=tuple((label, number(report["differences"].get(name))) for name, label in _QUANTILES.items())
        if rows
        else (),
        mean=signed(report["mean_difference"]) if rows else "",
        disagreements=tuple(
            Disagreement(
                request_id=escaped(str(one["request_id"])),
                item=str(one["item"] + 1),
                champion=number(one["champion"]),
                challenger=number(one["challenger"]),
                difference=signed(one["challenger"] - one["champion"]),
                agrees=one["agrees"],
            )
            for one in report["disagreements"]
        ),
    )


def told_shadow(section: ShadowSection) -> Iterator[str]:
    """Yield the facts about a shadow, line by line."""
    shadow = section.shadow
    state = f"ended: {shadow.ended}" if shadow.ended else f"runs until {shadow.until:%Y-%m-%d %H:%M} UTC"
    yield f"shadow: started {shadow.since:%Y-%m-%d %H:%M} UTC, {state}"
    if section.report is None:
        yield "  no report yet"
        return
    yield f"  report {section.report.sequence} of {section.report.at:%Y-%m-%d %H:%M} UTC: {section.counts}"
    if not section.agreement:
        return
    yield f"  {section.agreement}"
    quantiles = ", ".join(f"{value} for {label.lower()}" for label, value in section.differences)
    yield f"  the scores differ by at most {quantiles}; mean difference {section.mean}"
    for one in section.disagreements:
        told = "" if one.agrees else ", disagree"
        yield f"  request {one.request_id} row {one.item}: champion {one.champion}, challenger {one.challenger}{told}"


def _agreement(request: Request, report: Mapping[str, Any]) -> str:
    share = f"{100 * report['agreeing'] / report['rows']:.1f} %"
    if request.threshold is None:
        return f"{share}: the challenger's interval contains the champion's value"
    return f"{share}: both versions make the same decision"


def _several(count: int, noun: str) -> str:
    return f"{number(count)} {noun}{'' if count == 1 else 's'}"


def _counts(report: Mapping[str, Any]) -> str:
    told = f"{_several(report['rows'], 'row')} of {_several(report['requests'], 'request')}"
    lost = [f"{number(report[name])} {name}" for name in ("dropped", "failed") if report[name]]
    why = f" ({escaped(str(report['reason']))})" if report["reason"] else ""
    return told + (f"; rows not scored: {', '.join(lost)}{why}" if lost else "")
