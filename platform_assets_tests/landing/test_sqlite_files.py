"""A table of a SQLite file is landed as numbered rows; an invalid file is refused with the reason."""

from __future__ import annotations

import random
import sqlite3
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from platform_assets.base.errors import SourceError
from platform_assets.engine.query_engine import Engine
from platform_assets.landing.archives import Unpacking
from platform_assets.landing.landed_rows import land
from platform_assets.landing.row_writer import ERROR, LINE, TEXT, UNREADABLE
from platform_assets.landing.source_files import Source
from platform_assets.landing.sqlite_files import (
    DamagedDatabaseError,
    MissingColumnError,
    MissingTableError,
    NotADatabaseError,
    SqliteError,
    counted,
    opened_sqlite,
    sqlite_rows,
)
from platform_assets_tests.archives import TABLE, database, labelled, pack

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.requirement("REL-1")

COLUMNS = ("index", "text")
AB = "CREATE TABLE data (A, b)"
SETTING = "PLATFORM_SHOP_SALES_URI"


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    engine = Engine(tmp_path_factory.mktemp("scratch"), "300MB", 2)
    yield engine
    engine.close()


def landed(engine: Engine, folder: Path, content: bytes, columns: tuple[str, ...] = COLUMNS) -> list[dict[str, Any]]:
    file = folder / "a b?#%.sqlite"
    file.write_bytes(content)
    with land(Source(SETTING, str(file)), engine, reader=sqlite_rows("data", columns)) as found:
        rows: list[dict[str, Any]] = found.rows.order_by(LINE).to_pyarrow().to_pylist()
    assert sorted(path.name for path in folder.iterdir()) == ["a b?#%.sqlite", "made.sqlite"]
    return rows


def row(line: int, a: str | None, b: str | None, *unreadable: str) -> dict[str, Any]:
    return {LINE: line, ERROR: None, TEXT: None, UNREADABLE: list(unreadable) or None, "a": a, "b": b}


@pytest.mark.requirement("PLT-6")
@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        (1, "x", row(1, "1", "x")),
        (-(2**63), 2**63 - 1, row(1, "-9223372036854775808", "9223372036854775807")),
        (0.1, 1e300, row(1, "0.1", "1e+300")),
        (None, "", row(1, None, "")),
        (" Łódź\n数 ", 'a,"b"\'', row(1, " Łódź\n数 ", 'a,"b"\'')),
        ("Łódź".encode(), "x", row(1, "Łódź", "x")),
        (b"caf\xe9", "x", row(1, "caf\\xe9", "x", "a")),
        ("x", "a\0b", row(1, "x", "a\0b")),
    ],
)
def test_values_are_landed_as_text(
    engine: Engine, tmp_path: Path, a: object, b: object, expected: dict[str, Any]
) -> None:
    assert landed(engine, tmp_path, database(tmp_path, [(a, b)], AB), ("A",)) == [expected]


@pytest.mark.requirement("PLT-6")
def test_text_that_is_not_utf_8_is_reported_as_unreadable_with_its_column(engine: Engine, tmp_path: Path) -> None:
    content = database(tmp_path, [(1, "fine"), (2, "caf\xe9".encode("latin-1")), (3, "good")], AB)
    file = tmp_path / "made.sqlite"
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("UPDATE data SET b = CAST(b AS TEXT)")
        connection.commit()
    assert file.read_bytes() != content
    assert landed(engine, tmp_path, file.read_bytes(), ("A",)) == [
        row(1, "1", "fine"),
        row(2, "2", "caf\\xe9", "b"),
        row(3, "3", "good"),
    ]


def test_rows_are_read_in_table_order_not_index_order(engine: Engine, tmp_path: Path) -> None:
    rows = [(f"{n:04d}", f"{1_000 - n:04d}") for n in range(1_000)]
    content = database(tmp_path, rows, AB, "CREATE INDEX by_b ON data (b, A)")
    found = landed(engine, tmp_path, content, ("A",))
    assert [(row[LINE], row["a"]) for row in found] == [(n + 1, f"{n:04d}") for n in range(1_000)]


