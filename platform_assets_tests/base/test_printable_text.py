from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import jsonschema_rs
import psycopg
import pytest

from platform_assets.base.printable_text import VISIBLE, escaped, is_visible, numbers_in_order, unprintable
from platform_assets_tests.postgres import owner_of

if TYPE_CHECKING:
    from collections.abc import Iterator

BLANKS = [
    *("", " \n\t", "\u200b\u200d\u2060", "\ufeff", "\u3164\u115f", "\u2800", "\u00ad\u034f", "\u202e\u2066"),
    *("\ufe0f", "\x00\x1f\x7f\x9f", "\U000e0041\U000e007f", "\u180e\u061c", "\u00a0\u3000\u2028", "\ufff9"),
]
TEXTS = ["a", " \u200b.", "\N{FIRE}", "\u706b", "-", "\u0301", "\u200d\N{FIRE}\ufe0f"]


@pytest.mark.parametrize(
    ("text", "lines", "found", "shown"),
    [
        ("Anna Müller 😀", False, [], "Anna Müller 😀"),
        ("a\tb\nc", True, [], "a\tb\nc"),
        ("a\tb\nc", False, ["U+0009", "U+000A"], r"a\tb\nc"),
        ("\x1b[31mred\x1b[0m", True, ["U+001B"], r"\x1b[31mred\x1b[0m"),
        ("a\u202edcb", True, ["U+202E"], r"a\u202edcb"),
        ("a\u200bb\ufeff\r\0", True, ["U+0000", "U+000D", "U+200B", "U+FEFF"], r"a\u200bb\ufeff\r\x00"),
        ("x\U000e0041", False, ["U+E0041"], r"x\U000e0041"),
        ("a\ud800", False, ["U+D800"], r"a\ud800"),
        # Zero-width joiners are allowed, because some languages and emoji need them.
        ("नमस्ते क्\u200dष 👩\u200d💻", False, [], "नमस्ते क्\u200dष 👩\u200d💻"),
    ],
)
def test_forbidden_characters_are_listed_by_code_point_and_escaped(
    text: str, lines: bool, found: list[str], shown: str
) -> None:
    assert unprintable(text, lines=lines) == found
    assert escaped(text, lines=lines) == shown


@pytest.fixture
def owner(database_url: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(owner_of(database_url)) as connection:
        yield connection


@pytest.mark.requirement("PRO-9")
def test_database_and_python_refuse_the_same_characters(owner: psycopg.Connection[Any]) -> None:
    letters = [chr(code) for code in range(1, sys.maxunicode + 1) if not 0xD800 <= code <= 0xDFFF]
    for lines in (False, True):
        refused = owner.execute(
            "select letter from unnest(string_to_array(%s, null)) letter where not platform.is_printable(letter, %s)",
            ["".join(letters), lines],
        ).fetchall()
        assert {letter for (letter,) in refused} == {one for one in letters if unprintable(one, lines=lines)}


@pytest.mark.requirement("PRO-6", "PRO-9")
def test_database_and_python_case_fold_names_equally(owner: psycopg.Connection[Any]) -> None:
    letters = [chr(code) for code in range(1, sys.maxunicode + 1) if not 0xD800 <= code <= 0xDFFF]
    names = ["".join(letters), " ANNA ", "STRASSE", "straße", "ǅ", "İ", "ß\u2003", "\u3000\u03a3\u03c2\x1f", ""]
    rows = owner.execute("select name, platform.folded(name) from unnest(%s::text[]) name", [names]).fetchall()
    assert dict(rows) == {name: name.strip().casefold() for name in names}


@pytest.mark.requirement("SRV-3")
@pytest.mark.parametrize(("text", "visible"), [*((text, False) for text in BLANKS), *((text, True) for text in TEXTS)])
def test_a_text_of_invisible_characters_is_not_visible(text: str, visible: bool) -> None:
    assert is_visible(text) is visible
    assert jsonschema_rs.is_valid({"type": "string", "pattern": VISIBLE}, text) is visible


def test_texts_are_sorted_by_the_values_of_their_numbers() -> None:
    texts = ["10", "under 30", "2", "30 to 44", "0"]
    assert sorted(texts, key=numbers_in_order) == ["0", "2", "10", "30 to 44", "under 30"]
