"""Find and escape control characters and invisible formatting characters in texts.

They can rewrite a terminal's output or reverse the direction of a line. New texts with forbidden characters are
refused; older texts are shown escaped. Blanks and joiners are allowed; `is_visible` detects a text that contains
nothing else.
"""

from __future__ import annotations

import re

# The same set as in `platform.is_printable` (migration 0004). Python, JavaScript and Rust read these escapes alike.
# For code points of more than four digits, the pattern contains the characters themselves.
FORBIDDEN = (
    r"\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f"
    r"\ufeff\ufff9-\ufffb"
    "\U000e0000-\U000e007f"
)
"""Control characters and invisible formatting characters, except tab and line feed; for use in a character class."""
PRINTABLE = rf"[^\u0009\u000a{FORBIDDEN}]"
"""Pattern of a printable character, for JSON schemas."""
PRINTABLE_LINES = rf"(?:[^{FORBIDDEN}]|\r\n)"
"""Pattern of a printable character, a line break or a tab."""
# Surrogates are forbidden too, because PostgreSQL cannot store them.
_UNPRINTABLE = re.compile(rf"[\u0009\u000a{FORBIDDEN}\ud800-\udfff]")
_OF_LINES = "\n\t"
_INVISIBLE = (
    # Blanks, control characters, zero-width spaces, direction marks, joiners, fillers and variation selectors.
    r"\s\u0000-\u0020\u007f-\u00a0\u00ad\u034f\u061c\u115f\u1160\u1680\u17b4\u17b5\u180b-\u180f\u2000-\u200f"
    r"\u2028-\u202f\u205f-\u206f\u2800\u3000\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb"
    # Invisible musical symbols and tag characters. The pattern contains the characters themselves, because Python and
    # JavaScript escape them differently.
    "\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
VISIBLE = f"[^{_INVISIBLE}]"
"""Pattern to search for a visible character; valid in Python and JavaScript (flag `u`)."""
_VISIBLE = re.compile(VISIBLE)


def unprintable(text: str, *, lines: bool = False) -> list[str]:
    """Return the code points of the forbidden characters in a text, sorted, e.g. `U+202E`.

    Parameters
    ----------
    text
        Any text.
    lines
        Whether line breaks and tabs are allowed.
    """
    found = {letter for letter in _UNPRINTABLE.findall(text) if not (lines and letter in _OF_LINES)}
    return [f"U+{ord(letter):04X}" for letter in sorted(found)]


def escaped(text: str, *, lines: bool = False) -> str:
    r"""Return a text with the forbidden characters escaped, e.g. as `\u202e`.

    Parameters
    ----------
    text
        Any text.
    lines
        Whether line breaks and tabs stay as they are.
    """

    def shown(found: re.Match[str]) -> str:
        letter = found[0]
        return letter if lines and letter in _OF_LINES else letter.encode("unicode_escape").decode()

    return _UNPRINTABLE.sub(shown, text)


def is_visible(text: str) -> bool:
    """Return whether a text contains a visible character."""
    return _VISIBLE.search(text) is not None


def numbers_in_order(text: str) -> list[str | int]:
    """Return a sort key that compares the whole numbers in texts by value: `2` before `10`."""
    return [int(part) if place % 2 else part for place, part in enumerate(re.split(r"([0-9]+)", text))]
