"""Errors as clients see them: problem details (RFC 9457), or a page where a browser asks for one.

What a person can mend is told in full; of anything else a client learns no more than the request's id.
"""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import psycopg
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from platform_assets.core.errors import DatabaseError, PlatformError, first_line
from platform_assets.core.logs import redact

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from fastapi import FastAPI, Request
    from starlette.responses import Response

LOG = logging.getLogger(__name__)
TYPE = "urn:platform-assets:"
"""How the types of our own problems begin; those that say no more than their status are `about:blank`."""
RETRY_SECONDS = 5
REQUEST_ID = "request_id"
PROBLEM_SCHEMA: Mapping[str, Any] = {
    "type": "object",
    "required": ["type", "title", "status", "detail", "instance", REQUEST_ID],
    "properties": {
        "type": {"type": "string", "description": f"`{TYPE}<name>`, or `about:blank`."},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "What was found, what is needed, and what gets there."},
        "instance": {"type": "string", "description": "The path that was asked for."},
        REQUEST_ID: {"type": "string", "description": "As in the header X-Request-ID, and in the log."},
        "errors": {
            "type": "array",
            "description": "Fields at fault.",
            "items": {
                "type": "object",
                "properties": {"field": {"type": "string"}, "detail": {"type": "string"}},
                "required": ["field", "detail"],
            },
        },
    },
}


class Problem(HTTPException):
    """An answer that is no success.

    Parameters
    ----------
    status
        HTTP status.
    detail
        For a person: what was found, what is needed, what gets there.
    name
        Of the kind of problem, for programs; empty where the status says it all.
    headers
        To be sent along.
    errors
        Fields at fault, to what is wrong with each.
    more
        Further members, for programs.
    """

    def __init__(
        self,
        status: int,
        detail: str,
        name: str = "",
        *,
        headers: Mapping[str, str] | None = None,
        errors: Mapping[str, str] | None = None,
        more: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(status, detail, dict(headers or {}))
        self.name = name
        self.errors = dict(errors or {})
        self.more = dict(more or {})

    @property
    def title(self) -> str:
        """The kind of problem in words."""
        return self.name.replace("-", " ").capitalize() or HTTPStatus(self.status_code).phrase


def answer(request: Request, problem: Problem) -> Response:
    """The answer that tells a problem: a page if that is asked for, else JSON."""
    from platform_assets.serving.pages import problem_page, wants_page

    if wants_page(request):
        return problem_page(request, problem)
    return problem_response(problem, request.url.path, request_id(request))


def problem_response(problem: Problem, path: str, request_id: str) -> JSONResponse:
    """The problem as `application/problem+json`."""
    body: dict[str, Any] = {
        "type": f"{TYPE}{problem.name}" if problem.name else "about:blank",
        "title": problem.title,
        "status": problem.status_code,
        "detail": problem.detail,
        "instance": path,
        REQUEST_ID: request_id,
        **problem.more,
    }
    if problem.errors:
        body["errors"] = [{"field": name, "detail": told} for name, told in problem.errors.items()]
    return JSONResponse(body, problem.status_code, problem.headers, media_type="application/problem+json")


def invalid(problems: Iterable[Mapping[str, Any]], *, status: int = HTTPStatus.UNPROCESSABLE_ENTITY) -> Problem:
    """What pydantic found, field by field, without the value that was sent."""
    errors: dict[str, str] = {}
    for one in problems:
        field = ".".join(str(part) for part in one["loc"] if part not in {"body", "query", "path"}) or "body"
        errors.setdefault(field, str(one["msg"]).removeprefix("Value error, "))
    told = "; ".join(f"{field}: {detail}" for field, detail in errors.items())
    return Problem(status, told, "invalid-request", errors=errors)


def unavailable(told: str) -> Problem:
    """PostgreSQL does not answer."""
    return Problem(
        HTTPStatus.SERVICE_UNAVAILABLE, told, "database-unavailable", headers={"Retry-After": str(RETRY_SECONDS)}
    )


def request_id(request: Request) -> str:
    """What `guard.py` gave the request."""
    return str(request.scope["state"][REQUEST_ID])


def answer_problems(app: FastAPI, secrets: Sequence[str]) -> None:
    """Make an application answer every error as a problem.

    Parameters
    ----------
    app
        The application.
    secrets
        What no message may show.
    """

    def of_http(request: Request, error: Exception) -> Response:
        if not isinstance(error, Problem):
            assert isinstance(error, HTTPException)  # noqa: S101 - what this is registered for
            error = Problem(error.status_code, _told(error, request), headers=error.headers)
        return answer(request, error)

    def of_validation(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)  # noqa: S101 - what this is registered for
        return answer(request, invalid(error.errors()))

    def of_database(request: Request, error: Exception) -> Response:
        LOG.warning("the database does not answer: %s", first_line(error), extra={REQUEST_ID: request_id(request)})
        # Its own words name host and user.
        return answer(request, unavailable("The platform's database does not answer. Try again in a moment."))

    def of_platform(request: Request, error: Exception) -> Response:
        if isinstance(error.__cause__, psycopg.OperationalError | psycopg.InterfaceError):
            return of_database(request, error)
        LOG.error("%s", error, extra={REQUEST_ID: request_id(request)})
        return answer(request, Problem(HTTPStatus.INTERNAL_SERVER_ERROR, redact(str(error), secrets)))

    app.add_exception_handler(HTTPException, of_http)
    app.add_exception_handler(RequestValidationError, of_validation)
    for error in (DatabaseError, psycopg.OperationalError, psycopg.InterfaceError):
        app.add_exception_handler(error, of_database)
    app.add_exception_handler(PlatformError, of_platform)


def _told(error: HTTPException, request: Request) -> str:
    if error.status_code == HTTPStatus.NOT_FOUND:
        return f"There is nothing at {request.url.path}; /docs lists what there is."
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        allowed = (error.headers or {}).get("Allow", "")
        return f"{request.method} is not possible at {request.url.path}; {allowed} is."
    return str(error.detail)
