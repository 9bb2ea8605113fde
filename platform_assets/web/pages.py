"""HTML: one environment of templates, what every page shows, and errors as pages.

Everything is escaped; there is no script. A page is what a browser asks for; programs get JSON.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from functools import cache, partial
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from starlette.responses import HTMLResponse, RedirectResponse

from platform_assets.base.json_values import JSON
from platform_assets.base.printable_text import escaped
from platform_assets.web.authentication import CSRF_FIELD
from platform_assets.web.number_formats import number
from platform_assets.web.problems import request_id

if TYPE_CHECKING:
    import jinja2
    from fastapi import Request
    from starlette.responses import Response

    from platform_assets.web.authentication import Access
    from platform_assets.web.problems import Problem

HERE = Path(__file__).parent
STATIC = HERE / "static"
TEMPLATES = HERE / "templates"
_NEXT = re.compile(r"/approvals(/\d{1,19})?(\?[\w=&.+%-]*)?", re.ASCII)
"""Where sign-in may lead: never to another site."""
_UNITS = (("day", 86_400), ("hour", 3_600), ("minute", 60))


def wants_page(request: Request) -> bool:
    """Whether the answer should be HTML: it is named, and JSON is not preferred to it."""
    wanted = {
        kind.strip(): _quality(parameters)
        for kind, _, parameters in (one.partition(";") for one in request.headers.get("accept", "").lower().split(","))
    }
    return wanted.get("text/html", 0.0) > 0 and wanted["text/html"] >= wanted.get(JSON, 0.0)


def render(
    request: Request, template: str, status: int = HTTPStatus.OK, folder: Path = TEMPLATES, **context: Any
) -> HTMLResponse:
    """Render a page, with what every page shows: who is signed in, and the token of its forms.

    Parameters
    ----------
    request
        The request to answer.
    template
        File name of the template; what it extends may be one of this room's.
    status
        HTTP status.
    folder
        Where the template is: beside the code that fills it.
    context
        What the template is filled with.
    """
    access: Access = request.app.state.access
    session = access.sessions.of(request)
    html = (
        _environment(folder)
        .get_template(template)
        .render(
            {
                "request": request,
                # Asking here would fail as well where the database is what failed.
                "caller": getattr(request.state, "caller", None),
                "csrf_field": CSRF_FIELD,
                "csrf_token": access.sessions.token(session),
                "now": datetime.now(UTC),
                "decides": request.app.state.decides,
                **context,
            }
        )
    )
    response = HTMLResponse(html, status, {"Vary": "Accept, Cookie"})
    if session.new:
        access.sessions.keep(request, response, session)
    return response


def problem_page(request: Request, problem: Problem) -> Response:
    """The problem as a page; who has to sign in is sent there."""
    if problem.status_code == HTTPStatus.UNAUTHORIZED and request.method == "GET" and request.app.state.decides:
        return from_elsewhere(request) or RedirectResponse(
            f"/sign-in?{urlencode({'next': path_of(request)})}", HTTPStatus.SEE_OTHER
        )
    response = render(
        request, "problem.html", problem.status_code, problem=problem, problem_request_id=request_id(request)
    )
    response.headers.update(problem.headers or {})
    return response


def from_elsewhere(request: Request) -> Response | None:
    """A page that opens itself again, for whoever follows a link from another site; None for others.

    A browser sends a strict cookie only from our own pages: without this, a link in a mail would lead
    people who are signed in to the sign-in page, and its new cookie would end their session.
    """
    if request.headers.get("sec-fetch-site") != "cross-site":
        return None
    html = _environment(TEMPLATES).get_template("from_elsewhere.html").render(path=path_of(request))
    return HTMLResponse(html, headers={"Vary": "Sec-Fetch-Site, Cookie"})


def path_of(request: Request) -> str:
    """Path and query of the request."""
    return quote(request.url.path) + (f"?{request.url.query}" if request.url.query else "")


def safe_next(path: str) -> str:
    """Where to go after signing in: the path asked for if it is one of our pages, else the list."""
    return path if _NEXT.fullmatch(path) else "/approvals"


def told_time(at: datetime) -> str:
    """A time for people."""
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def told_gap(gap: timedelta) -> str:
    """How long, in the largest unit that it fills: `3 days`."""
    seconds = abs(gap.total_seconds())
    for unit, size in _UNITS:
        if seconds >= size:
            count = int(seconds // size)
            return f"{count} {unit}{'s' if count > 1 else ''}"
    return "less than a minute"


@cache
def _environment(folder: Path) -> jinja2.Environment:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([folder, TEMPLATES]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    # In the order in which an answer tells it.
    environment.policies["json.dumps_kwargs"] = {"sort_keys": False}
    environment.filters |= {
        "time": told_time,
        "gap": told_gap,
        "number": number,
        "escaped": partial(escaped, lines=True),
    }
    return environment


def _quality(parameters: str) -> float:
    found = re.search(r"\bq=([01](?:\.\d{0,3})?)", parameters)
    return float(found[1]) if found else 1.0
