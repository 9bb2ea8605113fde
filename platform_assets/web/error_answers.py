"""Turn exceptions into error responses: problem details, or a page for browsers.

If the client or the operator can fix the error, the response shows the error's message. For an internal error, it
shows only the request id.
"""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import TYPE_CHECKING

from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from platform_assets.base.errors import DatabaseError, PlatformError, first_line
from platform_assets.base.logs import redact
from platform_assets.web.pages import problem_page, wants_page
from platform_assets.web.problems import (
    INVALID,
    LONGEST_PATH,
    REQUEST_ID,
    RETRY_SECONDS,
    Problem,
    invalid,
    problem_response,
    request_id,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fastapi import Request
    from starlette.responses import Response

LOG = logging.getLogger(__name__)


def answer(request: Request, problem: Problem) -> Response:
    """Return the response for a problem: a page if the client prefers HTML, else JSON."""
    if wants_page(request):
        return problem_page(request, problem)
    return problem_response(problem, request.url.path, request_id(request))


class Problems:
    """Turns exceptions into problem details, without secrets.

    Parameters
    ----------
    secrets
        Values that no message may show.
    """

    def __init__(self, secrets: Sequence[str]) -> None:
        self._secrets = tuple(secrets)

    def of(self, request: Request, error: Exception) -> Problem | None:
        """Return the problem for an exception; None for an internal error."""
        if isinstance(error, Problem):
            return error
        if isinstance(error, HTTPException):
            return _of_http(request, error)
        if isinstance(error, RequestValidationError):
            return invalid(error.errors())
        return self._of_ours(request, error)

    def _of_ours(self, request: Request, error: Exception) -> Problem | None:
        if isinstance(error, DatabaseError) or _is_of_driver(error) or _is_of_driver(error.__cause__):
            LOG.warning("the database does not respond: %s", first_line(error), extra={REQUEST_ID: request_id(request)})
            # Do not show the driver's message, because it names host and user.
            return Problem(
                DatabaseError.status,
                "The platform's database does not respond. Try again in a moment.",
                DatabaseError.problem,
                headers={"Retry-After": str(RETRY_SECONDS)},
            )
        if not isinstance(error, PlatformError):
            return None
        if error.status == HTTPStatus.INTERNAL_SERVER_ERROR:
            LOG.error("%s", error, extra={REQUEST_ID: request_id(request)})
        retry = {"Retry-After": str(RETRY_SECONDS)} if error.is_temporary else {}
        return Problem(error.status, self._told(error), error.problem, headers=retry)

    def _told(self, error: Exception) -> str:
        return redact(str(error), self._secrets)


def _is_of_driver(error: BaseException | None) -> bool:
    """Return whether an exception comes from the database driver and concerns its connection."""
    if error is None:
        return False
    # Import the driver here, so that the service starts faster.
    import psycopg

    return isinstance(error, (psycopg.OperationalError, psycopg.InterfaceError))


def _of_http(request: Request, error: HTTPException) -> Problem:
    if error.status_code == HTTPStatus.BAD_REQUEST and error.__cause__ is not None:
        # FastAPI raises this for a body that it cannot parse.
        told = "The body cannot be parsed."
        return Problem(HTTPStatus.UNPROCESSABLE_ENTITY, told, INVALID, errors={"body": told})
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        allowed = _allowed(error, request)
        told = f"{request.url.path} does not support {request.method}; use {allowed.replace(', ', ' or ')}."
        return Problem(error.status_code, told, headers={"Allow": allowed})
    return Problem(error.status_code, _told(error, request), headers=error.headers)


def _allowed(error: HTTPException, request: Request) -> str:
    """Return the methods of all routes that match the path of a request.

    Starlette returns the methods of the first matching route only.
    """
    methods = set((error.headers or {}).get("Allow", "").split(", "))
    for gate in getattr(request.app, "gates", ()):
        methods |= gate.methods if gate.path.match(request.url.path) else set()
    return ", ".join(sorted(methods))


def _told(error: HTTPException, request: Request) -> str:
    if error.status_code == HTTPStatus.NOT_FOUND:
        return f"There is nothing at {request.url.path[:LONGEST_PATH]}; /docs lists the routes."
    return str(error.detail)
