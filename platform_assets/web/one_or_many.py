"""Base classes for routes that answer for one item or for a list of items.

A request contains either one item, in one or more fields, or a list of items. The answers to a list have the order of
its items. A domain subclasses these models and provides a function that returns the answers for a list of items:

    @routes.post("/things", **documentation(Answer | Answers, EXAMPLES))
    async def describe_things(asked: Things) -> Response:
        return await respond(asked, partial(describe, asked.items), Answers)
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, NamedTuple, TypeVar

from fastapi import Response
from fastapi.concurrency import run_in_threadpool
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from platform_assets.base.errors import NotFound
from platform_assets.base.json_values import JSON

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from pydantic.config import JsonDict

MOST_AT_ONCE = 1_000
"""Maximum number of items per request."""
Item = TypeVar("Item")
Row = TypeVar("Row")
Found = TypeVar("Found", bound=BaseModel)
Missing = TypeVar("Missing", bound="NothingFound")
LARGEST_FLOAT = 2**53 - 1
"""Largest integer up to which floats represent every integer exactly."""
_PLAIN = re.compile(r"0|-?[1-9][0-9]*")
UpTo1000 = Annotated[list[Item], Field(max_length=MOST_AT_ONCE)]
"""A list of at most `MOST_AT_ONCE` items."""


def no_boolean(value: Any) -> Any:
    """Refuse true and false where a number is expected; pydantic alone would accept them as 1 and 0."""
    if isinstance(value, bool):
        raise ValueError("Send a number, not true or false.")  # noqa: TRY004 - pydantic reports only a ValueError
    return value


def plain_digits(value: Any) -> Any:
    """Refuse a text that is not plain digits; pydantic alone would accept `+5`, `05`, `5_0` and `5.0`.

    Otherwise, one item would have several paths, and caches, logs and rate limits would treat them as different items.
    """
    if isinstance(value, str) and not _PLAIN.fullmatch(value):
        raise ValueError("Send a whole number in plain digits.")
    return value


def whole(value: Any) -> Any:
    """Return the value as an integer. A float such as 5.0 is accepted, because it is an integer in JSON Schema.

    Booleans are refused.
    """
    if isinstance(value, float) and value.is_integer():
        if abs(value) > LARGEST_FLOAT:
            raise ValueError(
                f"A number with a fraction or an exponent is exact only up to {LARGEST_FLOAT:,}; send a larger number "
                "as an integer, with all its digits."
            )
        return int(value)
    return plain_digits(no_boolean(value))


def _of_64_bits(value: int) -> int:
    if not -(2**63) <= value < 2**63:
        raise ValueError("The number has more than 64 bits.")
    return value


# The schema has no bounds, because many OpenAPI tools read them as floats and round them.
Key = Annotated[
    int,
    BeforeValidator(whole),
    AfterValidator(_of_64_bits),
    Field(json_schema_extra={"format": "int64"}),
]
"""A signed 64-bit integer key, the type of the key columns of tables."""


class NothingFound(BaseModel):
    """Placeholder for an unknown item in a list of answers. A subclass adds the item's key."""

    error: Literal["not_found"] = "not_found"

    def problem(self) -> NotFound:
        """Return the error for a request for one item. A subclass returns an error that names the item."""
        return NotFound("There is no such item.")


def _exactly_one_of(schema: JsonDict, model: type[OneOrMany]) -> None:
    properties = schema["properties"]
    assert isinstance(properties, dict)  # noqa: S101 - narrows the type
    for told in properties.values():
        assert isinstance(told, dict)  # noqa: S101 - narrows the type
        told.pop("default", None)
    *one, many = properties
    required = [name for name in one if name not in model.optional]
    schema["oneOf"] = [
        {"required": [*required], "properties": {many: False}},
        {"required": [many], "properties": dict.fromkeys(one, False)},
    ]


