"""HTML pages: the list of approval requests, and one request with its evidence and the decision form."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from functools import cache
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from markupsafe import Markup

from platform_assets.approval.comparison import Standing, comparisons, outcomes, subgroups
from platform_assets.approval.evidence import UNREADABLE
from platform_assets.approval.ledger_events import closing_event
from platform_assets.approval.policy import ANYONE
from platform_assets.approval.requests import UNVERIFIED, State
from platform_assets.approval.shadow_section import shadow_section
from platform_assets.base.printable_text import escaped
from platform_assets.web.authentication import APPROVE
from platform_assets.web.number_formats import number
from platform_assets.web.pages import render

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from fastapi import Request, Response
    from markdown_it import MarkdownIt

    from platform_assets.approval.ledger_events import Event
    from platform_assets.approval.requests import Request as Approval
    from platform_assets.approval.shadows import Shadow
    from platform_assets.settings import Settings
    from platform_assets.web.authentication import Caller
    from platform_assets.web.paging import Page
    from platform_assets.web.problems import Problem

TEMPLATES = Path(__file__).with_name("templates")
MAX_REASON = 2_000
DECISIONS = {
    "approve": ("Approve", "The version becomes the champion once the promotion has run."),
    "reject": ("Reject", "The champion stays. A new version opens a new request."),
    "withdraw": ("Withdraw", "Close the request without approving or rejecting the model."),
}
"""Label and consequence of each decision, as the form shows them."""
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
    "start_shadow": "Shadow started",
    "report_shadow": "Shadow reported",
    "stop_shadow": "Shadow stopped",
}
"""Label of each kind of event."""
PLOTS = {
    "last_week": "Predicted and true values of the last week",
    "residuals": "Errors over time",
    "values": "Predicted and true values",
    "error_by_group": "Error by group",
    "coverage_by_group": "Interval coverage by group",
    "roc": "ROC curve",
    "precision_recall": "Precision-recall curve",
    "calibration": "Calibration",
    "confusion": "Confusion matrix",
    "costs": "Cost of errors",
    "scores": "Score distribution",
    "importance": "Feature importance",
    "decision_surface": "Decision surface",
    "learning_curve": "Learning curve",
    "fit_times": "Fit time",
}
"""Titles of plots, in the order of the page. Other plots follow; their titles are made from the file names."""


STANDINGS = {
    Standing.MET: "good",
    Standing.UNCERTAIN: "warn",
    Standing.NOT_MET: "bad",
    Standing.NOT_APPLICABLE: "neutral",
}
"""CSS class of each state of a criterion."""


@dataclass(frozen=True)
class Consoles:
    """Addresses of the web interfaces of Dagster and MLflow; empty for no links."""

    dagster: str = ""
    mlflow: str = ""

    def dagster_run(self, run: str | None) -> str:
        """Return the address of a Dagster run."""
        return f"{self.dagster}/runs/{quote(run, safe='')}" if self.dagster and run else ""

    def mlflow_run(self, run: str | None) -> str:
        """Return the address of an MLflow run."""
        return f"{self.mlflow}/#/runs/{quote(run, safe='')}" if self.mlflow and run else ""

    def version(self, model: str, version: int) -> str:
        """Return the address of a model version in MLflow."""
        return f"{self.mlflow}/#/models/{quote(model, safe='')}/versions/{version}" if self.mlflow else ""

    def table(self, name: str) -> str:
        """Return the address of the Dagster page that lists the materialisations of a table's asset."""
        return f"{self.dagster}/assets/{quote(name)}?view=events" if self.dagster else ""


def find_consoles(settings: Settings, request: Request) -> Consoles:
    """Return the addresses of Dagster and MLflow from the settings; in development, default to those of `make up`."""
    if settings.env == "production":
        return Consoles(settings.dagster_url, settings.mlflow_url)
    host = request.url.hostname or "localhost"
    host = f"http://[{host}]" if ":" in host else f"http://{host}"
    return Consoles(
        settings.dagster_url or f"{host}:{settings.dagster_port}",
        settings.mlflow_url or f"{host}:{settings.mlflow_port}",
    )


@dataclass(frozen=True)
class Record:
    """A request for approval, its events, and the shadow of its version. `shadow` is None if there was none."""

    approval: Approval
    history: Sequence[Event]
    shadow: Shadow | None


@dataclass(frozen=True)
class Fact:
    """A line about the origin of the evidence; `href` is empty if the line has no link."""

    term: str
    value: str
    href: str = ""


@dataclass(frozen=True)
class Form:
    """Contents of the decision form. `problem` says why a submitted decision was not recorded; otherwise None."""

    delivery: str
    decision: str = ""
    reason: str = ""
    override: bool = False
    problem: Problem | None = None


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
        The HTTP request.
    every
        All requests for approval.
    listed
        The requests on this page.
    part
        Position of this page in the list.
    model, state
        Filters of the list; None for all.
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


