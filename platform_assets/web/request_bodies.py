"""Request bodies: parsed strictly, so that no value is silently dropped or changed.

Python's JSON parser keeps only the last value of a duplicate name, and accepts `NaN`. Starlette keeps only the last
value of a duplicate form field or query parameter. This module refuses such requests with an error.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NoReturn

from fastapi import Request
from fastapi.routing import request_response

from platform_assets.web.problems import Problem, invalid, shortened

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from fastapi import Response
    from fastapi.routing import APIRoute
    from starlette.datastructures import FormData
    from starlette.types import ASGIApp

MOST_FIELDS = 1_000
"""Maximum number of fields of a JSON object; a larger object is refused before its fields are validated."""


class StrictRequest(Request):
    """A request that parses its body strictly."""

    async def json(self) -> Any:
        """Return the body's value; see `parse`."""
        return parse(await self.body())

    async def form(self, **limits: Any) -> FormData:  # type: ignore[override] # FastAPI only awaits it
        """Return the form; see `refuse_repeated`."""
        form = await super().form(**limits)
        refuse_repeated([name for name, _ in form.multi_items()])
        return form


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
        # The body is not UTF-8, is nested too deeply, or contains a number with thousands of digits.
        raise _invalid("body", "The body cannot be read as JSON.") from None


def refuse_repeated(names: Iterable[str], place: str = "body") -> None:
    """Refuse duplicate names of fields or parameters.

    Raises
    ------
    Problem
        422, with the first duplicate name.
    """
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise _invalid(shortened(name), "This field is given twice; send one value.", place)
        seen.add(name)


def strict_app(route: APIRoute) -> ASGIApp:
    """Return FastAPI's application for a route, with `StrictRequest`."""
    handle = route.get_route_handler()

    async def handled(request: Request) -> Response:
        return await handle(StrictRequest(request.scope, request.receive, request._send))  # noqa: SLF001 - Starlette has no public attribute for it

    return request_response(handled)


def _object(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    if len(pairs) > MOST_FIELDS:
        raise _invalid("body", f"An object has {len(pairs):,} fields; at most {MOST_FIELDS:,} are allowed.")
    found = dict(pairs)
    if len(found) < len(pairs):
        refuse_repeated(name for name, _ in pairs)
    return found


def _refuse_constant(name: str) -> NoReturn:
    raise _invalid("body", f"{name} is not JSON; send a finite number.")


def _invalid(field: str, detail: str, place: str = "body") -> Problem:
    return invalid([{"type": "value_error", "loc": [place, field], "msg": detail}])
