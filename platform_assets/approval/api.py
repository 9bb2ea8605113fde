"""HTTP routes for approval requests: list, show, plots and decisions. Programs get JSON, browsers get pages.

The ledger checks who may decide. This module validates the input and passes it on.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, BeforeValidator, Field, ValidationError
from starlette.responses import JSONResponse, RedirectResponse

from platform_assets.approval.decision_body import Decision
from platform_assets.approval.ledger_errors import AlreadyDecided, DecisionRefused, LedgerError, NoSuchRequest
from platform_assets.approval.ledger_events import closing_event
from platform_assets.approval.ledger_queries import open_first
from platform_assets.approval.pages import (
    Form,
    Record,
    find_consoles,
    list_page,
    plot_links,
    request_page,
    sent_form,
)
from platform_assets.approval.requests import Actor, State
from platform_assets.approval.shadows import ShadowLedger
from platform_assets.base.json_values import JSON
from platform_assets.web.authentication import APPROVE, READ, access_of
from platform_assets.web.authorization import content_type
from platform_assets.web.browser_sessions import CSRF_FIELD
from platform_assets.web.one_or_many import plain_digits
from platform_assets.web.pages import wants_page
from platform_assets.web.paging import ItemsPerPage, Page, PageNumber
from platform_assets.web.problems import Problem, documented, invalid
from platform_assets.web.request_bodies import StrictRequest, parse
from platform_assets.web.routers import checks_access_itself

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from platform_assets.approval.ledger import Ledger
    from platform_assets.approval.ledger_events import Event
    from platform_assets.approval.pages import Consoles
    from platform_assets.approval.requests import Request as Approval
    from platform_assets.services import Services
    from platform_assets.web.authentication import Caller

_MAX_ID = 2**63 - 1


class ChampionShown(BaseModel):
    """The champion at the time when the request was made."""

    version: int
    digest: str


class EventShown(BaseModel):
    """One event of a request."""

    sequence: int
    kind: str
    state: State
    actor: str
    authenticated: bool
    how: str
    reason: str | None
    override: bool
    at: datetime
    seen_report: Annotated[
        int | None, Field(description="Event number of the shadow report that the person saw; null if none.")
    ]
    shadow_report: Annotated[
        dict[str, Any] | None, Field(description="The shadow report that this event records; otherwise null.")
    ]


class RequestShown(BaseModel):
    """A request for approval."""

    id: int
    model: str
    version: int
    digest: str
    state: State
    gate_passed: bool
    launched_by: str | None
    requested_by: str | None
    created_at: datetime
    expires_at: datetime
    champion: ChampionShown | None


class RequestWithEvidence(RequestShown):
    """A request with its frozen evidence and its history."""

    evidence: dict[str, Any]
    plots: list[str]
    history: list[EventShown]
    decision: EventShown | None


@dataclass(frozen=True)
class Sent:
    """The submitted decision: the fields of a form, or a JSON body if `fields` is None."""

    fields: Mapping[str, str] | None
    json: bytes = b""


RequestId = Annotated[
    int,
    Path(alias="id", ge=1, le=_MAX_ID, description="The request's number.", examples=[7]),
    BeforeValidator(plain_digits),
]


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the schema without null types and null defaults, because the fields of a form cannot be null."""
    fields = {}
    for name, field in schema["properties"].items():
        [kind] = [one for one in field.pop("anyOf", [{}]) if one.get("type") != "null"]
        fields[name] = {key: value for key, value in (field | kind).items() if value is not None}
    return {**schema, "properties": fields}


_BODY: Mapping[str, Any] = {
    "required": True,
    "content": {
        JSON: {
            "schema": Decision.model_json_schema(),
            "example": {"decision": "reject", "reason": "Recall in the north fell by 10 %."},
        },
        "application/x-www-form-urlencoded": {"schema": _without_null(Decision.model_json_schema())},
    },
}


def router(services: Services) -> APIRouter:
    """Return the routes. A service that runs from a bundle has none, because decisions need the database.

    Parameters
    ----------
    services
        The platform's services.
    """
    if services.bundle:
        return APIRouter()

    def ledger() -> Ledger:
        return services.ledger

    routes = APIRouter(tags=["approvals"], responses=documented(401, 403, 422, 429, 503))
    _add_list(routes, ledger)
    consoles = partial(find_consoles, services.settings)
    _add_request(routes, ledger, consoles)
    _add_plot(routes, ledger)
    _add_decision(routes, ledger, consoles)
    return routes