def test_a_table_of_several_batches_is_read_completely(engine: Engine, tmp_path: Path) -> None:
    content = database(tmp_path, [], TABLE)
    file = tmp_path / "made.sqlite"
    with closing(sqlite3.connect(file)) as connection:
        connection.execute(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 120001) "
            "INSERT INTO data SELECT i, 'text ' || i, 'Relevant', 1 FROM n"
        )
        connection.commit()
    assert file.read_bytes() != content
    with land(Source(SETTING, str(file)), engine, reader=sqlite_rows("data", COLUMNS)) as found:
        assert (
            found.rows.filter(found.rows["index"] == found.rows[LINE].cast("string")).count().to_pyarrow().as_py()
            == 120_001
        )


def test_the_database_in_an_archive_is_landed(engine: Engine, tmp_path: Path) -> None:
    content = database(tmp_path, labelled(("a fire", "Relevant")))
    for name in ("db.tar.gz", "db"):
        file = tmp_path / name
        file.write_bytes(pack(content))
        with land(Source(SETTING, str(file)), engine, Unpacking(1 << 20, ""), sqlite_rows("data", COLUMNS)) as found:
            [row] = found.rows.to_pyarrow().to_pylist()
            (tmp_path / "plain").write_bytes(content)
            with land(Source(SETTING, str(tmp_path / "plain")), engine, reader=sqlite_rows("data", COLUMNS)) as plain:
                assert found.digest == plain.digest
        assert (row[LINE], row["index"], row["text"], row["class_label"]) == (1, "0", "a fire", "1")


@pytest.mark.parametrize("remote", [False, True])
def test_an_archive_above_the_size_limit_is_refused(engine: Engine, tmp_path: Path, remote: bool) -> None:
    file = tmp_path / "db.tar.gz"
    file.write_bytes(pack(random.Random(1).randbytes(100_000)))
    uri = f"file://{file}" if remote else str(file)
    with pytest.raises(SourceError, match=r"db\.tar\.gz .* has more than 1,000 bytes when unpacked; .*raise LIMIT"):
        land(Source(SETTING, uri), engine, Unpacking(1_000, "LIMIT"), sqlite_rows("data", COLUMNS))


def test_computed_columns_and_blobs_are_read_and_column_names_ignore_case(engine: Engine, tmp_path: Path) -> None:
    table = "CREATE TABLE Data (\"INDEX\" INTEGER, word TEXT, Text TEXT AS (word || '!') STORED, photo BLOB)"
    content = database(tmp_path, [], table, "INSERT INTO data (\"index\", word, photo) VALUES (1, 'fire', x'00FF')")
    assert landed(engine, tmp_path, content) == [
        {
            LINE: 1,
            ERROR: None,
            TEXT: None,
            UNREADABLE: ["photo"],
            "index": "1",
            "word": "fire",
            "text": "fire!",
            "photo": "\0\\xff",
        }
    ]


VIEW = (
    "CREATE VIEW data AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i AS a, i AS b FROM n"
)


@pytest.mark.parametrize(
    ("content", "kind", "message"),
    [
        (lambda _: b"", SourceError, "is empty"),
        (lambda _: b"PAR1 and so on", NotADatabaseError, "is not a SQLite database"),
        (lambda _: b"SQLite format 3\0", DamagedDatabaseError, "contains a damaged database: "),
        (lambda good: good[:4_096], DamagedDatabaseError, "contains a damaged database: it is truncated"),
        (lambda good: good[:-3], DamagedDatabaseError, "contains a damaged database: it is truncated"),
        (
            lambda good: good[:8_000] + bytes(8_000) + good[16_000:],
            DamagedDatabaseError,
            "contains a damaged database: ",
        ),
    ],
    ids=["empty", "another file", "magic alone", "cut off", "last bytes missing", "with a hole"],
)
def test_a_file_that_is_damaged_or_not_a_sqlite_database_is_refused(
    engine: Engine, tmp_path: Path, content: Any, kind: type[Exception], message: str
) -> None:
    whole = database(tmp_path, labelled(*[(f"text {n}", "Relevant") for n in range(2_000)]))
    with pytest.raises(SourceError) as raised:
        landed(engine, tmp_path, content(whole))
    assert (type(raised.value), message in str(raised.value)) == (kind, True), str(raised.value)
    assert f"sqlite ({SETTING})" in str(raised.value)


