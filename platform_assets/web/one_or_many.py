"""Routes that answer for one item or for a list: the request, the answer, items that are not there, the documentation.

A request has exactly one of two fields: the first asks for one answer, the second for a list in the same order.
A domain declares its models on top of these, and a function from items to answers:

    @routes.post("/things", **documentation(Answer | Answers, EXAMPLES))
    async def describe_things(asked: Things) -> Response:
        return await respond(asked, partial(describe, asked.items), Answers)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, TypeVar

from fastapi import Response
from fastapi.concurrency import run_in_threadpool
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from platform_assets.base.errors import NotFound
from platform_assets.base.json_values import JSON

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from pydantic.config import JsonDict

MOST_AT_ONCE = 1_000
Item = TypeVar("Item")
Row = TypeVar("Row")
Found = TypeVar("Found", bound=BaseModel)
Missing = TypeVar("Missing", bound="NothingFound")
UpTo1000 = Annotated[list[Item], Field(max_length=MOST_AT_ONCE)]
"""As many as one request may ask for."""


def _without_fraction(value: Any) -> Any:
    # To JSON and its schemas 5.0 is a whole number.
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _of_64_bits(value: int) -> int:
    if not -(2**63) <= value < 2**63:
        raise ValueError("It has more than 64 bits; no key in a table does.")
    return value


# No bounds in its schema: OpenAPI's are floats to many who read them, which would round these.
Key = Annotated[
    int,
    BeforeValidator(_without_fraction),
    AfterValidator(_of_64_bits),
    Field(json_schema_extra={"format": "int64"}),
]
"""A key that is a whole number, as tables have it."""


class NothingFound(BaseModel):
    """Stands in a list of answers in the place of what is not there. A subclass names it."""

    error: Literal["not_found"] = "not_found"

    def problem(self) -> NotFound:
        """Return the error that answers a request for this item alone. A subclass says what is missing."""
        return NotFound("There is no such item.")


def _exactly_one_of(schema: JsonDict) -> None:
    properties = schema["properties"]
    assert isinstance(properties, dict)  # noqa: S101 - narrows the type
    for told in properties.values():
        assert isinstance(told, dict)  # noqa: S101 - narrows the type
        told.pop("default", None)
    schema["oneOf"] = [{"required": [name]} for name in properties]


class OneOrMany(BaseModel):
    """A request for one thing, or for a list. A subclass has two fields, the second a list, both with defaults."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, json_schema_extra=_exactly_one_of)

    @property
    def is_many(self) -> bool:
        """Whether a list was asked for."""
        return list(type(self).model_fields)[1] in self.model_fields_set

    @property
    def items(self) -> list[Any]:
        """What was asked for, as a list in any case."""
        one, many = type(self).model_fields
        return getattr(self, many) if many in self.model_fields_set else [getattr(self, one)]

    @model_validator(mode="before")
    @classmethod
    def _is_exactly_one(cls, sent: Any) -> Any:
        one, many = cls.model_fields
        if isinstance(sent, dict) and (one in sent) is (many in sent):
            raise ValueError(f"Give either {one}, for one answer, or {many}, for a list of up to {MOST_AT_ONCE:,}.")
        return sent


class Example(NamedTuple):
    """A request and its answer, as the documentation of a route shows them.

    Attributes
    ----------
    name
        What the example shows.
    asked
        Body of the request.
    answered
        Body of the answer.
    """

    name: str
    asked: Mapping[str, Any]
    answered: Mapping[str, Any]


def documentation(answer: Any, examples: Sequence[Example]) -> dict[str, Any]:
    """Return the arguments of `router.post` that document a route.

    Parameters
    ----------
    answer
        Type of the answer: the model for one item, or the one for several (`Answer | Answers`).
    examples
        Requests and their answers.
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
    """Answer for the items that have a row, and mark the others as missing, in the order asked.

    Parameters
    ----------
    items
        What was asked for; an item may occur several times.
    rows
        What is known of each item.
    answer
        Returns one answer per item, given the known items and their rows. It is not called when there are none.
    missing
        Returns what stands in the place of an unknown item.
    """
    known = [item for item in items if item in rows]
    answers = iter(answer(known, [rows[item] for item in known]) if known else ())
    return [next(answers) if item in rows else missing(item) for item in items]


async def respond(
    asked: OneOrMany, answers: Callable[[], Sequence[BaseModel]], several: type[BaseModel], few: int | None = None
) -> Response:
    """Answer a request as JSON: with one answer, or with a list of them.

    Parameters
    ----------
    asked
        The request.
    answers
        Returns one answer per item, in the order asked.
    several
        Model of the answer to a list. Its only field is the list.
    few
        Up to so many items are answered on the event loop, more of them in a thread. By default always in a thread.

    Raises
    ------
    NotFound
        The one item that was asked for is not there.
    """
    # A thread costs a third of what few rows take, and would hold the interpreter just as long. Many rows would keep
    # all other requests waiting.
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
