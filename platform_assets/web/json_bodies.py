"""JSON request bodies: parsed strictly, so that no value is silently dropped or changed.

Python's parser keeps the last of two values of one name, and takes `NaN`. Neither is JSON that a client means.
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
"""Fields of one JSON object; a request with more is refused before each of them is validated."""


class StrictRequest(Request):
    """A request whose `json` is strict."""

    async def json(self) -> Any:
        """Return the body's value; see `parse`."""
        return parse(await self.body())


def parse(body: bytes) -> Any:
    """Parse a JSON body.

    Raises
    ------
    Problem
        422: the body is not JSON; an object has two values of one name, or more than `MOST_FIELDS` fields; a number is
        not finite.
    """
    try:
        return json.loads(body, object_pairs_hook=_object, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        raise _invalid("body", f"The body is not JSON: there is an error at character {error.pos}.") from None
    except (ValueError, RecursionError):
        # Not UTF-8, nested too deeply, or a number of thousands of digits.
        raise _invalid("body", "The body cannot be read as JSON.") from None


def parse_strictly(route: APIRoute) -> None:
    """Let a route parse its body by `StrictRequest`. FastAPI's own way needs a class of route in each router."""
    handler = route.get_route_handler

    def strict_handler() -> Callable[[Request], Awaitable[Response]]:
        handle = handler()

        async def handled(request: Request) -> Response:
            return await handle(StrictRequest(request.scope, request.receive, request._send))  # noqa: SLF001 - Starlette's way to hand it on

        return handled

    # An attribute of this route alone; mypy forbids to assign to a method.
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