def _add_list(routes: APIRouter, ledger: Callable[[], Ledger]) -> None:
    @routes.get("/approvals", response_model=list[RequestShown])
    @checks_access_itself
    def list_requests_for_approval(
        request: Request,
        model: Annotated[str | None, Query(description="Only this model.", max_length=200)] = None,
        state: Annotated[State | None, Query(description="Only requests in this state.")] = None,
        page: PageNumber = 0,
        items_per_page: ItemsPerPage = 50,
    ) -> Response:
        """List approval requests: open ones first, newest first. Browsers get a page, programs get JSON."""
        access_of(request).demand(request, READ, APPROVE)
        # Record expiries first, so that no expired request is listed as pending.
        ledger().expire()
        every = open_first(ledger().requests())
        found = [one for one in every if model in {None, one.model} and state in {None, one.state}]
        part = Page(page, items_per_page, len(found), request.url.path, request.query_params.multi_items())
        if not wants_page(request):
            return _json([RequestShown(**_fields(one)) for one in part.of(found)], part.headers)
        return list_page(request, every, part.of(found), part, model=model, state=state)


def _add_request(routes: APIRouter, ledger: Callable[[], Ledger], consoles: Callable[[Request], Consoles]) -> None:
    @routes.get("/approvals/{id}", response_model=RequestWithEvidence, responses=documented(404))  # noqa: FAST003 - the parameter has an alias
    @checks_access_itself
    def show_request_for_approval(request: Request, number: RequestId) -> Response:
        """Show a request with its evidence and history. Browsers get a page, programs get JSON."""
        caller = access_of(request).demand(request, READ, APPROVE)
        approval = _found(ledger(), number)
        if not wants_page(request):
            return _json(_in_full(ledger(), approval))
        form = Form(uuid.uuid4().hex)
        return request_page(request, _record(ledger(), approval), caller, form, consoles(request))


def _add_plot(routes: APIRouter, ledger: Callable[[], Ledger]) -> None:
    @routes.get(
        "/approvals/{id}/plots/{name}",  # noqa: FAST003 - the parameter has an alias
        response_class=Response,
        responses={200: {"content": {"image/png": {}}, "description": "The plot."}, **documented(404)},
    )
    @checks_access_itself
    def show_plot_of_request(
        request: Request,
        number: RequestId,
        name: Annotated[str, Path(max_length=200, description="File name, for example roc.png.")],
    ) -> Response:
        """Return a plot of a request's evidence."""
        access_of(request).demand(request, READ, APPROVE)
        known = _found(ledger(), number).plot_digests
        plot = ledger().plots(number).get(name)
        if plot is None:
            told = f"Request {number} has no plot {name!r}; its plots: {', '.join(known) or 'none'}."
            raise Problem(HTTPStatus.NOT_FOUND, told)
        # The browser may cache plots, because they never change. Proxies may not, because plots need a key.
        return Response(plot, media_type="image/png", headers={"Cache-Control": "private, max-age=3600"})


def _add_decision(routes: APIRouter, ledger: Callable[[], Ledger], consoles: Callable[[Request], Consoles]) -> None:
    @routes.post(
        "/approvals/{id}/decision",
        response_model=RequestWithEvidence,
        responses={
            303: {
                "description": "The decision from the form was recorded. "
                "The response redirects to the page of the request."
            },
            **documented(404, 409, 413, 415),
        },
        openapi_extra={"requestBody": _BODY},
    )
    @checks_access_itself
    def decide_request_for_approval(
        request: Request,
        number: RequestId,
        sent: Annotated[Sent, Depends(_sent)],
    ) -> Response:
        """Approve, reject or withdraw a request. Programs send JSON with a key in the header; the page sends a form."""
        caller = access_of(request).demand(request, APPROVE)
        if caller.session and sent.fields is None:
            raise Problem(
                HTTPStatus.FORBIDDEN,
                "A decision as JSON needs the header `Authorization: Bearer <key>`.",
                "forged-form",
            )
        if caller.session:
            access_of(request).sessions.demand_token(caller.session, (sent.fields or {}).get(CSRF_FIELD, ""))
        approval = _found(ledger(), number)
        try:
            decided = _decide(ledger(), approval, caller, _decision(sent))
        except Problem as problem:
            if caller.session and sent.fields is not None and wants_page(request):
                # Read the request again, because another person may have decided in the meantime.
                standing = _found(ledger(), number)
                form = sent_form(sent.fields, problem)
                return request_page(request, _record(ledger(), standing), caller, form, consoles(request))
            raise
        if sent.fields is not None:
            return RedirectResponse(f"/approvals/{number}", HTTPStatus.SEE_OTHER)
        return _json(_in_full(ledger(), decided))


