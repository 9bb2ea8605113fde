"""CSV records: split a CSV file into rows and unreadable lines, in bounded memory and without a query engine.

Every line that is not blank ends up in exactly one row or as one `Unread` line. `landed_rows.py` stores the rows as
parquet, and `domains/optimisation` reads them into a small table. All fields are texts; `lake` gives them types.
"""

from __future__ import annotations

import csv
import io
import re
from collections import deque
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from platform_assets.base.errors import SourceError
from platform_assets.landing.stray_quotes import has_lone_closing_quote, has_stray_quotes
from platform_assets.landing.text_encodings import UTF_8, is_utf8, open_as_utf8

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray
    from pyarrow.csv import InvalidRow

    from platform_assets.landing.text_encodings import Utf8Stream

LONGEST_RECORD = 1 << 17
"""Maximum length of a record in bytes: the default maximum length of a field in Python's csv module."""
MOST_LINES = 100
"""Maximum number of lines of a record whose quoted fields contain line breaks."""
PIECE = 1 << 18
"""Default number of bytes that are split at a time."""
OPEN_QUOTE = "a quote is not closed"
_CSV_OPEN_QUOTE = "unexpected end of data"  # the csv module's message for an open quote
_QUOTE, _COMMA, _NEWLINE, _RETURN = b'",\n\r'


@dataclass(frozen=True)
class Unread:
    r"""A line of a CSV file that cannot be read as a row.

    Attributes
    ----------
    line
        Line number; the header is line 1.
    reason
        Why it cannot be read.
    text
        The line. An invalid byte is written as `\xff`.
    """

    line: int
    reason: str
    text: str


@dataclass(frozen=True)
class Piece:
    """Some rows of a CSV file.

    Attributes
    ----------
    texts
        The rows, one string column per field; an empty field is null.
    lines
        Line on which each row begins, (n,).
    spans
        Number of lines of each row, (n,); more than 1 if a quoted field has line breaks.
    unread
        Unreadable lines of this part of the file.
    """

    texts: pa.RecordBatch
    lines: NDArray[np.int64]
    spans: NDArray[np.int32]
    unread: list[Unread]


@dataclass(frozen=True)
class CsvFile:
    """A CSV file whose header was read. It can be split more than once.

    Attributes
    ----------
    path
        The file.
    names
        Column names as in the header.
    encoding
        Python's name of the text encoding.
    """

    path: Path
    names: list[str]
    encoding: str

    def pieces(self, size: int = PIECE) -> Iterator[Piece]:
        """Split the file, about `size` bytes at a time.

        Raises
        ------
        UnicodeDecodeError
            The file is not in the stated encoding. This error is not raised for UTF-8. Instead, each invalid line
            becomes an `Unread` line.
        """
        with closing(open_as_utf8(self.path, self.encoding)) as stream:
            stream.readline()
            yield from _Splitter(stream, self.names).pieces(size)


def open_csv(path: Path, called: str, encoding: str = UTF_8) -> CsvFile:
    """Open a comma-separated file with a header row. Quoted fields are in double quotes.

    Parameters
    ----------
    path
        A local file.
    called
        Name of the file in messages.
    encoding
        Text encoding of the file.

    Raises
    ------
    SourceError
        The first line is not a header.
    """
    with closing(open_as_utf8(path, encoding)) as stream:
        line = stream.readline(LONGEST_RECORD)
    if not is_utf8(line):
        raise SourceError(f"{called} is neither parquet nor a CSV file in UTF-8")
    try:
        names = next(csv.reader([line.decode().rstrip("\r\n")], strict=True), [])
    except csv.Error:
        names = []
    if b"\0" in line or not any(name.strip() for name in names):
        raise not_csv(called)
    return CsvFile(path, names, encoding)


def not_csv(called: str) -> SourceError:
    """Make the error for a file without a header."""
    return SourceError(f"{called} is not a CSV file with a header of comma-separated names")


