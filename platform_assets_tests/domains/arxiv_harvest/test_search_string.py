from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from platform_assets.domains.arxiv_harvest.search_string import FIELDS, SEARCHABLE, SearchRefused, search_string

PHRASES = re.compile(r'^(au|ti|jr):"[^"\\]+"( AND (au|ti|jr):"[^"\\]+")*$')


@pytest.mark.requirement("ARX-1")
@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"author": "Del Maestro"}, 'au:"Del Maestro"'),
        ({"title": "0"}, 'ti:"0"'),
        ({"journal": "Phys. Rev. B"}, 'jr:"Phys. Rev. B"'),
        ({"author": "A", "title": " b  c\n", "journal": "D"}, 'au:"A" AND ti:"b c" AND jr:"D"'),
        ({"author": "", "title": "x", "journal": " "}, 'ti:"x"'),
        ({"title": 'x" OR au:"y'}, 'ti:"x OR au: y"'),
        ({"title": 'x\\" ANDNOT all:"e'}, 'ti:"x ANDNOT all: e"'),
        ({"title": "x) OR (y"}, 'ti:"x) OR (y"'),
        ({"author": '"', "title": "..."}, 'ti:"..."'),
        ({"author": "Erdős & Rényi"}, 'au:"Erdős & Rényi"'),
    ],
)
def test_search_string_is_the_quoted_values_joined_with_and(values: dict[str, str], expected: str) -> None:
    assert search_string(**values) == expected


@pytest.mark.requirement("ARX-1")
@pytest.mark.parametrize(
    ("values", "field", "said"),
    [
        ({}, "body", "at least one of author, title and journal"),
        ({"author": " \t"}, "body", "at least one"),
        ({"author": '"\\\0\ufeff"'}, "body", "at least one"),
        ({"title": "x" * 501}, "title", "title has 501 characters; at most 500"),
        ({"title": "a\ud800"}, "title", "half of a surrogate pair"),
    ],
)
def test_a_missing_overlong_or_undecodable_value_is_refused(values: dict[str, str], field: str, said: str) -> None:
    with pytest.raises(SearchRefused, match=said) as caught:
        search_string(**values)
    assert caught.value.field == field


# Pieces that have a meaning in a search string are drawn separately, because they are rare in random text.
VALUES = st.lists(st.sampled_from(['"', "\\", " AND ", '" OR au:"', "\0"]) | st.text(max_size=5), max_size=6).map(
    "".join
)


@given(st.lists(VALUES, min_size=3, max_size=3))
def test_no_value_changes_the_structure_of_the_search_string(values: list[str]) -> None:
    given = dict(zip(FIELDS, values, strict=True))
    try:
        found = search_string(**given)
    except SearchRefused:
        return
    assert PHRASES.match(found)
    assert [FIELDS[name] for name, value in given.items() if re.search(SEARCHABLE, value)] == re.findall(
        r'(?:^| AND )(\w\w):"', found
    )