async def _sent(request: Request) -> Sent:
    # Check access before reading the body, so that callers without a key cannot make the service wait for a body.
    await run_in_threadpool(access_of(request).demand, request, APPROVE)
    kind = content_type(request)
    if kind in {"application/x-www-form-urlencoded", "multipart/form-data"}:
        form = await StrictRequest(request.scope, request.receive).form(max_files=0, max_fields=20)
        return Sent({name: value for name, value in form.items() if isinstance(value, str)})
    if kind == JSON:
        return Sent(None, await request.body())
    raise Problem(
        HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
        f"The content type is {kind or 'missing'}; send application/json, or a form as "
        "application/x-www-form-urlencoded.",
    )


def _decision(sent: Sent) -> Decision:
    try:
        if sent.fields is None:
            decision = Decision.model_validate_json(sent.json)
            # Refuse JSON in which a name is repeated, because pydantic would use the last value.
            parse(sent.json)
            return decision
        # A browser sends a line break as "\r\n", but counts it as one character for `maxlength`.
        fields = {name: value.replace("\r\n", "\n") for name, value in sent.fields.items() if name != CSRF_FIELD}
        # A browser omits a radio button that is not selected.
        return Decision.model_validate({"decision": "", "reason": ""} | fields)
    except ValidationError as error:
        raise invalid(error.errors(include_url=False, include_context=False, include_input=False)) from None


def _decide(ledger: Ledger, approval: Approval, caller: Caller, decision: Decision) -> Approval:
    actor = Actor(caller.key.owner, caller.secret)
    try:
        return ledger.decide(
            approval.id,
            decision.decision,
            actor,
            decision.reason,
            override=decision.override,
            delivery=decision.delivery,
            seen=decision.seen_report,
        )
    except AlreadyDecided as error:
        standing = {"state": error.request.state, "decision": _event(error.event).model_dump(mode="json")}
        raise Problem(HTTPStatus.CONFLICT, str(error), "already-decided", more=standing) from None
    except DecisionRefused as error:
        raise Problem(HTTPStatus.FORBIDDEN, str(error), "decision-refused") from None
    except LedgerError as error:
        if error.__cause__ is not None:
            raise
        raise Problem(HTTPStatus.CONFLICT, str(error), "does-not-follow") from None


def _found(ledger: Ledger, number: int) -> Approval:
    ledger.expire()
    try:
        return ledger.request(number)
    except NoSuchRequest:
        told = f"There is no request {number}; /approvals lists those that exist."
        raise Problem(HTTPStatus.NOT_FOUND, told, "no-such-request") from None


def _record(ledger: Ledger, approval: Approval) -> Record:
    return Record(approval, ledger.history(approval.id), ShadowLedger(ledger).shadow(approval.id))


def _fields(approval: Approval) -> dict[str, Any]:
    return {
        "id": approval.id,
        "model": approval.model,
        "version": approval.version,
        "digest": approval.digest,
        "state": approval.state,
        "gate_passed": approval.passed,
        "launched_by": approval.launched_by,
        "requested_by": approval.requested_by,
        "created_at": approval.created_at,
        "expires_at": approval.expires_at,
        "champion": (
            ChampionShown(version=approval.champion[0], digest=approval.champion[1]) if approval.champion else None
        ),
    }


def _in_full(ledger: Ledger, approval: Approval) -> RequestWithEvidence:
    history = ledger.history(approval.id)
    closing = closing_event(history)
    return RequestWithEvidence(
        **_fields(approval),
        evidence=dict(approval.evidence),
        plots=[plot["href"] for plot in plot_links(approval)],
        history=[_event(event) for event in history],
        decision=_event(closing) if closing else None,
    )


def _event(event: Event) -> EventShown:
    return EventShown(
        sequence=event.sequence,
        kind=event.kind,
        state=event.state,
        actor=event.actor,
        authenticated=event.authenticated,
        how=event.how,
        reason=event.reason,
        override=event.override,
        at=event.at,
        seen_report=event.seen_report,
        shadow_report=dict(event.details) if event.kind == "report_shadow" else None,
    )


def _json(shown: BaseModel | Sequence[BaseModel], headers: Mapping[str, str] | None = None) -> JSONResponse:
    body = shown.model_dump(mode="json") if isinstance(shown, BaseModel) else [o.model_dump(mode="json") for o in shown]
    return JSONResponse(body, headers={"Vary": "Accept, Authorization, Cookie", **(headers or {})})