class _Splitter:
    """Splits a stream whose header was already read.

    If each line of a piece is a complete record, Arrow parses the whole piece, which is fast. Any other piece is
    examined line by line.
    """

    def __init__(self, stream: Utf8Stream, names: Sequence[str]) -> None:
        self._stream = stream
        self._names = names
        self._width = len(names)
        field = rb'(?:"[^"\0\r]*"|[^",\0\r]*)'
        self._simple = re.compile(rb"%b(?:,%b){%d}" % (field, field, self._width - 1))
        self._next = 2
        self._open = 0
        """Line of the last quote that was left open; 0 if there is none."""

    def pieces(self, size: int) -> Iterator[Piece]:
        while piece := self._stream.read(size):
            whole = piece if piece.endswith(b"\n") else piece + self._stream.readline()
            yield self._as_it_is(whole) if self._is_ordinary(whole) else self._examined(whole)

    def _is_ordinary(self, piece: bytes) -> bool:
        """Whether each line is a complete record. Arrow checks the number of fields later."""
        import numpy as np

        if b"\0" in piece:
            return False
        letters = np.frombuffer(piece, np.uint8)
        ends = np.flatnonzero(letters == _NEWLINE)
        lengths = np.diff(ends, prepend=-1, append=len(piece))[: len(ends) + (not piece.endswith(b"\n"))]
        has_returns = b"\r" in piece
        if lengths.min() <= 1 + has_returns or lengths.max() > LONGEST_RECORD:
            return False  # there is a blank line, or a line that is too long
        if has_returns and piece.count(b"\r") != piece.count(b"\r\n"):
            return False
        return (b'"' not in piece or _has_ordinary_quotes(letters, ends)) and _is_utf8(piece)

    def _as_it_is(self, piece: bytes) -> Piece:
        import numpy as np

        count = piece.count(b"\n") + (not piece.endswith(b"\n"))
        table, skipped = _texts(piece, self._names)
        lines = np.arange(self._next, self._next + count)
        unread = [Unread(self._next + place, _wrong_width(found, self._width), text) for place, found, text in skipped]
        if skipped:
            lines = np.delete(lines, [place for place, _, _ in skipped])
        self._next += count
        return Piece(table, lines, np.ones(len(lines), np.int32), unread)

    def _examined(self, piece: bytes) -> Piece:
        import numpy as np

        queue = deque(io.BytesIO(piece))
        data, unread = bytearray(), list[Unread]()
        lines, spans = list[int](), list[int]()
        while queue:
            line = queue.popleft()
            record, number, span = line.rstrip(b"\r\n"), self._next, 1
            if self._is_simple(record):
                data += record + b"\n"
            elif record:
                fields, error, span = self._record(line, queue)
                if error:
                    unread.append(Unread(number, error, _shown(record)))
                else:
                    data += _csv_line(fields)
            if record and not (unread and unread[-1].line == number):
                lines.append(number)
                spans.append(span)
            self._next += span
        return Piece(_texts(bytes(data), self._names)[0], np.array(lines, np.int64), np.array(spans, np.int32), unread)

    def _is_simple(self, record: bytes) -> bool:
        return bool(
            len(record) <= LONGEST_RECORD
            and record
            and self._simple.fullmatch(record)
            and (record.isascii() or is_utf8(record))
        )

    def _record(self, line: bytes, queue: deque[bytes]) -> tuple[list[str], str, int]:
        """Read the record that begins with this line, and remove its further lines from the queue.

        Returns
        -------
        tuple[list[str], str, int]
            Fields of the record; the error, or "" for none; number of lines of the record. With an error, only the
            given line is unreadable, and the number is 1.
        """
        record = line.rstrip(b"\r\n")
        fields, error = _fields(record, self._width)
        if error == _CSV_OPEN_QUOTE:
            return self._record_over_lines(line, queue)
        if error and _leaves_open(record):
            self._open = self._next
        elif self._open and has_lone_closing_quote(record):
            error = error or f"it closes the quote opened on line {self._open}"
            self._open = 0
        return fields, error, 1

    def _record_over_lines(self, line: bytes, queue: deque[bytes]) -> tuple[list[str], str, int]:
        whole = [line]
        while len(whole) < MOST_LINES and (more := self._ahead(queue, len(whole) - 1)):
            whole.append(more)
            if more.count(b'"') % 2 == 0:  # the record cannot end with this line
                continue
            fields, error = _fields(b"".join(whole).rstrip(b"\r\n"), self._width)
            if error == _CSV_OPEN_QUOTE:
                continue
            if not error and not has_stray_quotes([one.rstrip(b"\r\n") for one in whole], self._width):
                for _ in whole[1:]:
                    queue.popleft()
                return fields, "", len(whole)
            break
        # It is unknown where the field ends. Report only its first line as unreadable, and read the next lines as
        # records. If a later line closes a quoted field, report it as unreadable too, because it may end this record.
        self._open = self._next
        return [], OPEN_QUOTE, 1

    def _ahead(self, queue: deque[bytes], place: int) -> bytes:
        if place == len(queue) and (line := self._stream.readline()):
            queue.append(line)
        return queue[place] if place < len(queue) else b""


