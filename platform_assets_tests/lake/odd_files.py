"""Unusual or damaged files of a known table. The same seed always writes the same file.

The files vary in format, quotes, text encoding, line ends, notation of numbers and dates, order and case of columns,
Parquet types and encodings, and compression. A file may repeat rows, contain values of another type, or be damaged.
"""

from __future__ import annotations

import bz2
import csv
import datetime as dt
import decimal
import gzip
import io
import lzma
import random
import sqlite3
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from platform_assets.lake.schemas import Column, TableSchema

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

Row = dict[str, Any]

SCHEMA = TableSchema(
    name="shop/odd",
    columns=(
        Column("id", "int64", "Number of the row."),
        Column("name", "string", "Text."),
        Column("note", "string", "Text."),
        Column("amount", "float64", "Number."),
        Column("price", "decimal(12, 2)", "Number with two decimals."),
        Column("day", "date", "Day."),
        Column("at", "timestamp(6)", "Time."),
        Column("ok", "boolean", "Truth value."),
    ),
    key=("id",),
    source=True,
)
NAMES = [column.name for column in SCHEMA.columns]
TABLE = "odd"
_TEXTS = (
    "Inn",
    "a b",
    " x ",
    "NA",
    "NULL",
    "nan",
    "1E5",
    "+10101",
    "1701.0",
    "007",
    "true",
    "2020-01-01",
    "Köln",
    "Łódź",
    "数",
    "🏨",
    "e\u0301",
    'say "no"',
    "a, b",
    "1 Mill Rd\nSuite 5",
    "a\r\n\r\nb",
    ",",
    '"',
    "'",
    "\\",
    "\t",
    "#1",
    "-",
)
_PLAIN_TEXTS = tuple(f"Inn {number}" for number in range(40))
_DECIMALS = ("0.00", "1.10", "-2.05", "9999999999.99")
_FLOATS = (0.0, 0.1, -1.5, 1e-7, 1e300, 4.35, 123456789.0, 2.0**53)


@dataclass
class OddFile:
    """A file, and the correct outcomes of landing it.

    Attributes
    ----------
    name
        File name, whose suffix states the compression.
    content
        Bytes.
    rows
        The rows that the file contains, with `None` for a missing value.
    lines
        Lines of each row in a CSV file; row numbers in other files.
    unreadable
        Indices in `rows` of the rows that must be quarantined.
    may_quarantine
        Whether other rows may be quarantined.
    may_refuse
        Whether the file may be refused as a whole.
    story
        Description of what is unusual in the file, for reports.
    """

    name: str
    content: bytes
    rows: list[Row]
    lines: list[range]
    unreadable: set[int] = field(default_factory=set)
    may_quarantine: bool = False
    may_refuse: bool = False
    story: list[str] = field(default_factory=list)


def odd_file(seed: int, folder: Path) -> OddFile:
    """Make the file for a seed. Only SQLite uses the folder, because it cannot write to memory."""
    rng = random.Random(seed)
    rows = [_row(rng, number) for number in range(rng.choice((1, 2, 5, 30, 30, 120)))]
    unreadable = _repeat(rng, rows)
    make: Callable[[random.Random, list[Row], set[int], Path], OddFile] = rng.choice(
        (_csv_file, _csv_file, _csv_file, _parquet_file, _parquet_file, _sqlite_file)
    )
    file = make(rng, rows, unreadable, folder)
    return _packed(rng, file) if not file.name.endswith("sqlite") else file


def _row(rng: random.Random, number: int) -> Row:
    large = rng.choice((0, 0, 0, 0, 2**31, 2**53 - 200, 2**53, 2**63 - 200))
    texts = _TEXTS if rng.random() < 0.3 else _PLAIN_TEXTS
    row: Row = {
        "id": (large + number) * rng.choice((1, 1, 1, -1)),
        "name": rng.choice(texts),
        "note": rng.choice(texts),
        "amount": rng.choice(_FLOATS) if rng.random() < 0.5 else rng.uniform(-1e4, 1e4),
        "price": decimal.Decimal(rng.choice(_DECIMALS)),
        "day": dt.date(1, 1, 1) + dt.timedelta(rng.randrange(3_652_059))
        if rng.random() < 0.2
        else dt.date(2024, 2, 29),
        "at": dt.datetime(2024, 2, 29, rng.randrange(24), 5, 7, rng.choice((0, 500_000, 123_456))),
        "ok": rng.random() < 0.5,
    }
    for name in NAMES[1:]:
        if rng.random() < 0.05:
            row[name] = None
    return row


