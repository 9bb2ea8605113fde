"""HTML pages: rendering of templates, the variables that every page needs, and error pages.

All values are escaped, and no page has scripts. Browsers get pages, and programs get JSON.
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
from platform_assets.web.browser_sessions import CSRF_FIELD
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
_NEXT = re.compile(r"(/approvals(/\d{1,19})?|/monitoring(/\w{1,100})?)(\?[\w=&.+%-]*)?", re.ASCII)
"""Paths to which sign-in may redirect; never another site."""
_UNITS = (("day", 86_400), ("hour", 3_600), ("minute", 60))


def wants_page(request: Request) -> bool:
    """Return whether the client accepts HTML and does not prefer JSON."""
    wanted = {
        kind.strip(): _quality(parameters)
        for kind, _, parameters in (one.partition(";") for one in request.headers.get("accept", "").lower().split(","))
    }
    return wanted.get("text/html", 0.0) > 0 and wanted["text/html"] >= wanted.get(JSON, 0.0)


def render(
    request: Request, template: str, status: int = HTTPStatus.OK, folder: Path = TEMPLATES, **context: Any
) -> HTMLResponse:
    """Render a page, with the caller's name and the CSRF token for forms.

    Parameters
    ----------
    request
        The request to answer.
    template
        File name of the template; it may extend the templates in `web/templates`.
    status
        HTTP status.
    folder
        Folder of the template.
    context
        Variables of the template.
    """
    access: Access = request.app.state.access
    session = access.sessions.of(request)
    html = (
        _environment(folder)
        .get_template(template)
        .render(
            {
                "request": request,
                # Do not look up the caller here, because the page may report that the database is unavailable.
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
    """Return problem details as a page. A GET without a session is redirected to the sign-in page."""
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
    """If the browser follows a link from another site, return a page that reloads itself; otherwise return None.

    When a browser follows such a link, it does not send the `SameSite=Strict` session cookie. It sends the cookie when
    the page reloads itself. Without this page, a link in an email would lead to the sign-in page, and the new cookie of
    that page would replace the session's cookie.
    """
    if request.headers.get("sec-fetch-site") != "cross-site":
        return None
    return _stopover(path=path_of(request), told="You followed a link from another site.", moves=False)


def signed_in_page(target: str) -> Response:
    """Return a page that opens another page of this site.

    The browser sends the session's cookie to the other page, because the request comes from a page of this site.
    """
    return _stopover(path=safe_next(target), told="You are signed in.", moves=True)


def _stopover(**context: Any) -> Response:
    html = _environment(TEMPLATES).get_template("from_elsewhere.html").render(context)
    return HTMLResponse(html, headers={"Vary": "Sec-Fetch-Site, Cookie"})


def path_of(request: Request) -> str:
    """Return path and query of the request."""
    return quote(request.url.path) + (f"?{request.url.query}" if request.url.query else "")


def safe_next(path: str) -> str:
    """Return a path to redirect to after sign-in: the given path if it is allowed, else `/approvals`."""
    return path if _NEXT.fullmatch(path) else "/approvals"


def told_time(at: datetime) -> str:
    """Format a time in UTC."""
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def told_gap(gap: timedelta) -> str:
    """Format a duration in the largest unit that fits, rounded, such as `3 days`."""
    seconds = abs(gap.total_seconds())
    for unit, size in _UNITS:
        if seconds >= size:
            count = round(seconds / size)
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
    # Do not sort the fields of JSON objects.
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