def _is_utf8(piece: bytes) -> bool:
    """Whether bytes are valid UTF-8. Arrow's check is used, because it is several times as fast as decoding.

    Arrow's parser needs valid UTF-8, because otherwise it cannot report a line with too many or too few fields.
    """
    import numpy as np
    import pyarrow as pa

    offsets = pa.py_buffer(np.array([0, len(piece)], np.int32))
    try:
        pa.StringArray.from_buffers(1, offsets, pa.py_buffer(piece)).validate(full=True)
    except pa.ArrowInvalid:
        return False
    return True


def _has_ordinary_quotes(letters: NDArray[np.uint8], ends: NDArray[np.intp]) -> bool:
    """Whether every quote belongs to a pair that encloses a whole field within one line."""
    import numpy as np

    places = np.flatnonzero(letters == _QUOTE)
    if len(places) % 2:
        return False
    opening, closing_ = places[::2], places[1::2]
    before, after = letters[opening - 1], letters[np.minimum(closing_ + 1, len(letters) - 1)]
    if opening[0] == 0:
        before[0] = _NEWLINE
    if closing_[-1] == len(letters) - 1:
        after[-1] = _NEWLINE
    return bool(
        ((before == _COMMA) | (before == _NEWLINE)).all()
        and ((after == _COMMA) | (after == _NEWLINE) | (after == _RETURN)).all()
        and (np.searchsorted(ends, opening) == np.searchsorted(ends, closing_)).all()
    )


def _texts(data: bytes, names: Sequence[str]) -> tuple[pa.RecordBatch, list[tuple[int, int, str]]]:
    """Parse CSV whose lines are complete records.

    Returns
    -------
    tuple[pa.RecordBatch, list[tuple[int, int, str]]]
        The fields, and the lines with too many or too few fields: index, number of fields and text of each.
    """
    import pyarrow as pa
    from pyarrow import csv as arrow_csv

    skipped: list[tuple[int, int, str]] = []

    def skip(row: InvalidRow) -> str:
        skipped.append((row.number - 1, row.actual_columns, row.text.rstrip("\r\n")))
        return "skip"

    if not data:
        return pa.RecordBatch.from_arrays([pa.array([], pa.string()) for _ in names], list(names)), skipped
    places = [str(place) for place in range(len(names))]
    # Arrow's streaming reader is not used, because it reads ahead in threads and takes more memory than the table.
    reading = arrow_csv.ReadOptions(use_threads=False, block_size=len(data) + 1, column_names=places)
    parsing = arrow_csv.ParseOptions(newlines_in_values=b'"' in data, invalid_row_handler=skip)
    converting = arrow_csv.ConvertOptions(
        column_types=dict.fromkeys(places, pa.string()), strings_can_be_null=True, null_values=[""], check_utf8=False
    )
    table = arrow_csv.read_csv(pa.BufferReader(data), reading, parsing, converting)
    # The data are one block, so each column has one chunk, or none if there are no rows.
    columns = [column.chunk(0) if column.num_chunks else pa.nulls(0, pa.string()) for column in table.columns]
    return pa.RecordBatch.from_arrays(columns, list(names)), skipped


def _fields(record: bytes, width: int) -> tuple[list[str], str]:
    """Return the fields of a record, and an error, which is empty if the record is valid."""
    if len(record) > LONGEST_RECORD:
        return [], f"it has {len(record)} bytes; at most {LONGEST_RECORD} are allowed"
    if b"\0" in record:
        return [], "it holds a zero byte"
    try:
        fields = next(csv.reader([record.decode()], strict=True))
    except UnicodeDecodeError as error:
        return [], f"it is not in UTF-8, from byte {error.start + 1} on"
    except csv.Error as error:
        return [], str(error).split(" - ")[0]
    return fields, "" if len(fields) == width else _wrong_width(len(fields), width)


def _leaves_open(record: bytes) -> bool:
    """Whether a line that is unreadable for another reason also has a quote that is not closed."""
    text = record[:LONGEST_RECORD].decode(errors="replace").replace("\0", " ")
    try:
        next(csv.reader([text], strict=True), [])
    except csv.Error as error:
        return str(error) == _CSV_OPEN_QUOTE
    return False


def _wrong_width(found: int, width: int) -> str:
    return f"it has {found} fields; the header has {width}"


def _shown(record: bytes) -> str:
    return record[:LONGEST_RECORD].decode(errors="backslashreplace")


def _csv_line(fields: Sequence[str]) -> bytes:
    return ",".join('"' + field.replace('"', '""') + '"' for field in fields).encode() + b"\n"
