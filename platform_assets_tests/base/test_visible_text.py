"""Texts without visible characters, and the JSON schema pattern that says the same."""

from __future__ import annotations

import jsonschema_rs
import pytest

from platform_assets.base.visible_text import VISIBLE, is_visible

BLANKS = [
    *("", " \n\t", "\u200b\u200d\u2060", "\ufeff", "\u3164\u115f", "\u2800", "\u00ad\u034f", "\u202e\u2066"),
    *("\ufe0f", "\x00\x1f\x7f\x9f", "\U000e0041\U000e007f", "\u180e\u061c", "\u00a0\u3000\u2028", "\ufff9"),
]
TEXTS = ["a", " \u200b.", "\N{FIRE}", "\u706b", "-", "\u0301", "\u200d\N{FIRE}\ufe0f"]


@pytest.mark.requirement("SRV-3")
@pytest.mark.parametrize(("text", "visible"), [*((text, False) for text in BLANKS), *((text, True) for text in TEXTS)])
def test_only_a_text_with_a_visible_character_is_visible(text: str, visible: bool) -> None:
    assert is_visible(text) is visible
    assert jsonschema_rs.is_valid({"type": "string", "pattern": VISIBLE}, text) is visible