def _repeat(rng: random.Random, rows: list[Row]) -> set[int]:
    """Repeat some rows; return the positions of rows that contradict each other. These rows must be quarantined."""
    ids = [row["id"] for row in rows]
    rows[:] = [row for place, row in enumerate(rows) if row["id"] not in ids[:place]]
    if rng.random() < 0.2:
        rows.append(dict(rng.choice(rows)))
    if rng.random() < 0.1:
        first = rng.randrange(len(rows))
        rows.append(rows[first] | {"note": "another"})
        return {place for place, row in enumerate(rows) if row["id"] == rows[first]["id"]}
    return set()


# CSV


def _csv_file(rng: random.Random, rows: list[Row], unreadable: set[int], _: Path) -> OddFile:
    names = _shuffled(rng)
    quoting = rng.choice((csv.QUOTE_MINIMAL, csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC))
    end = rng.choice(("\n", "\n", "\r\n"))
    encoding = rng.choice(("utf-8", "utf-8", "utf-8", "utf-8-sig", "utf-16"))
    story = [f"csv, quoting {quoting}, line end {end!r}, {encoding}"]
    records = [_record([_spelt(rng, name) for name in names], quoting, end)]
    owners: list[int | None] = [None]
    for place, row in enumerate(rows):
        cells = [_cell(rng, name, row.get(name)) for name in names]
        if rng.random() < 0.01:
            number = rng.choice(("amount", "price", "day", "at", "ok", "id"))
            cells[names.index(number)] = rng.choice(("n/a", "NaN", "1e400", "2e16.5", "0x10", "31.12.2024", "--", "²"))
            unreadable.add(place)
        record = _record(cells, quoting, end)
        if rng.random() < 0.02:
            records.append(end)
            owners.append(None)
        records.append(record)
        owners.append(place)
    if rng.random() < 0.2:
        records[-1] = records[-1].removesuffix(end)
        story.append("no line end at the end")
    file = OddFile("odd.csv", b"", rows, [], unreadable, story=story)
    if encoding == "utf-16" or rng.random() < 0.6:
        file.content = "".join(records).encode(encoding)
        file.lines = _lines_of([record.encode() for record in records], owners)
        return file
    damaged = [record.encode() for record in records]
    _damage(rng, file, damaged, owners, names)
    file.content = (b"\xef\xbb\xbf" if encoding == "utf-8-sig" else b"") + b"".join(damaged)
    file.lines = _lines_of(damaged, owners)
    return file


def _lines_of(records: Sequence[bytes], owners: Sequence[int | None]) -> list[range]:
    """Return the line numbers of each row."""
    line, lines = 1, []
    for record, owner in zip(records, owners, strict=True):
        breaks = record.count(b"\n")
        if owner is not None:
            lines.append(range(line, line + max(breaks, 1)))
        line += breaks
    return lines


def _damage(
    rng: random.Random, file: OddFile, records: list[bytes], owners: Sequence[int | None], names: Sequence[str]
) -> None:
    """Damage up to three records, each in one way.

    Two kinds of damage together can produce a readable row with wrong values. For example, a surplus comma makes up for
    a lost comma, and a lost line end between two stray quotes leaves a line with a quoted field.
    """
    file.may_quarantine = True
    good = [place for place, record in enumerate(records) if place and record.strip()]
    kinds = ("stray quotes", "another encoding", "zero byte", "lost comma", "surplus comma", "lost line end")
    for _ in range(rng.choice((1, 1, 2, 3))):
        if not good:
            return
        kind, place = rng.choice(kinds), rng.choice(good)
        changed = {place}
        record = records[place]
        if kind == "another encoding":
            records[place] = record.rstrip(b"\r\n") + b"\xe9\n"
            if b'"' in record:
                records[place] = record.replace(b'"', b'"\xe9', 1)
        elif kind == "zero byte":
            records[place] = record[:3] + b"\0" + record[3:]
        elif kind == "lost comma" and b'"' not in record:
            records[place] = record.replace(b",", b"", 1)
        elif kind == "surplus comma":
            records[place] = b"," + record
        elif kind == "lost line end" and place + 1 in good:
            records[place] = record.rstrip(b"\r\n") + b","
            changed.add(place + 1)
        elif kind == "stray quotes":
            changed = _plant_stray_quotes(rng, file, records, place, good, owners=owners, names=names)
        else:
            continue
        file.story.append(kind)
        good = [other for other in good if other not in changed]


def _plant_stray_quotes(
    rng: random.Random,
    file: OddFile,
    records: list[bytes],
    place: int,
    good: Sequence[int],
    *,
    owners: Sequence[int | None],
    names: Sequence[str],
) -> set[int]:
    """Open a quote in a record, and usually close it in the same column of a later record.

    Return the positions of both.

    A quote at the end of an unquoted field is part of the field's value, so the quote is also added to `file.rows`.
    """
    column = rng.randrange(len(NAMES))
    if b'"' in records[place] or b"\n" in records[place].rstrip(b"\r\n"):
        return {place}
    _change_field(records, place, column, lambda field: b'"' + field)
    later = [other for other in good if other > place]
    if not later or rng.random() < 0.2:
        return {place}
    closing = rng.choice(later)
    if b'"' not in records[closing]:
        _change_field(records, closing, column, lambda field: field + b'"')
        owner, name = owners[closing], names[column]
        if owner is not None and name in {"name", "note"} and (value := file.rows[owner][name]):
            file.rows[owner] = file.rows[owner] | {name: f'{value}"'}
    return {place, closing}


