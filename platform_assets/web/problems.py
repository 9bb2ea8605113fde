"""Errors as clients see them: problem details (RFC 9457), or a page where a browser asks for one.

What a person can mend is told in full; of anything else a client learns no more than the request's id.
"""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from platform_assets.base.errors import DatabaseError, NotFound, PlatformError, first_line
from platform_assets.base.logs import redact
from platform_assets.serving.live_models import NoChampion

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from fastapi import FastAPI, Request
    from starlette.responses import Response

LOG = logging.getLogger(__name__)
TYPE = "urn:platform-assets:"
"""How the types of our own problems begin; those that say no more than their status are `about:blank`."""
RETRY_SECONDS = 5
REQUEST_ID = "request_id"
PROBLEM_JSON = "application/problem+json"
INVALID = "invalid-request"
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
        super().__init__(status, _plain(detail), dict(headers or {}))
        self.name = name
        self.errors = {_plain(field): _plain(told) for field, told in (errors or {}).items()}
        self.more = dict(more or {})

    @property
    def title(self) -> str:
        """The kind of problem in words."""
        return self.name.replace("-", " ").capitalize() or HTTPStatus(self.status_code).phrase


def answer(request: Request, problem: Problem) -> Response:
    """The answer that tells a problem: a page if that is asked for, else JSON."""
    from platform_assets.web.pages import problem_page, wants_page

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
    return JSONResponse(body, problem.status_code, problem.headers, media_type=PROBLEM_JSON)


def invalid(problems: Iterable[Mapping[str, Any]], *, status: int = HTTPStatus.UNPROCESSABLE_ENTITY) -> Problem:
    """What pydantic found, field by field, without the value that was sent."""
    errors: dict[str, str] = {}
    for one in problems:
        parts, told = list(one["loc"]), str(one["msg"]).removeprefix("Value error, ")
        if one["type"] == "json_invalid" and parts:
            # FastAPI tells the place as if it were a field.
            told = f"It is no JSON, from character {parts.pop()} on."
        field = ".".join(str(part) for part in parts if part not in {"body", "query", "path"}) or "body"
        errors.setdefault(field, told)
    told = "; ".join(f"{field}: {detail}" for field, detail in errors.items())
    return Problem(status, told, INVALID, errors=errors)


def unavailable(told: str) -> Problem:
    """PostgreSQL does not answer."""
    return Problem(
        HTTPStatus.SERVICE_UNAVAILABLE, told, "database-unavailable", headers={"Retry-After": str(RETRY_SECONDS)}
    )


def request_id(request: Request) -> str:
    """What `guard.py` gave the request."""
    return str(request.scope["state"][REQUEST_ID])


class Problems:
    """Errors of every kind as problems, with no secret in them.

    Parameters
    ----------
    secrets
        What no message may show.
    """

    def __init__(self, secrets: Sequence[str]) -> None:
        self._secrets = tuple(secrets)

    def of(self, request: Request, error: Exception) -> Problem | None:
        """The problem that an error is to a client; None for one that is a defect."""
        if isinstance(error, Problem):
            return error
        if isinstance(error, HTTPException):
            return _of_http(request, error)
        if isinstance(error, RequestValidationError):
            return invalid(error.errors())
        return self._of_ours(request, error)

    def answered_by(self, app: FastAPI) -> None:
        """Make an application answer its errors as problems; what else there is passes on, to `guard.py`."""

        def answered(request: Request, error: Exception) -> Response:
            problem = self.of(request, error)
            if problem is None:
                raise error
            return answer(request, problem)

        for kind in (HTTPException, RequestValidationError, PlatformError):
            app.add_exception_handler(kind, answered)

    def _of_ours(self, request: Request, error: Exception) -> Problem | None:
        if isinstance(error, DatabaseError) or _is_of_driver(error) or _is_of_driver(error.__cause__):
            LOG.warning("the database does not answer: %s", first_line(error), extra={REQUEST_ID: request_id(request)})
            # Its own words name host and user.
            return unavailable("The platform's database does not answer. Try again in a moment.")
        if isinstance(error, NotFound):
            return Problem(HTTPStatus.NOT_FOUND, self._told(error), "not-found")
        if isinstance(error, NoChampion):
            retry = {"Retry-After": str(RETRY_SECONDS)}
            return Problem(HTTPStatus.SERVICE_UNAVAILABLE, self._told(error), "no-champion", headers=retry)
        if isinstance(error, PlatformError):
            LOG.error("%s", error, extra={REQUEST_ID: request_id(request)})
            return Problem(HTTPStatus.INTERNAL_SERVER_ERROR, self._told(error))
        return None

    def _told(self, error: Exception) -> str:
        return redact(str(error), self._secrets)


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """What the API's description says of these statuses: a problem each."""
    return {
        int(status): {
            "description": HTTPStatus(status).phrase,
            "content": {PROBLEM_JSON: {"schema": PROBLEM_SCHEMA}},
        }
        for status in statuses
    }


def _is_of_driver(error: BaseException | None) -> bool:
    """Whether PostgreSQL's driver says that the server does not answer."""
    if error is None:
        return False
    # Not at the top: a service is there the sooner, and the thread that looks for champions needs it first.
    import psycopg

    return isinstance(error, (psycopg.OperationalError, psycopg.InterfaceError))


def _plain(text: str) -> str:
    """What a client sent may come back in it, half a surrogate pair too, which is no UTF-8."""
    return text.encode(errors="replace").decode()


def _of_http(request: Request, error: HTTPException) -> Problem:
    if error.status_code == HTTPStatus.BAD_REQUEST and error.__cause__ is not None:
        # What FastAPI says of a body that no JSON reader takes: nested too deeply, not UTF-8, a number without end.
        told = "The body cannot be read as JSON."
        return Problem(HTTPStatus.UNPROCESSABLE_ENTITY, told, INVALID, errors={"body": told})
    return Problem(error.status_code, _told(error, request), headers=error.headers)


def _told(error: HTTPException, request: Request) -> str:
    if error.status_code == HTTPStatus.NOT_FOUND:
        return f"There is nothing at {request.url.path}; /docs lists what there is."
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        allowed = (error.headers or {}).get("Allow", "")
        return f"{request.method} is not possible at {request.url.path}; {allowed} is."
    return str(error.detail)