@pytest.mark.parametrize(
    ("table", "kind", "message"),
    [
        ("CREATE TABLE other (a)", MissingTableError, "without the table 'data'; its tables are ['other']"),
        (VIEW, MissingTableError, "without the table 'data'; its tables are []"),
        ("CREATE VIRTUAL TABLE data USING fts5(a, text)", MissingTableError, "without the table 'data'"),
        (
            'CREATE TABLE data ("index" INTEGER, sentence TEXT)',
            MissingColumnError,
            "the table 'data' lacks the columns ['text']; it has ['index', 'sentence']",
        ),
    ],
    ids=["another table", "a view without an end", "a virtual table", "another column"],
)
def test_a_database_without_the_table_or_a_column_is_refused(
    engine: Engine, tmp_path: Path, table: str, kind: type[Exception], message: str
) -> None:
    with pytest.raises(SqliteError) as raised:
        landed(engine, tmp_path, database(tmp_path, [], table))
    assert (type(raised.value), message in str(raised.value)) == (kind, True), str(raised.value)


def test_a_table_without_rows_is_refused(engine: Engine, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="has a header but no rows; it needs at least one row"):
        landed(engine, tmp_path, database(tmp_path, []))


def test_a_computed_value_longer_than_the_file_is_refused(engine: Engine, tmp_path: Path) -> None:
    table = "CREATE TABLE data (a, text AS (hex(zeroblob(400000000))))"
    content = database(tmp_path, [], table, "INSERT INTO data (a) VALUES (1)")
    with pytest.raises(SqliteError, match="lacks the columns|damaged database"):
        landed(engine, tmp_path, content, ("a", "text"))


def test_counted_returns_the_number_of_rows_per_value(tmp_path: Path) -> None:
    file = tmp_path / "db"
    file.write_bytes(database(tmp_path, labelled(("a", "Relevant"), ("b", "Not Relevant"), ("c", "Relevant"))))
    with opened_sqlite(file, "data", COLUMNS, "it") as connection:
        assert counted(connection, "data", "choose_one") == {"Relevant": 2, "Not Relevant": 1}
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            connection.execute("DELETE FROM data")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    texts = [(f"text {n} about something", "Relevant") for n in range(200)]
    return database(
        tmp_path_factory.mktemp("whole"), labelled(*texts), TABLE, 'CREATE INDEX ix_data_index ON data ("index")'
    )


@settings(max_examples=150)
@given(
    cut=st.just(0) | st.integers(0, 20_000),
    flips=st.lists(st.tuples(st.integers(0, 200) | st.integers(0, 20_000), st.integers(0, 7)), max_size=6),
)
def test_reading_a_randomly_damaged_file_gives_rows_or_a_source_error(
    tmp_path_factory: pytest.TempPathFactory, whole: bytes, cut: int, flips: list[tuple[int, int]]
) -> None:
    kept = bytearray(whole[: len(whole) - cut % len(whole)])
    for place, bit in flips:
        kept[place % len(kept)] ^= 1 << bit
    file = tmp_path_factory.getbasetemp() / "damaged.sqlite"
    file.write_bytes(kept)
    with suppress(SqliteError), opened_sqlite(file, "data", COLUMNS, "it") as connection:
        connection.execute("SELECT * FROM data NOT INDEXED").fetchall()
        counted(connection, "data", "choose_one")


def test_rows_far_larger_than_the_file_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "bomb.sqlite"
    with closing(sqlite3.connect(file)) as made:
        made.execute('CREATE TABLE data ("index" INTEGER)')
        made.executemany("INSERT INTO data VALUES (?)", [(number,) for number in range(100)])
        made.execute(f"ALTER TABLE data ADD COLUMN text TEXT DEFAULT '{'x' * 50_000}'")
        made.commit()
    with pytest.raises(
        DamagedDatabaseError, match="rows have more than .* bytes, which is 4 times the size of the file"
    ):
        sqlite_rows("data", ["index", "text"])(file, Source(SETTING, str(file)), tmp_path / "rows.parquet")