def _change_field(records: list[bytes], place: int, column: int, change: Callable[[bytes], bytes]) -> None:
    content = records[place].rstrip(b"\r\n")
    fields = content.split(b",")
    fields[column] = change(fields[column])
    records[place] = b",".join(fields) + records[place][len(content) :]


def _record(cells: Sequence[Any], quoting: Any, end: str) -> str:
    written = io.StringIO()
    csv.writer(written, quoting=quoting, lineterminator=end).writerow(cells)
    return written.getvalue()


def _cell(rng: random.Random, name: str, value: Any) -> str:
    """Return one of the texts that represent a value in CSV."""
    if value is None:
        return ""
    forms: Mapping[str, Callable[[], Sequence[str]]] = {
        "id": lambda: [str(value), f"+{value}" if value >= 0 else str(value), f" {value} ", *_with_point(value)],
        "amount": lambda: [repr(value), f"{value!r} ", f"{value:.17e}"],
        "price": lambda: [str(value), f"{value}00"],
        "day": lambda: [value.isoformat(), f"{value.isoformat()}T00:00:00", f"{value.isoformat()} 00:00:00.000"],
        "at": lambda: [value.isoformat(), value.isoformat(" ")],
        "ok": lambda: [str(value), str(value).lower(), str(int(value)), str(value).upper()],
        "extra": lambda: [value],
    }
    return rng.choice(forms[name]()) if name in forms else str(value)


def _with_point(value: int) -> list[str]:
    return [f"{value}.0"] if abs(value) < 2**53 else []


def _spelt(rng: random.Random, name: str) -> str:
    return rng.choice((name, name, name.upper(), f" {name} ", name.title()))


def _shuffled(rng: random.Random) -> list[str]:
    names = [*NAMES, "extra"] if rng.random() < 0.3 else list(NAMES)
    if rng.random() < 0.5:
        rng.shuffle(names)
    return names


# Parquet

_TYPES: Mapping[str, Sequence[pa.DataType]] = {
    "id": (pa.int64(), pa.decimal128(20, 0), pa.decimal256(60, 0), pa.string(), pa.dictionary(pa.int32(), pa.int64())),
    "name": (
        pa.string(),
        pa.large_string(),
        pa.string_view(),
        pa.binary(),
        pa.large_binary(),
        pa.dictionary(pa.int16(), pa.string()),
        pa.dictionary(pa.int8(), pa.binary()),
    ),
    "amount": (pa.float64(), pa.float64(), pa.dictionary(pa.int32(), pa.float64())),
    "price": (pa.decimal128(12, 2), pa.decimal256(12, 2), pa.decimal256(50, 2), pa.decimal64(12, 2), pa.string()),
    "day": (pa.date32(), pa.date64(), pa.timestamp("us"), pa.timestamp("s"), pa.string()),
    "at": (pa.timestamp("us"), pa.timestamp("ns"), pa.string()),
    "ok": (pa.bool_(), pa.string()),
    "extra": (pa.list_(pa.int32()), pa.time64("us"), pa.binary(), pa.null(), pa.duration("s")),
}


def _parquet_file(rng: random.Random, rows: list[Row], unreadable: set[int], _: Path) -> OddFile:
    names = _shuffled(rng)
    columns, story = [], ["parquet"]
    has_bytes = rng.random() < 0.1
    if has_bytes:
        unreadable.clear()  # with equal notes, no rows contradict each other
        for row in rows:
            row["note"] = "x"
    # Use one of only four combinations of types, so that many files can be read together.
    combination = rng.randrange(4)
    for name in names:
        choices = _TYPES["name" if name == "note" else name]
        kind = rng.choice(choices) if name in {"name", "note", "extra"} else choices[combination % len(choices)]
        values = [row.get(name) for row in rows]
        if name == "id" and combination == 3:
            kind = pa.float64()
            unreadable |= {place for place, row in enumerate(rows) if abs(row["id"]) >= 2**53}
        columns.append(_array(values, kind))
        story.append(f"{name} {kind}")
    if has_bytes:
        place = names.index("note")
        columns[place] = pa.array([b"\xff" if row["id"] % 3 == 0 else b"x" for row in rows])
        unreadable |= {place for place, row in enumerate(rows) if row["id"] % 3 == 0}
    table = pa.Table.from_arrays(columns, [_spelt(rng, name) for name in names])
    sink = io.BytesIO()
    pq.write_table(
        table,
        sink,
        compression=rng.choice(("none", "snappy", "zstd", "gzip", "lz4", "brotli")),
        use_dictionary=rng.random() < 0.5,
        data_page_version=rng.choice(("1.0", "2.0")),
        row_group_size=rng.choice((1, 7, 1_000)),
        write_statistics=rng.random() < 0.5,
        write_page_checksum=True,
    )
    file = OddFile("odd.parquet", sink.getvalue(), rows, _numbered(rows), unreadable, story=story)
    if rng.random() < 0.3:
        _flip_value(rng, file)
    return file