def request_page(request: Request, record: Record, caller: Caller, form: Form, consoles: Consoles) -> Response:
    """Return the page of one request: challenger and champion, the evidence, and the decision form.

    Parameters
    ----------
    request
        The HTTP request.
    record
        The request for approval with its events and its shadow.
    caller
        The signed-in person. The page has a form only if this person may decide.
    form
        Contents of the form, and the problem if the decision was refused.
    consoles
        Addresses of Dagster and MLflow, for links to the origin of the evidence.
    """
    approval, history = record.approval, record.history
    card, problem = approval.evidence.get("card"), form.problem
    return render(
        request,
        "approval.html",
        problem.status_code if problem else HTTPStatus.OK,
        TEMPLATES,
        problem=problem,
        request_=approval,
        demo=approval.evidence.get("demo") is True,
        standings=STANDINGS,
        **_shown_evidence(approval, consoles),
        shadow=shadow_section(record.shadow, approval, history),
        plots=plot_links(approval),
        # Safe, because markdown-it emits only emphasis, code and list tags, and escapes the rest.
        card=Markup(_prose().render(card)) if isinstance(card, str) else None,  # noqa: S704 - rendered without HTML, see _prose
        history=history,
        happened=HAPPENED,
        outcome=_outcome(history),
        votes=[event.who for event in history if event.kind == "approve"],
        may_decide=APPROVE in caller.key.scopes,
        may_override=not approval.passed and _is_one_of(caller.key.owner, approval.policy.may_override),
        rules=_rules(approval),
        choices=[(value, *told) for value, told in DECISIONS.items()],
        form=form,
        max_reason=MAX_REASON,
    )


def sent_form(fields: Mapping[str, str], problem: Problem) -> Form:
    """Return the form with the submitted contents, so that the page can show it again."""
    return Form(
        fields.get("delivery") or uuid.uuid4().hex,
        fields.get("decision", ""),
        fields.get("reason", ""),
        override="override" in fields,
        problem=problem,
    )


def plot_links(approval: Approval) -> list[dict[str, str]]:
    """Return address and title of each plot of a request, in the order of the page."""
    order = list(PLOTS)
    stems = {name.removesuffix(".png"): name for name in sorted(approval.plot_digests)}
    return [
        {
            "href": f"/approvals/{approval.id}/plots/{quote(stems[stem], safe='')}",
            "title": PLOTS.get(stem, stem.replace("_", " ").capitalize()),
        }
        for stem in sorted(stems, key=lambda stem: order.index(stem) if stem in PLOTS else len(order))
    ]


def _shown_evidence(approval: Approval, consoles: Consoles) -> dict[str, Any]:
    """Return the parts of the page that come from the evidence; empty parts if the evidence cannot be read."""
    try:
        return {
            "outcomes": outcomes(approval.evidence),
            "comparisons": comparisons(approval.evidence),
            "subgroups": subgroups(approval.evidence),
            "facts": _facts(approval, consoles),
            "is_readable": True,
        }
    except UNREADABLE:
        facts = [Fact("Launched by", _name(approval.launched_by) or "unknown"), Fact("Model file", approval.digest)]
        return {"outcomes": [], "comparisons": [], "subgroups": [], "facts": facts, "is_readable": False}


@cache
def _prose() -> MarkdownIt:
    """Return a Markdown parser for bold, italics, code and lists; it ignores links, images and HTML."""
    from markdown_it import MarkdownIt

    return MarkdownIt("zero").enable(["emphasis", "list", "backticks"])


def _facts(approval: Approval, consoles: Consoles) -> list[Fact]:
    found = approval.evidence
    tables, digests = found.get("tables") or {}, found.get("table_digests") or {}
    record = found.get("record") or {}
    split, runs = record.get("split") or {}, found.get("runs") or {}
    facts = [
        ("Launched by", _name(approval.launched_by) or "unknown", ""),
        ("Requested by", _name(approval.requested_by), ""),
        ("Champion at that time", f"version {approval.champion_version}" if approval.champion else "none", ""),
        ("Dagster run", runs.get("dagster"), consoles.dagster_run(runs.get("dagster"))),
        ("MLflow run", runs.get("mlflow"), consoles.mlflow_run(runs.get("mlflow"))),
        ("MLflow version", f"{approval.model} {approval.version}", consoles.version(approval.model, approval.version)),
        ("Model type", record.get("candidate"), ""),
        ("Examples", _examples(split), ""),
        ("Threshold", None if approval.threshold is None else number(approval.threshold), ""),
        *(
            (f"Table {name}", f"version {version}, {digests.get(name, '')}", consoles.table(name))
            for name, version in tables.items()
        ),
        ("Code", _code(found), ""),
        ("Libraries (digest of uv.lock)", found.get("lock_digest"), ""),
        ("Model file", approval.digest, ""),
    ]
    return [Fact(term, str(value), href) for term, value, href in facts if value]


def _name(name: str | None) -> str:
    bare = (name or "").removeprefix(UNVERIFIED)
    return escaped(bare if bare == (name or "") else f"{bare} (identity not verified)")


def _code(evidence: Mapping[str, Any]) -> str | None:
    tags = (evidence.get("registered") or {}).get("tags") or {}
    # Requests from older releases have only `git_commit`.
    return tags.get("code_version") or evidence.get("git_commit")


def _examples(split: Mapping[str, Any]) -> str:
    trained, held = split.get("training_rows"), split.get("holdout_rows")
    return f"{number(trained)} for training, {number(held)} in the test set" if trained and held else ""


def _rules(approval: Approval) -> list[str]:
    """Return the policy in sentences, for display. The ledger enforces it."""
    policy = approval.policy
    who = "anyone with the scope approve" if policy.approvers == ANYONE else ", ".join(policy.approvers)
    rules = [f"May be decided by {who}."]
    if policy.approvals > 1:
        rules.append(f"{policy.approvals} different people have to approve. One rejection closes the request.")
    if policy.four_eyes:
        rules.append("The person who launched the training or made the request may not approve it.")
    return rules


def _is_one_of(name: str, names: Sequence[str]) -> bool:
    return name.strip().casefold() in {one.strip().casefold() for one in names}


def _outcome(history: Sequence[Event]) -> list[Event]:
    """Return the event that closed the request and, if different, the last event. Empty while pending."""
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
