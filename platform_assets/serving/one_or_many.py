"""One thing or many in one request: what every prediction route understands, and how it answers for what is not there.

A request names exactly one of two fields, the first for one answer, the second for a list of them in the order asked.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

if TYPE_CHECKING:
    from pydantic.config import JsonDict

MOST_AT_ONCE = 1_000
Item = TypeVar("Item")
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

    @model_validator(mode="before")
    @classmethod
    def _is_exactly_one(cls, sent: Any) -> Any:
        one, many = cls.model_fields
        if isinstance(sent, dict) and (one in sent) is (many in sent):
            raise ValueError(f"Give either {one}, for one answer, or {many}, for a list of up to {MOST_AT_ONCE:,}.")
        return sent