class OneOrMany(BaseModel):
    """Base class of requests for either one item or a list of items.

    In a subclass, give every field a default, and declare the list field last. If an item has several fields, the list
    contains objects with these fields.

    Attributes
    ----------
    optional
        Fields that may be missing in a request for one item.
    """

    optional: ClassVar[frozenset[str]] = frozenset()
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, json_schema_extra=_exactly_one_of)

    @property
    def is_many(self) -> bool:
        """Whether the request has a list."""
        return list(type(self).model_fields)[-1] in self.model_fields_set

    @property
    def items(self) -> list[Any]:
        """The requested items, always as a list. An item with several fields is an object that has these fields."""
        *one, many = type(self).model_fields
        if self.is_many:
            return list(getattr(self, many))
        return [getattr(self, one[0]) if len(one) == 1 else self]

    @model_validator(mode="before")
    @classmethod
    def _is_exactly_one(cls, sent: Any) -> Any:
        *one, many = cls.model_fields
        required = [name for name in one if name not in cls.optional]
        if isinstance(sent, dict) and (
            any(name in sent for name in one) if many in sent else not all(name in sent for name in required)
        ):
            named = " and ".join(required)
            raise ValueError(
                f"Give either {named} for a single item, or {many} for a list of up to {MOST_AT_ONCE:,} items."
            )
        return sent


class Example(NamedTuple):
    """Example of a request and its response, for the documentation of a route.

    Attributes
    ----------
    name
        Title of the example.
    asked
        Body of the request.
    answered
        Body of the response.
    """

    name: str
    asked: Mapping[str, Any]
    answered: Mapping[str, Any]


def documentation(answer: Any, examples: Sequence[Example]) -> dict[str, Any]:
    """Return the arguments of `router.post` that document a route.

    Parameters
    ----------
    answer
        Type of the response: the model of one answer, or that of several (`Answer | Answers`).
    examples
        Examples of requests and their responses.
    """
    asked = {example.name: {"value": example.asked} for example in examples}
    answered = {example.name: {"value": example.answered} for example in examples}
    return {
        "response_model": answer,
        "responses": {200: {"content": {JSON: {"examples": answered}}}},
        "openapi_extra": {"requestBody": {"content": {JSON: {"examples": asked}}}},
    }


def in_their_places(
    items: Sequence[Item],
    rows: Mapping[Item, Row],
    answer: Callable[[list[Item], list[Row]], Iterable[Found]],
    missing: Callable[[Item], Missing],
) -> list[Found | Missing]:
    """Return one answer per item, in the order of the items. An item without a row gets a placeholder.

    Parameters
    ----------
    items
        The requested items; an item may occur several times.
    rows
        Row of each known item.
    answer
        Function that returns one answer per item, from the known items and their rows. It is not called if no item is
        known.
    missing
        Function that returns the placeholder for an unknown item.
    """
    known = [item for item in items if item in rows]
    answers = iter(answer(known, [rows[item] for item in known]) if known else ())
    return [next(answers) if item in rows else missing(item) for item in items]


async def respond(
    asked: OneOrMany, answers: Callable[[], Sequence[BaseModel]], several: type[BaseModel], few: int | None = None
) -> Response:
    """Return the JSON response: one answer, or a list of answers.

    Parameters
    ----------
    asked
        Body of the request.
    answers
        Function that returns one answer per item, in the order of the items.
    several
        Model of the response to a request with a list of items. Its only field contains the list of answers.
    few
        Largest number of items that is answered on the event loop; more are answered in a thread. None: always in a
        thread.

    Raises
    ------
    NotFound
        The request has one item, and it does not exist.
    """
    # Answer few items on the event loop, because a thread would take a third longer and hold the GIL just as long.
    # Answer many items in a thread, because on the event loop they would delay all other requests.
    on_loop = few is not None and len(asked.items) <= few
    found = answers() if on_loop else await run_in_threadpool(answers)
    if asked.is_many:
        [name] = several.model_fields
        return _json(several(**{name: found}))
    [answer] = found
    if isinstance(answer, NothingFound):
        raise answer.problem()
    return _json(answer)


def _json(answer: BaseModel) -> Response:
    return Response(answer.model_dump_json(), media_type=JSON)
