"""Problem details (RFC 9457): what an answer that is no success tells programs.

How errors become problems, and problems answers, is in `error_answers.py`.
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


def request_id(request: Request) -> str:
    """Return the id that `middleware.py` gave the request."""
    return str(request.scope["state"][REQUEST_ID])


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """What the API's description says of these statuses: a problem each."""
    return {
        int(status): {
            "description": HTTPStatus(status).phrase,
            "content": {PROBLEM_JSON: {"schema": PROBLEM_SCHEMA}},
        }
        for status in statuses
    }


def _plain(text: str) -> str:
    """What a client sent may come back in it, half a surrogate pair too, which is no UTF-8."""
    return text.encode(errors="replace").decode()
