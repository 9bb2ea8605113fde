"""Text that looks like what it holds: without control characters and invisible formatting.

Such characters can rewrite a terminal's output or reverse the direction of a line. New texts with them are refused;
older ones are shown escaped.
"""

from __future__ import annotations

import re

# The same set as `platform.is_printable` (migration 0004). Escapes that Python, JavaScript and Rust read alike; beyond
# four digits the characters themselves.
_FORBIDDEN = (
    r"\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f"
    r"\ufeff\ufff9-\ufffb"
    "\U000e0000-\U000e007f"
)
PRINTABLE = rf"[^\u0009\u000a{_FORBIDDEN}]"
"""Pattern of a printable character, for JSON schemas."""
PRINTABLE_LINES = rf"(?:[^{_FORBIDDEN}]|\r\n)"
"""Pattern of a printable character, a line break or a tab."""
# PostgreSQL cannot store surrogates either.
_UNPRINTABLE = re.compile(rf"[\u0009\u000a{_FORBIDDEN}\ud800-\udfff]")
_OF_LINES = "\n\t"


def unprintable(text: str, *, lines: bool = False) -> list[str]:
    """Return the code points of a text that no person would see, as `U+202E`, sorted.

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
    r"""Return a text with such characters written as `\u202e`.

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
