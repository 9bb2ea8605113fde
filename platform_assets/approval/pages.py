"""The pages by which people see and decide requests for approval: the list, and one request with its evidence."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from functools import cache
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from markupsafe import Markup

from platform_assets.approval.comparison import comparisons, reasons, subgroups
from platform_assets.approval.ledger_events import closing_event
from platform_assets.approval.policy import ANYONE
from platform_assets.approval.requests import State
from platform_assets.web.authentication import APPROVE
from platform_assets.web.number_formats import number
from platform_assets.web.pages import render

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from fastapi import Request, Response
    from markdown_it import MarkdownIt

    from platform_assets.approval.ledger_events import Event
    from platform_assets.approval.requests import Request as Approval
    from platform_assets.web.authentication import Caller
    from platform_assets.web.paging import Page
    from platform_assets.web.problems import Problem

TEMPLATES = Path(__file__).with_name("templates")
MAX_REASON = 2_000
DECISIONS = {
    "approve": ("Approve", "It becomes the champion as soon as the promotion has run."),
    "reject": ("Reject", "The champion stays. A new training makes a new request."),
    "withdraw": ("Withdraw", "Take the request back, without judging the model."),
}
"""What a person can decide, and what comes of it."""
HAPPENED = {
    "request": "Requested",
    "approve": "Approved",
    "reject": "Rejected",
    "withdraw": "Withdrawn",
    "expire": "Expired",
    "supersede": "Superseded",
    "promote": "Promoted",
    "fail": "Not promoted",
    "roll_back": "Rolled back",
}
"""Kinds of events, for people."""
PLOTS = {
    "roc": "ROC curve",
    "precision_recall": "Precision over recall",
    "calibration": "Calibration",
    "confusion": "Confusion matrix",
    "scores": "Distribution of the scores",
    "importance": "Importance of the features",
}
"""What people call the plots, in their order; others come after them, and are called by their files' names."""


@dataclass(frozen=True)
class Form:
    """What the page's form holds when it is shown."""

    delivery: str
    decision: str = ""
    reason: str = ""
    override: bool = False


def list_page(
    request: Request,
    every: Sequence[Approval],
    listed: Sequence[Approval],
    part: Page,
    *,
    model: str | None,
    state: State | None,
) -> Response:
    """Return the page that lists requests for approval.

    Parameters
    ----------
    request
        Of the browser.
    every
        All requests for approval.
    listed
        Those that this page lists.
    part
        Which part of the whole list that is.
    model, state
        What the list is of; None for all.
    """
    return render(
        request,
        "approvals.html",
        folder=TEMPLATES,
        rows=listed,
        pending=sum(one.state is State.PENDING for one in every),
        filters=_filters(every, model, state),
        page=part.number,
        total=part.total,
        previous_page=part.neighbours.get("prev"),
        next_page=part.neighbours.get("next"),
    )


def request_page(
    request: Request,
    approval: Approval,
    history: Sequence[Event],
    caller: Caller,
    form: Form,
    problem: Problem | None = None,
) -> Response:
    """Return the page of one request: challenger beside champion, all evidence, and the form to decide by.

    Parameters
    ----------
    request
        Of the browser.
    approval, history
        The request for approval, and its events.
    caller
        Who asks; the form is for those who may decide.
    form
        What it holds.
    problem
        Why a decision was not recorded; None where none was tried.
    """
    card = approval.evidence.get("card")
    return render(
        request,
        "approval.html",
        problem.status_code if problem else HTTPStatus.OK,
        TEMPLATES,
        problem=problem,
        request_=approval,
        demo=approval.evidence.get("demo") is True,
        reasons=reasons(approval.evidence),
        comparisons=comparisons(approval.evidence),
        subgroups=subgroups(approval.evidence),
        plots=plot_links(approval),
        # What markdown-it made of it holds tags of emphasis, code and lists alone; the rest it escaped.
        card=Markup(_prose().render(card)) if isinstance(card, str) else None,  # noqa: S704 - rendered without HTML, see _prose
        facts=_facts(approval),
        history=history,
        happened=HAPPENED,
        outcome=_outcome(history),
        votes=[event.actor for event in history if event.kind == "approve"],
        may_decide=APPROVE in caller.key.scopes,
        may_override=not approval.passed and _is_one_of(caller.key.owner, approval.policy.may_override),
        rules=_rules(approval),
        choices=[(value, *told) for value, told in DECISIONS.items()],
        form=form,
        max_reason=MAX_REASON,
    )


