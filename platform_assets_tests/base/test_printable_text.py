from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from platform_assets.base.printable_text import escaped, unprintable
from platform_assets_tests.postgres import owner_of

if TYPE_CHECKING:
    from collections.abc import Iterator


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
        # Joiners are part of words and emoji.
        ("नमस्ते क्\u200dष 👩\u200d💻", False, [], "नमस्ते क्\u200dष 👩\u200d💻"),
    ],
)
def test_characters_that_nobody_sees_are_named_and_escaped(
    text: str, lines: bool, found: list[str], shown: str
) -> None:
    assert unprintable(text, lines=lines) == found
    assert escaped(text, lines=lines) == shown


@pytest.fixture
def owner(database_url: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(owner_of(database_url)) as connection:
        yield connection


@pytest.mark.requirement("PRO-9")
def test_the_database_refuses_the_same_characters_as_python_does(owner: psycopg.Connection[Any]) -> None:
    letters = [chr(code) for code in range(1, sys.maxunicode + 1) if not 0xD800 <= code <= 0xDFFF]
    for lines in (False, True):
        refused = owner.execute(
            "select letter from unnest(string_to_array(%s, null)) letter where not platform.is_printable(letter, %s)",
            ["".join(letters), lines],
        ).fetchall()
        assert {letter for (letter,) in refused} == {one for one in letters if unprintable(one, lines=lines)}


@pytest.mark.requirement("PRO-6", "PRO-9")
def test_the_database_folds_names_as_python_does(owner: psycopg.Connection[Any]) -> None:
    letters = [chr(code) for code in range(1, sys.maxunicode + 1) if not 0xD800 <= code <= 0xDFFF]
    names = ["".join(letters), " ANNA ", "STRASSE", "straße", "ǅ", "İ", "ß\u2003", "\u3000\u03a3\u03c2\x1f", ""]
    rows = owner.execute("select name, platform.folded(name) from unnest(%s::text[]) name", [names]).fetchall()
    assert dict(rows) == {name: name.strip().casefold() for name in names}
