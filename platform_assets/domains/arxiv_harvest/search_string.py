"""Search strings of the arXiv API: fields, phrases, escaping.

Syntax: https://info.arxiv.org/help/api/user-manual.html#query_details
"""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import ClassVar

from platform_assets.base.errors import PlatformError
from platform_assets.base.printable_text import FORBIDDEN

FIELDS = {"author": "au", "title": "ti", "journal": "jr"}
"""Prefix of each field in a search string."""
LONGEST = 500
"""Maximum characters of a value. The search string is part of the URL, and servers limit the length of a URL."""
SEARCHABLE = rf"""[^\s"\\{FORBIDDEN}]"""
"""Pattern of a character that can be searched for. It has the same meaning in Python and JavaScript."""
# Characters that become blanks. A quote would end the phrase, a backslash could escape a quote, and control and
# invisible formatting characters cannot be searched for. Tabs and line feeds separate words, as blanks do.
_SPECIAL = re.compile(rf"""["\\{FORBIDDEN}]""")


class SearchRefused(PlatformError):  # noqa: N818 - the name is clear without the suffix Error
    """The values cannot be used in a search.

    Attributes
    ----------
    field
        Name of the value at fault: author, title or journal.
    """

    status: ClassVar[int] = HTTPStatus.UNPROCESSABLE_ENTITY
    problem: ClassVar[str] = "invalid-request"

    def __init__(self, message: str, field: str) -> None:
        super().__init__(message)
        self.field = field


def search_string(author: str = "", title: str = "", journal: str = "") -> str:
    """Return the search string for papers that match all given values.

    Each value becomes a quoted phrase, for example `au:"del maestro" AND ti:"superfluid helium"`. Quotes, backslashes,
    control characters and invisible formatting characters of a value become blanks, so a value cannot end its phrase. A
    value that contains only such characters is treated as empty.

    Raises
    ------
    SearchRefused
        All values are empty, or a value is too long or not valid Unicode.
    """
    given = {"author": author, "title": title, "journal": journal}
    phrases = {name: _phrase(name, value) for name, value in given.items()}
    parts = [f'{FIELDS[name]}:"{phrase}"' for name, phrase in phrases.items() if phrase]
    if not parts:
        raise SearchRefused("Give at least one of author, title and journal.", "body")
    return " AND ".join(parts)


def _phrase(name: str, value: str) -> str:
    if len(value) > LONGEST:
        raise SearchRefused(f"{name} has {len(value):,} characters; at most {LONGEST} are allowed.", name)
    try:
        value.encode()
    except UnicodeEncodeError:
        raise SearchRefused(f"{name} contains half of a surrogate pair, which is not valid Unicode.", name) from None
    return " ".join(_SPECIAL.sub(" ", value).split())
