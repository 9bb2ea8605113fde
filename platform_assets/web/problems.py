"""Problem details (RFC 9457): the JSON body of every error.

`error_answers.py` turns exceptions into problems, and problems into responses.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from fastapi import Request

TYPE = "urn:platform-assets:"
"""Prefix of the platform's own problem types. Any other problem has the type `about:blank`."""
RETRY_SECONDS = 5
"""Value of `Retry-After` while a dependency is unavailable."""
MOST_ERRORS = 20
"""Maximum number of invalid fields that problem details list; the rest are counted."""
LONGEST_NAME = 100
"""Maximum number of characters of a field's name in problem details; the rest is cut."""
LONGEST_PATH = 2_000
"""Maximum number of characters of a path in problem details; the rest is cut."""
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
        "detail": {"type": "string", "description": "The problem, the requirement and the fix."},
        "instance": {"type": "string", "description": "Path of the request."},
        REQUEST_ID: {"type": "string", "description": "Request id, as in the header X-Request-ID and the log."},
        "errors": {
            "type": "array",
            "description": f"Invalid fields, up to {MOST_ERRORS}.",
            "items": {
                "type": "object",
                "properties": {"field": {"type": "string"}, "detail": {"type": "string"}},
                "required": ["field", "detail"],
            },
        },
    },
}

MEANINGS: Mapping[int, str] = {
    401: "The key is missing, unknown or revoked.",
    403: "The key does not allow this.",
    404: "The requested item does not exist.",
    409: "The state of the approval request does not allow this.",
    413: "The body is too large.",
    415: "The body has the wrong content type, or is compressed.",
    422: "A parameter or the body is invalid.",
    429: "There were too many requests; try again after the number of seconds in `Retry-After`.",
    503: "The database or the model is unavailable; try again after the number of seconds in `Retry-After`.",
}
"""Descriptions of the statuses in the API's documentation."""
EXAMPLES: Mapping[int, tuple[str, str]] = {
    401: ("key-needed", "This request needs a key: send `Authorization: Bearer <key>`."),
    403: ("scope-missing", "The key 'shop' has the scope `predict`; this request needs `read`."),
    404: ("not-found", "There is no such item."),
    409: ("already-decided", "The request was decided already."),
    413: ("body-too-large", "The body has more than 524,288 bytes; split it into several requests."),
    415: ("not-json", "The content type is text/plain; send application/json."),
    422: ("invalid-request", "page: Input should be greater than or equal to 0"),
    429: (
        "too-many-requests",
        "Too many requests: the limit is 20 per minute for attempts with an unknown key. Try again in 12 s.",
    ),
    503: ("database-unavailable", "The platform's database does not respond. Try again in a moment."),
}
"""Example of problem details for each status: type and detail."""


class Problem(HTTPException):
    """An error response.

    Parameters
    ----------
    status
        HTTP status.
    detail
        For people: the problem, the requirement and the fix.
    name
        Type of the problem, for programs; empty if the status is specific enough.
    headers
        Headers of the response.
    errors
        Invalid fields, with a message for each.
    more
        Further members of the problem.
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
        """The problem type in words."""
        return _title(self.name, self.status_code)


def problem_response(problem: Problem, path: str, request_id: str) -> JSONResponse:
    """Return problem details as `application/problem+json`."""
    body: dict[str, Any] = {
        "type": f"{TYPE}{problem.name}" if problem.name else "about:blank",
        "title": problem.title,
        "status": problem.status_code,
        "detail": problem.detail,
        "instance": _plain(path[:LONGEST_PATH]),
        REQUEST_ID: request_id,
        **problem.more,
    }
    if problem.errors:
        body["errors"] = [{"field": name, "detail": told} for name, told in problem.errors.items()]
    return JSONResponse(body, problem.status_code, problem.headers, media_type=PROBLEM_JSON)


def invalid(problems: Iterable[Mapping[str, Any]], *, status: int = HTTPStatus.UNPROCESSABLE_ENTITY) -> Problem:
    """Return the problem that lists pydantic's errors by field, without the values that were sent."""
    problems = list(problems)
    errors: dict[str, str] = {}
    for one in problems:
        parts, detail = list(one["loc"]), str(one["msg"]).removeprefix("Value error, ")
        named = (shortened(str(part)) for part in parts if part not in {"body", "query", "path"})
        errors.setdefault(shortened(".".join(named)) or "body", detail)
        if len(errors) == MOST_ERRORS:
            break
    detail = "; ".join(f"{field}: {message}" for field, message in errors.items())
    if len(problems) > MOST_ERRORS:
        detail += f"; and {len(problems) - MOST_ERRORS:,} more errors"
    return Problem(status, detail, INVALID, errors=errors)


def shortened(name: str) -> str:
    """Cut a field's name, which a client may choose, to `LONGEST_NAME` characters."""
    return name if len(name) <= LONGEST_NAME else f"{name[:LONGEST_NAME]}.."


def request_id(request: Request) -> str:
    """Return the request id that `middleware.py` has set."""
    return str(request.scope["state"][REQUEST_ID])


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the OpenAPI responses for status codes; each body contains problem details."""
    return {
        int(status): {
            "description": MEANINGS.get(status, HTTPStatus(status).phrase),
            "content": {PROBLEM_JSON: {"schema": PROBLEM_SCHEMA, "example": _example(status)}},
        }
        for status in statuses
    }


def _example(status: int) -> dict[str, Any]:
    name, detail = EXAMPLES.get(status, ("", HTTPStatus(status).phrase))
    return {
        "type": f"{TYPE}{name}" if name else "about:blank",
        "title": _title(name, status),
        "status": int(status),
        "detail": detail,
        "instance": "/path/of/the/request",
        REQUEST_ID: "3f2a8c0de1b94a7f9d5c6b7a8e9f0a1b",
    }


def _title(name: str, status: int) -> str:
    return name.replace("-", " ").capitalize() or HTTPStatus(status).phrase


def _plain(text: str) -> str:
    """Replace lone surrogates. A client can send them, but UTF-8 cannot encode them."""
    return text.encode(errors="replace").decode()
