"""Requests for one item or a list of items: their validation, their responses, and when a thread handles them."""

from __future__ import annotations

import asyncio
import threading
from typing import Any, ClassVar

import pytest
from fastapi import APIRouter, FastAPI, Response
from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from platform_assets.base.errors import NotFound
from platform_assets.web.one_or_many import (
    MOST_AT_ONCE,
    Example,
    Key,
    NothingFound,
    OneOrMany,
    UpTo1000,
    documentation,
    in_their_places,
    respond,
)


class Things(OneOrMany):
    thing: Key = 0
    things: UpTo1000[Key] = Field(default_factory=list)


class Point(BaseModel):
    x: int
    y: int


class Points(OneOrMany):
    x: Key = 0
    y: Key = 0
    points: UpTo1000[Point] = Field(default_factory=list)


class Answer(BaseModel):
    thing: int
    word: str


class UnknownThing(NothingFound):
    thing: int

    def problem(self) -> NotFound:
        return NotFound(f"There is no thing {self.thing}.")


class Answers(BaseModel):
    answers: list[Answer | UnknownThing]


WORDS = {1: "one", 2: "two"}


def found(things: list[int]) -> list[Answer | UnknownThing]:
    return in_their_places(
        things,
        WORDS,
        lambda known, words: [Answer(thing=thing, word=word) for thing, word in zip(known, words, strict=True)],
        lambda thing: UnknownThing(thing=thing),
    )


def answered(sent: dict[str, Any], few: int | None = None) -> tuple[str, bool]:
    """Return the body of the response, and whether the items were looked up on the event loop."""
    asked = Things.model_validate(sent)
    threads = []

    def answers() -> list[Answer | UnknownThing]:
        threads.append(threading.current_thread())
        return found(asked.items)

    response = asyncio.run(respond(asked, answers, Answers, few))
    assert response.media_type == "application/json"
    return bytes(response.body).decode(), threads == [threading.current_thread()]


@pytest.mark.requirement("SRV-2")
@pytest.mark.parametrize(
    ("sent", "many", "kept"),
    [
        ({"thing": 5}, False, 5),
        ({"thing": 5.0}, False, 5),
        ({"thing": float(2**53 - 1)}, False, 2**53 - 1),
        ({"thing": -(2**63)}, False, -(2**63)),
        ({"thing": 2**63 - 1}, False, 2**63 - 1),
        ({"things": []}, True, []),
        ({"things": [2, 1, 2]}, True, [2, 1, 2]),
        ({"things": [1] * MOST_AT_ONCE}, True, [1] * MOST_AT_ONCE),
    ],
)
def test_a_valid_request_has_one_item_or_a_list_of_items(sent: Any, many: bool, kept: Any) -> None:
    asked = Things.model_validate(sent)
    assert (asked.is_many, asked.things if many else asked.thing) == (many, kept)
    assert asked.items == (kept if many else [kept])


@pytest.mark.requirement("SRV-2")
@pytest.mark.parametrize(
    ("sent", "many", "kept"),
    [
        ({"x": 1, "y": 2}, False, [(1, 2)]),
        ({"points": []}, True, []),
        ({"points": [{"x": 1, "y": 2}, {"x": 3, "y": 4}]}, True, [(1, 2), (3, 4)]),
    ],
)
def test_one_item_may_consist_of_several_fields(sent: Any, many: bool, kept: list[tuple[int, int]]) -> None:
    asked = Points.model_validate(sent)
    assert (asked.is_many, [(item.x, item.y) for item in asked.items]) == (many, kept)


@pytest.mark.requirement("SRV-2")
@pytest.mark.parametrize("sent", [{}, {"x": 1}, {"y": 1}, {"x": 1, "points": []}, {"x": 1, "y": 2, "points": []}])
def test_a_request_must_contain_either_one_complete_item_or_a_list(sent: Any) -> None:
    with pytest.raises(ValidationError, match="Give either x and y for a single item, or points for a list"):
        Points.model_validate(sent)
    assert Points.model_json_schema()["oneOf"] == [
        {"required": ["x", "y"], "properties": {"points": False}},
        {"required": ["points"], "properties": {"x": False, "y": False}},
    ]


class Weighed(OneOrMany):
    optional: ClassVar[frozenset[str]] = frozenset({"y"})

    x: Key = 0
    y: Key | None = None
    points: UpTo1000[Point] = Field(default_factory=list)


@pytest.mark.requirement("SRV-2")
def test_one_item_may_leave_out_optional_fields() -> None:
    assert Weighed.model_validate({"x": 1}).items[0].y is None
    wrong: list[dict[str, Any]] = [{"y": 1}, {"y": None, "points": []}]
    for sent in wrong:
        with pytest.raises(ValidationError, match="Give either x for a single item, or points for a list"):
            Weighed.model_validate(sent)


