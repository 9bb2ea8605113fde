"""Pydantic models of the ESIOS API's responses, based on recorded responses.

A missing field or a wrong type is an error that names the field. Unknown fields are kept, so that they can be reported.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from platform_assets.base.printable_text import escaped
from platform_assets.landing.http_client import Answer, TemporaryError, UpstreamError

if TYPE_CHECKING:
    from collections.abc import Iterator

NAME = "ESIOS"
MOST_PROBLEMS = 5
LONGEST_QUOTE = 200
Model = TypeVar("Model", bound="_Object")


def _with_utc(moment: datetime) -> datetime:
    try:
        moment.astimezone(UTC)
    except OverflowError:
        raise ValueError("the time is out of range") from None
    return moment


Moment = Annotated[AwareDatetime, AfterValidator(_with_utc)]
"""A time that can be converted to UTC."""


class _Object(BaseModel):
    model_config = ConfigDict(extra="allow", strict=True, frozen=True)


class Named(_Object):
    """Name and id of a magnitude or a time step."""

    name: str
    id: int


class Geography(_Object):
    """Name and id of a geographical area."""

    geo_id: int
    geo_name: str


class Value(_Object):
    """The value of one hour."""

    value: Annotated[float, Field(allow_inf_nan=False)]
    datetime: AwareDatetime
    datetime_utc: Moment
    tz_time: AwareDatetime
    geo_id: int
    geo_name: str


class Indicator(_Object):
    """A series with its values in a period."""

    name: str
    short_name: str
    id: int
    composited: bool
    step_type: str
    disaggregated: bool
    magnitud: list[Named]
    tiempo: list[Named]
    geos: list[Geography]
    values_updated_at: Moment | None
    values: list[Value]


class IndicatorAnswer(_Object):
    """Answer of `/indicators/{id}`."""

    indicator: Indicator


class Found(_Object):
    """A search result. Pages and documents are results too, and may lack the fields that only series have."""

    id: int | None
    title: str | None
    widget_id: int | None = None
    body: str | None = None
    summary: str | None = None
    type: str | None = None
    slug: str | None = None
    url: str | None = None
    dummy: str | None = None


class Listed(_Object):
    """An entry of the list of all series."""

    id: int
    name: str
    short_name: str | None = None
    description: str | None = None


class IndicatorList(_Object):
    """Answer of `/indicators`."""

    indicators: list[Listed]


class SearchSize(_Object):
    """Number of search results."""

    size: int


class SearchAnswer(_Object):
    """Answer of `/search`."""

    results: list[Found]
    meta: SearchSize


def parse(answer: Answer, kind: type[Model]) -> Model:
    """Return the content of a response.

    Raises
    ------
    TemporaryError
        The body is not JSON.
    UpstreamError
        The status is an error, or a field is missing or has the wrong type. The message names the status or the field.
    """
    if answer.status != HTTPStatus.OK:
        raise refusal(answer)
    try:
        return kind.model_validate_json(answer.body)
    except ValidationError as error:
        problems = error.errors(include_url=False, include_input=False)
    if problems[0]["type"] == "json_invalid":
        what = "an HTML page" if is_html(answer) else "a response"
        raise TemporaryError(f"{NAME} returned {what} that is not JSON: {quoted(answer)}", answer.status)
    if message := _message(answer):
        raise UpstreamError(f"{NAME} returned no data: {message}", answer.status)
    named = [f"{'.'.join(map(str, one['loc'])) or 'the body'}: {one['msg']}" for one in problems[:MOST_PROBLEMS]]
    more = f"; {len(problems) - MOST_PROBLEMS} more" if len(problems) > MOST_PROBLEMS else ""
    raise UpstreamError(f"{NAME} returned a response in an unexpected format: {'; '.join(named)}{more}", answer.status)


def refusal(answer: Answer) -> UpstreamError:
    """Return the error for a response with an error status."""
    status = answer.status
    if status == HTTPStatus.FORBIDDEN and is_html(answer):
        text = (
            f"{NAME} returned HTTP 403 with an HTML page, which comes from its bot protection, not from the token "
            "check. Wait a few minutes, and send fewer requests"
        )
    elif status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
        text = f"{NAME} refused the token (HTTP {status}: {quoted(answer)}). Check PLATFORM_ESIOS_TOKEN"
    elif HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST:
        text = f"{NAME} returned HTTP {status}, a redirect, which is not followed. Check PLATFORM_ESIOS_BASE_URL"
    else:
        text = f"{NAME} returned HTTP {status}: {quoted(answer)}"
    return UpstreamError(text, status)


def unknown_fields(content: BaseModel) -> set[str]:
    """Return the fields that the models do not declare, as paths such as `indicator.values.colour`."""
    return set(_unknown(content))


def _unknown(content: Any, path: str = "") -> Iterator[str]:
    if isinstance(content, list):
        for one in content:
            yield from _unknown(one, path)
    elif isinstance(content, BaseModel):
        yield from (f"{path}{name}" for name in content.model_extra or ())
        for name in type(content).model_fields:
            yield from _unknown(getattr(content, name), f"{path}{name}.")


def is_html(answer: Answer) -> bool:
    """Return whether the body is an HTML page."""
    return answer.body.lstrip()[:1] == b"<"


def quoted(answer: Answer) -> str:
    """Return the beginning of the body, for an error message."""
    text = escaped(" ".join(answer.body[: 4 * LONGEST_QUOTE].decode("utf-8", "replace").split()))
    return f"{text[:LONGEST_QUOTE]}.." if len(text) > LONGEST_QUOTE else text or "empty body"


def _message(answer: Answer) -> str:
    body = json.loads(answer.body)
    return str(body["message"])[:LONGEST_QUOTE] if isinstance(body, dict) and "message" in body else ""