def _flip_value(rng: random.Random, file: OddFile) -> None:
    """Change the last byte of a page.

    Other bytes are not changed, because damage in headers or the footer, which have no checksum, can go undetected.
    """
    described = pq.ParquetFile(io.BytesIO(file.content)).metadata
    group = described.row_group(rng.randrange(described.num_row_groups))
    chunk = group.column(rng.randrange(described.num_columns))
    start = chunk.dictionary_page_offset if chunk.has_dictionary_page else chunk.data_page_offset
    content = bytearray(file.content)
    content[start + chunk.total_compressed_size - 1] ^= 1 << rng.randrange(8)
    file.content, file.may_refuse = bytes(content), True
    file.story.append("flipped")


def _array(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    import pyarrow.types as is_

    if is_.is_dictionary(kind):
        return _array(values, kind.value_type).dictionary_encode()
    if is_.is_binary(kind) or is_.is_large_binary(kind):
        return pa.array([None if value is None else str(value).encode() for value in values], kind)
    if is_.is_string(kind) or is_.is_large_string(kind) or is_.is_string_view(kind):
        return pa.array([None if value is None else str(value) for value in values], kind)
    if is_.is_timestamp(kind) and any(type(value) is dt.date for value in values):
        return pa.array(values, pa.date32()).cast(kind)
    if is_.is_floating(kind):
        return pa.array([None if value is None else float(value) for value in values], kind)
    return pa.array(values, kind)


def _numbered(rows: Sequence[Row]) -> list[range]:
    return [range(number, number + 1) for number in range(1, len(rows) + 1)]


# SQLite


def _sqlite_file(rng: random.Random, rows: list[Row], unreadable: set[int], folder: Path) -> OddFile:
    names = _shuffled(rng)
    path = folder / "odd.sqlite"
    path.unlink(missing_ok=True)
    cells = [[_sqlite_value(rng, name, row.get(name)) for name in names] for row in rows]
    for place, row in enumerate(cells):
        if rng.random() < 0.02:
            row[names.index("note")] = b"\xff\xfe"
            unreadable.add(place)
        if "extra" in names:
            row[names.index("extra")] = b"\x00\xff"
    with closing(sqlite3.connect(path)) as database:
        columns = ", ".join(f'"{_spelt(rng, name)}"' for name in names)
        database.execute(f"CREATE TABLE {TABLE} ({columns}, twice AS (1 + 1) STORED)")
        database.executemany(f"INSERT INTO {TABLE} VALUES ({', '.join('?' * len(names))})", cells)
        database.commit()
    file = OddFile("odd.sqlite", path.read_bytes(), rows, _numbered(rows), unreadable, story=["sqlite"])
    if rng.random() < 0.2:
        _cut(rng, file)
    return file


def _sqlite_value(rng: random.Random, name: str, value: Any) -> Any:
    if value is None or name in {"amount", "id"}:
        return value
    if name in {"name", "note"}:
        return value.encode() if rng.random() < 0.2 else value
    return int(value) if name == "ok" else str(value)


# Packing and damage


def _packed(rng: random.Random, file: OddFile) -> OddFile:
    pack = rng.choice(
        (None, None, None, None, ("gz", partial(gzip.compress, mtime=0)), ("bz2", bz2.compress), ("xz", lzma.compress))
    )
    if pack is None:
        return file
    suffix, compress = pack
    file.name, file.content = f"{file.name}.{suffix}", compress(file.content)
    file.story.append(suffix)
    if rng.random() < 0.3:
        rng.choice((_flip, _cut))(rng, file)
    return file


def _flip(rng: random.Random, file: OddFile) -> None:
    """Change up to three bytes of a compressed file, whose checksum covers the whole content."""
    content = bytearray(file.content)
    for _ in range(rng.choice((1, 1, 3))):
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    file.content, file.may_refuse = bytes(content), True
    file.story.append("flipped")


def _cut(rng: random.Random, file: OddFile) -> None:
    """Drop the end of a file."""
    file.content, file.may_refuse = file.content[: rng.randrange(len(file.content))], True
    file.story.append("cut")