@pytest.mark.requirement("SRV-2")
@pytest.mark.parametrize(
    ("sent", "field"),
    [
        ({}, ()),
        ({"thing": 1, "things": [1]}, ()),
        ([], ()),
        (None, ()),
        ({"thing": None}, ("thing",)),
        ({"things": None}, ("things",)),
        ({"thing": True}, ("thing",)),
        ({"thing": "5"}, ("thing",)),
        ({"thing": 5.5}, ("thing",)),
        ({"thing": float(2**53)}, ("thing",)),
        ({"thing": -float(2**60)}, ("thing",)),
        ({"things": [1, 1e300]}, ("things", 1)),
        ({"thing": float("nan")}, ("thing",)),
        ({"thing": float("inf")}, ("thing",)),
        ({"thing": 2**63}, ("thing",)),
        ({"things": [1, 10**30]}, ("things", 1)),
        ({"things": [1] * (MOST_AT_ONCE + 1)}, ("things",)),
        ({"thing": 1, "other": 1}, ("other",)),
    ],
)
def test_the_error_for_an_invalid_request_names_the_field(sent: Any, field: tuple[str | int, ...]) -> None:
    with pytest.raises(ValidationError) as caught:
        Things.model_validate(sent)
    [told] = caught.value.errors()
    assert told["loc"] == field


@pytest.mark.requirement("SRV-3")
@pytest.mark.parametrize(
    "text", ["5_0", "+5", "5.0", "05", "-0", " 5", "5 ", "5e0", "\N{ARABIC-INDIC DIGIT FIVE}", "-", ""]
)
def test_a_key_in_a_path_must_be_plain_digits(text: str) -> None:
    key = TypeAdapter(Key)
    assert (key.validate_python("50"), key.validate_python("-5"), key.validate_python("0")) == (50, -5, 0)
    with pytest.raises(ValidationError):
        key.validate_python(text)


@pytest.mark.requirement("SRV-3")
@pytest.mark.parametrize("value", [True, False])
def test_a_boolean_is_refused_as_a_key(value: bool) -> None:
    with pytest.raises(ValidationError, match="not true or false"):
        TypeAdapter(Key).validate_python(value)


def test_the_json_schema_states_the_same_rules_as_the_validation() -> None:
    schema = Things.model_json_schema()
    assert schema["oneOf"] == [
        {"required": ["thing"], "properties": {"things": False}},
        {"required": ["things"], "properties": {"thing": False}},
    ]
    assert schema["additionalProperties"] is False
    assert schema["properties"]["thing"] == {"format": "int64", "title": "Thing", "type": "integer"}
    assert schema["properties"]["things"]["maxItems"] == MOST_AT_ONCE


@pytest.mark.requirement("SRV-2")
@pytest.mark.parametrize(
    ("sent", "body"),
    [
        ({"thing": 2}, '{"thing":2,"word":"two"}'),
        ({"things": []}, '{"answers":[]}'),
        ({"things": [2]}, '{"answers":[{"thing":2,"word":"two"}]}'),
        (
            {"things": [1, 3, 1]},
            '{"answers":[{"thing":1,"word":"one"},{"error":"not_found","thing":3},{"thing":1,"word":"one"}]}',
        ),
    ],
)
@pytest.mark.parametrize("few", [None, 0, 4])
def test_one_item_gets_an_object_and_a_list_gets_a_list(sent: dict[str, Any], body: str, few: int | None) -> None:
    assert answered(sent, few)[0] == body


def test_a_single_unknown_item_raises_not_found() -> None:
    with pytest.raises(NotFound, match="There is no thing 3"):
        answered({"thing": 3})
    with pytest.raises(NotFound, match="no such item"):
        raise NothingFound().problem()


def test_no_answers_are_computed_if_all_items_are_unknown() -> None:
    def never(*_: Any) -> list[Answer]:
        raise AssertionError

    missing = in_their_places([3, 4], WORDS, never, lambda thing: UnknownThing(thing=thing))
    assert [one.model_dump() for one in missing] == [
        {"error": "not_found", "thing": 3},
        {"error": "not_found", "thing": 4},
    ]


@pytest.mark.parametrize(
    ("sent", "few", "on_loop"),
    [
        ({"thing": 1}, None, False),
        ({"thing": 1}, 2, True),
        ({"things": []}, None, False),
        ({"things": [1, 2]}, 2, True),
        ({"things": [1, 2, 1]}, 2, False),
    ],
)
def test_few_items_are_looked_up_on_the_event_loop_and_many_in_a_thread(
    sent: dict[str, Any], few: int | None, on_loop: bool
) -> None:
    assert answered(sent, few)[1] is on_loop


def test_the_openapi_description_contains_example_requests_and_responses() -> None:
    routes = APIRouter()
    examples = (
        Example("one", {"thing": 1}, {"thing": 1, "word": "one"}),
        Example("several", {"things": []}, {"answers": []}),
    )

    @routes.post("/things", **documentation(Answer | Answers, examples))
    async def describe_things(asked: Things) -> Response:
        return await respond(asked, lambda: found(asked.items), Answers)

    app = FastAPI()
    app.include_router(routes)
    described = app.openapi()["paths"]["/things"]["post"]
    ok = described["responses"]["200"]["content"]["application/json"]
    assert described["requestBody"]["content"]["application/json"]["examples"] == {
        "one": {"value": {"thing": 1}},
        "several": {"value": {"things": []}},
    }
    assert ok["examples"] == {"one": {"value": {"thing": 1, "word": "one"}}, "several": {"value": {"answers": []}}}
    assert [one["$ref"].rpartition("/")[2] for one in ok["schema"]["anyOf"]] == ["Answer", "Answers"]