def sent_form(fields: Mapping[str, str]) -> Form:
    """Return the form as it was sent, to be shown again."""
    return Form(
        fields.get("delivery") or uuid.uuid4().hex,
        fields.get("decision", ""),
        fields.get("reason", ""),
        override="override" in fields,
    )


def plot_links(approval: Approval) -> list[dict[str, str]]:
    """Return the plots of a request, each with its address and what people call it, in their order."""
    order = list(PLOTS)
    stems = {name.removesuffix(".png"): name for name in sorted(approval.plot_digests)}
    return [
        {
            "href": f"/approvals/{approval.id}/plots/{quote(stems[stem], safe='')}",
            "title": PLOTS.get(stem, stem.replace("_", " ").capitalize()),
        }
        for stem in sorted(stems, key=lambda stem: order.index(stem) if stem in PLOTS else len(order))
    ]


@cache
def _prose() -> MarkdownIt:
    """Bold, italics, code and lists; no links, no images, and above all no HTML."""
    from markdown_it import MarkdownIt

    return MarkdownIt("zero").enable(["emphasis", "list", "backticks"])


def _facts(approval: Approval) -> list[tuple[str, str]]:
    found = approval.evidence
    tables, digests = found.get("tables") or {}, found.get("table_digests") or {}
    record = found.get("record") or {}
    split = record.get("split") or {}
    facts = [
        ("Launched by", approval.launched_by or "nobody knows"),
        ("Requested by", approval.requested_by),
        ("Champion at that time", f"version {approval.champion_version}" if approval.champion else "there was none"),
        ("Kind of model", record.get("candidate")),
        ("Examples", _examples(split)),
        ("Threshold", number(approval.threshold)),
        *((f"Table {name}", f"version {number}, {digests.get(name, '')}") for name, number in tables.items()),
        ("Code", _code(found)),
        ("Libraries (digest of uv.lock)", found.get("lock_digest")),
        ("Model's file", approval.digest),
    ]
    return [(term, str(value)) for term, value in facts if value]


def _code(evidence: Mapping[str, Any]) -> str | None:
    tags = (evidence.get("registered") or {}).get("tags") or {}
    # Requests of older platforms have the code version as `git_commit`.
    return tags.get("code_version") or evidence.get("git_commit")


def _examples(split: Mapping[str, Any]) -> str:
    trained, held = split.get("training_rows"), split.get("holdout_rows")
    return f"{number(trained)} to train on, {number(held)} held out" if trained and held else ""


def _rules(approval: Approval) -> list[str]:
    """The model's policy, for people; the ledger enforces it."""
    policy = approval.policy
    who = "whoever has a key with the scope approve" if policy.approvers == ANYONE else ", ".join(policy.approvers)
    rules = [f"Decided by {who}."]
    if policy.approvals > 1:
        rules.append(f"{policy.approvals} different people have to approve; one rejection ends it.")
    if policy.four_eyes:
        rules.append("Who launched the training, or made the request, may not approve.")
    return rules


def _is_one_of(name: str, names: Sequence[str]) -> bool:
    return name.strip().casefold() in {one.strip().casefold() for one in names}


def _outcome(history: Sequence[Event]) -> list[Event]:
    """What closed the request, and what came of it last; nothing while it waits."""
    closing = closing_event(history)
    return [] if closing is None else [closing] if history[-1] == closing else [closing, history[-1]]


def _filters(
    every: Sequence[Approval], model: str | None, state: State | None
) -> list[tuple[str, list[dict[str, Any]]]]:
    def links(field: str, chosen: str | None, values: Sequence[str]) -> list[dict[str, Any]]:
        others = {"model": model, "state": state} | {field: None}
        return [
            {
                "text": "all" if value is None else value.replace("_", " ").lower() if field == "state" else value,
                "href": "/approvals" + _query({**others, field: value}),
                "current": value == chosen,
            }
            for value in (None, *values)
        ]

    models = sorted({one.model for one in every})
    states = [one for one in State if any(request.state is one for request in every)]
    return [("State", links("state", state, states)), ("Model", links("model", model, models))]


def _query(fields: Mapping[str, str | None]) -> str:
    chosen = {name: str(value) for name, value in fields.items() if value is not None}
    return f"?{urlencode(chosen)}" if chosen else ""
