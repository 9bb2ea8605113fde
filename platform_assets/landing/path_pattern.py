"""Path patterns: read facts about a file, such as its device, from its path, e.g. `{device}/{recorded_at}.txt`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

Kind = Literal["text", "time"]
"""Kind of a field."""
_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")
# ISO 8601 with its separators, or without them, since file names often cannot contain colons.
_TIME = r"(?:\d{4}-\d\d-\d\d|\d{8})T(?:\d\d:\d\d(?::\d\d(?:\.\d{1,6})?)?|\d{4}(?:\d\d(?:\.\d{1,6})?)?)"
_OFFSET = r"(?:Z|[+-]\d\d(?::?\d\d)?)?"
_FORMS = {"text": "[^/]+", "time": _TIME + _OFFSET}


class PatternError(ValueError):
    """A pattern cannot be used; the message says why."""


@dataclass(frozen=True)
class PathPattern:
    """A pattern that must match the whole path of a file in its zone.

    Parameters
    ----------
    text
        The pattern. Each placeholder, e.g. `{device}`, is the name of a field; all other text must match exactly. A
        text field is one or more characters without a slash. A time field is a time in ISO 8601, such as
        `2026-02-28T09:30:00Z` or `20260228T093000+0100`; without an offset it is in UTC.
    fields
        Kind of each allowed field, by name.

    Raises
    ------
    PatternError
        The pattern has an unpaired brace, has no placeholder, has unknown or repeated placeholders, or has two
        placeholders without text between them.
    """

    text: str
    fields: Mapping[str, Kind]

    def __post_init__(self) -> None:
        names = _PLACEHOLDER.findall(self.text)
        allowed = ", ".join(f"{{{name}}}" for name in self.fields)
        if unknown := [name for name in names if name not in self.fields]:
            raise PatternError(f"{{{unknown[0]}}} is not a field; the fields are {allowed}")
        if repeated := [name for name in names if names.count(name) > 1]:
            raise PatternError(f"{{{repeated[0]}}} occurs more than once; use each field once")
        if re.search(r"[{}]", _PLACEHOLDER.sub("", self.text)):
            raise PatternError(f"the braces do not match; write fields as {allowed}")
        if not names:
            raise PatternError(f"it has no field; use at least one of {allowed}")
        if "}{" in self.text:
            raise PatternError(
                "two fields have no text between them, so their values cannot be separated; put text between them"
            )
        if self.text.startswith("/"):
            raise PatternError("it begins with a slash; write the path relative to the zone's folder")

    def read(self, path: str) -> dict[str, str | datetime] | None:
        """Return the value of each field in a path, or None if the path does not match. Times are in UTC.

        Parameters
        ----------
        path
            Path of the file in its zone, with slashes.
        """
        found = re.fullmatch(self._expression(), path)
        if found is None:
            return None
        values: dict[str, str | datetime] = {}
        for name, text in found.groupdict().items():
            value = text if self.fields[name] == "text" else _time(text)
            if value is None:
                return None
            values[name] = value
        return values

    def _expression(self) -> str:
        parts = _PLACEHOLDER.split(self.text)
        # `split` returns literal texts and field names alternately.
        return "".join(
            f"(?P<{part}>{_FORMS[self.fields[part]]})" if place % 2 else re.escape(part)
            for place, part in enumerate(parts)
        )


def _time(text: str) -> datetime | None:
    """Return a time in UTC; None for a day or an hour that does not exist."""
    try:
        moment = datetime.fromisoformat(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        return None
