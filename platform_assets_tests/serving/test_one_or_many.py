"""One or many, and page by page: what is asked for, by example."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, ValidationError

from platform_assets.serving.one_or_many import MOST_AT_ONCE, Key, OneOrMany, UpTo1000
from platform_assets.web.paging import Page


class Things(OneOrMany):
    thing: Key = 0
    things: UpTo1000[Key] = Field(default_factory=list)


@pytest.mark.requirement("SRV-2")
@pytest.mark.parametrize(
    ("sent", "many", "kept"),
    [
        ({"thing": 5}, False, 5),
        ({"thing": 5.0}, False, 5),
        ({"thing": -(2**63)}, False, -(2**63)),
        ({"thing": 2**63 - 1}, False, 2**63 - 1),
        ({"things": []}, True, []),
        ({"things": [2, 1, 2]}, True, [2, 1, 2]),
        ({"things": [1] * MOST_AT_ONCE}, True, [1] * MOST_AT_ONCE),
    ],
)
def test_one_or_many(sent: Any, many: bool, kept: Any) -> None:
    found = Things.model_validate(sent)
    assert (found.is_many, found.things if many else found.thing) == (many, kept)


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
        ({"thing": float("nan")}, ("thing",)),
        ({"thing": float("inf")}, ("thing",)),
        ({"thing": 2**63}, ("thing",)),
        ({"things": [1, 10**30]}, ("things", 1)),
        ({"things": [1] * (MOST_AT_ONCE + 1)}, ("things",)),
        ({"thing": 1, "other": 1}, ("other",)),
    ],
)
def test_whatever_else_is_refused_with_its_field(sent: Any, field: tuple[str | int, ...]) -> None:
    with pytest.raises(ValidationError) as caught:
        Things.model_validate(sent)
    [told] = caught.value.errors()
    assert told["loc"] == field


def test_the_schema_says_the_same() -> None:
    schema = Things.model_json_schema()
    assert schema["oneOf"] == [{"required": ["thing"]}, {"required": ["things"]}]
    assert schema["additionalProperties"] is False
    assert schema["properties"]["thing"] == {"format": "int64", "title": "Thing", "type": "integer"}
    assert schema["properties"]["things"]["maxItems"] == MOST_AT_ONCE


@given(st.integers(0, 30), st.integers(1, 8))
def test_the_pages_of_a_list_are_the_list(total: int, size: int) -> None:
    items = list(range(total))
    pages = [Page(number, size, total, "/things") for number in range(total // size + 2)]
    assert [item for page in pages for item in page.of(items)] == items
    # From one to the next, each is met.
    assert [page.number for page in pages if "next" in page.neighbours] == list(range(max(0, (total - 1) // size)))


@pytest.mark.parametrize(
    ("number", "link"),
    [
        (0, '</things?a=1&a=2&page=1>; rel="next"'),
        (1, '</things?a=1&a=2&page=0>; rel="prev", </things?a=1&a=2&page=2>; rel="next"'),
        (2, '</things?a=1&a=2&page=1>; rel="prev"'),
        (9, '</things?a=1&a=2&page=2>; rel="prev"'),
    ],
)
def test_a_page_names_its_neighbours_and_keeps_what_was_asked(number: int, link: str) -> None:
    page = Page(number, 2, 5, "/things", [("a", "1"), ("page", "7"), ("a", "2")])
    assert page.headers == {"X-Total-Count": "5", "Link": link}


def test_a_list_on_one_page_links_nowhere() -> None:
    assert Page(0, 5, 5, "/things").headers == {"X-Total-Count": "5"}
