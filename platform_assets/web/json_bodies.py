"""JSON request bodies: parsed strictly, so that no value is silently dropped or changed.

Python's parser keeps only the last value of a duplicate name, and accepts `NaN`. Both are mistakes of the client.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NoReturn

from fastapi import Request

from platform_assets.web.problems import Problem, invalid, shortened

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from fastapi import Response
    from fastapi.routing import APIRoute

MOST_FIELDS = 1_000
"""Maximum number of fields of a JSON object; a larger object is refused before its fields are validated."""


class StrictRequest(Request):
    """A request that parses its JSON body strictly."""

    async def json(self) -> Any:
        """Return the body's value; see `parse`."""
        return parse(await self.body())


def parse(body: bytes) -> Any:
    """Parse a JSON body.

    Raises
    ------
    Problem
        422: the body is not JSON, an object has a duplicate name or more than `MOST_FIELDS` fields, or a number is not
        finite.
    """
    try:
        return json.loads(body, object_pairs_hook=_object, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        raise _invalid("body", f"The body is not JSON: there is an error at character {error.pos}.") from None
    except (ValueError, RecursionError):
        # The body is not UTF-8, is nested too deeply, or has a number of thousands of digits.
        raise _invalid("body", "The body cannot be read as JSON.") from None


def parse_strictly(route: APIRoute) -> None:
    """Make a route parse its body with `StrictRequest`. FastAPI's own way would need a route class in every router."""
    handler = route.get_route_handler

    def strict_handler() -> Callable[[Request], Awaitable[Response]]:
        handle = handler()

        async def handled(request: Request) -> Response:
            return await handle(StrictRequest(request.scope, request.receive, request._send))  # noqa: SLF001 - Starlette has no public attribute for it

        return handled

    # Set it on this route only, through `vars` because mypy forbids assigning to a method.
    vars(route)["get_route_handler"] = strict_handler


def _object(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    if len(pairs) > MOST_FIELDS:
        raise _invalid("body", f"An object has {len(pairs):,} fields; at most {MOST_FIELDS:,} are allowed.")
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                raise _invalid(shortened(name), "This field is given twice; send one value.")
            seen.add(name)
    return found


def _refuse_constant(name: str) -> NoReturn:
    raise _invalid("body", f"{name} is not JSON; send a finite number.")


def _invalid(field: str, detail: str) -> Problem:
    return invalid([{"type": "value_error", "loc": ["body", field], "msg": detail}])
