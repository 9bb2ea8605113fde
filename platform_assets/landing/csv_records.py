"""CSV records: split a CSV file into records, each with its line number, its fields or what is wrong with it.

A damaged line is a record with an error; no line is lost. What the columns are called is up to `landed_rows.py`.
"""

from __future__ import annotations

import csv
from itertools import islice
from typing import TYPE_CHECKING, BinaryIO

from platform_assets.base.errors import SourceError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from platform_assets.landing.source_files import Source

LONGEST_RECORD = 1 << 17
"""Bytes of the longest record of a CSV file that is read; what the csv module takes in one field."""
MOST_LINES = 100
"""Lines that a record of a CSV file may span, by line breaks between quotes."""
_OPEN_QUOTE = "unexpected end of data"  # what Python's csv module says of one


def header(stream: BinaryIO, source: Source) -> list[str]:
    """The names in a CSV file's first line, as they stand there.

    Raises
    ------
    SourceError
        It is no header of comma-separated names.
    """
    line = stream.readline(LONGEST_RECORD)
    try:
        columns = next(csv.reader([line.decode("utf-8-sig").rstrip("\r\n")], strict=True), [])
    except UnicodeDecodeError as error:
        raise SourceError(f"{source} is neither parquet nor a CSV file in UTF-8") from error
    except csv.Error:
        columns = []
    if len(columns) < 2 or b"\0" in line or not any(name.strip() for name in columns):  # noqa: PLR2004 - one is no table
        raise SourceError(f"{source} is not a CSV file with a header of comma-separated names")
    return columns


class Records:
    """The records of a CSV file, each as a line of plain CSV: number, error, text, fields.

    Parameters
    ----------
    stream
        The file, behind its header.
    width
        Number of fields.
    """

    def __init__(self, stream: BinaryIO, width: int) -> None:
        self._stream = stream
        self._width = width
        self.spanning = False
        """Whether a record spans several lines; known at the end."""

    def __iter__(self) -> Iterator[bytes]:
        number = 2
        for line in iter(self._stream.readline, b""):
            lines, record = 1, line.rstrip(b"\r\n")
            if _is_plain(record, self._width):
                yield b"%d,,,%b\n" % (number, record)
            elif record:
                record, fields, error = self._whole(record, line)
                lines += record.count(b"\n")
                yield b"%d,%b\n" % (number, _written(record, fields, error, self._width))
            self.spanning |= lines > 1
            number += lines

    def _whole(self, record: bytes, line: bytes) -> tuple[bytes, list[str], str]:
        """The record that a line begins, with the lines that quotes hold together; its fields; what is wrong."""
        fields, error = _fields(record, self._width)
        if error != _OPEN_QUOTE:
            return record, fields, error
        behind, whole = self._stream.tell(), line
        for more in islice(iter(self._stream.readline, b""), MOST_LINES - 1):
            whole += more
            if more.count(b'"') % 2 == 0:  # it closes what it opens
                continue
            fields, error = _fields(whole.rstrip(b"\r\n"), self._width)
            if not error:
                return whole.rstrip(b"\r\n"), fields, error
            if error != _OPEN_QUOTE:
                break
        # Nobody can tell where such a field ends. The lines behind it are read as if it ended with its own.
        self._stream.seek(behind)
        return record, [], "a quote is not closed"


def _is_plain(record: bytes, width: int) -> bool:
    """Whether a line can be read without a closer look, as nearly all can."""
    return (
        record.count(b",") == width - 1
        and b'"' not in record
        and record.isascii()
        and b"\r" not in record
        and b"\0" not in record
        and len(record) <= LONGEST_RECORD
    )


def _fields(record: bytes, width: int) -> tuple[list[str], str]:
    """The fields of a record, and what is wrong with it."""
    if len(record) > LONGEST_RECORD:
        return [], f"it has {len(record)} bytes; {LONGEST_RECORD} are read"
    if b"\0" in record:
        return [], "it holds a zero byte"
    try:
        fields = next(csv.reader([record.decode()], strict=True))
    except UnicodeDecodeError as error:
        return [], f"it is not in UTF-8, from byte {error.start + 1} on"
    except csv.Error as error:
        return [], str(error).split(" - ")[0]
    return fields, "" if len(fields) == width else f"it has {len(fields)} fields; the header has {width}"


def _written(record: bytes, fields: list[str], error: str, width: int) -> bytes:
    if not error:
        return b",," + _csv_line(fields)
    # Escaped, a byte that is not UTF-8 takes four; DuckDB's longest line is 2 MB.
    text = record[:LONGEST_RECORD].decode(errors="backslashreplace")
    return _csv_line([error, text]) + b"," * width


def _csv_line(fields: list[str]) -> bytes:
    return ",".join('"' + field.replace('"', '""') + '"' if field else "" for field in fields).encode()
