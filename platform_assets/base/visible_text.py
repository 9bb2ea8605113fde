"""A check, and a pattern for JSON schemas, that a text contains a visible character."""

from __future__ import annotations

import re

_INVISIBLE = (
    # Blanks, controls, and formats: zero width, direction, joiners, fillers, variation selectors.
    r"\s\u0000-\u0020\u007f-\u00a0\u00ad\u034f\u061c\u115f\u1160\u1680\u17b4\u17b5\u180b-\u180f\u2000-\u200f"
    r"\u2028-\u202f\u205f-\u206f\u2800\u3000\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb"
    # Musical formats and tags. As characters, because Python and JavaScript escape them differently.
    "\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
VISIBLE = f"[^{_INVISIBLE}]"
"""Pattern that a text with a visible character matches somewhere; the same in Python and JavaScript (flag `u`)."""
_VISIBLE = re.compile(VISIBLE)


def is_visible(text: str) -> bool:
    """Return whether a text contains a visible character."""
    return _VISIBLE.search(text) is not None
