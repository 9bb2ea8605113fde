"""Stray quotes: decide whether lines between two quotes are separate rows, or one field with line breaks."""

from __future__ import annotations

import csv
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

WIDE = 5
"""In a table with at least this many columns, a line of free text very rarely has as many fields as a row."""
FEWEST_COMMAS = 3
"""Minimum number of commas in all lines together. With fewer commas, the lines may just as well be free text."""
# The quantifier is possessive, so that an escaped quote is never taken for the closing one.
_QUOTED = re.compile(rb'"(?:[^"]|"")*+"')
_QUOTED_FIELD = re.compile(rb'(?:(?<=,)|^)"(?:[^"]|"")*+"(?=,|$)')
_LONE = re.compile(rb'"(?:,|$)')


def has_lone_closing_quote(line: bytes) -> bool:
    """Whether an unquoted field ends with a quote."""
    return _LONE.search(_QUOTED_FIELD.sub(b"", line)) is not None


def has_stray_quotes(lines: Sequence[bytes], width: int) -> bool:
    """Decide whether the quotes of a record over several lines are stray, i.e. whether its lines are separate rows.

    A line is a row if it has as many fields as the header and is quoted like the first line. At least half of the lines
    between the first and the last must be rows, and one of these conditions must be met:

    - The first and the last line, without their quotes, are rows too, and all lines together have at least
      `FEWEST_COMMAS` commas.
    - The file has at least `WIDE` columns, and at least one line between the first and the last is a row.

    Parameters
    ----------
    lines
        The lines without line ends; the first line opens a quote that a later line closes.
    width
        Number of fields in the header.
    """
    opening = _opening(lines[0])
    quoted = _QUOTED.match(b"\n".join(lines), opening)
    if quoted is None:
        return False
    last = quoted[0].count(b"\n")
    closing = quoted.end() - 1 - sum(len(line) + 1 for line in lines[:last])
    # Compare the quoting at the start of the lines, or at their end if the stray quote is at the start.
    compared = -1 if opening == 0 else 0
    first = _without(lines[0], opening)
    style = first[compared:][:1] == b'"'

    def is_row(line: bytes) -> bool:
        return _width(line) == width and (line[compared:][:1] == b'"') == style

    between = lines[1:last]
    rows = sum(is_row(line) for line in between)
    ends_in_row = is_row(_without(lines[last], closing))
    mostly_rows = 2 * rows >= len(between)
    enough = last * (width - 1) >= FEWEST_COMMAS
    return mostly_rows and ((is_row(first) and ends_in_row and enough) or (width >= WIDE and rows > 0))


def _opening(line: bytes) -> int:
    """Return the position of the quote that the line leaves open."""
    place = 0
    while True:
        if line[place : place + 1] == b'"':
            quoted = _QUOTED.match(line, place)
            if quoted is None:
                return place
            place = quoted.end()
        place = line.index(b",", place) + 1


def _without(line: bytes, place: int) -> bytes:
    return line[:place] + line[place + 1 :]


def _width(line: bytes) -> int:
    try:
        return len(next(csv.reader([line.decode()], strict=True), []))
    except (UnicodeDecodeError, csv.Error):
        return 0
