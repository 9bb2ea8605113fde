"""Source files become rows that know their line, whatever is wrong with single lines or with the whole file."""

from __future__ import annotations

import bz2
import csv
import gzip
import hashlib
import http.server
import io
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from platform_assets.base.errors import SourceError
from platform_assets.database.embedded.watcher import free_port
from platform_assets.engine.query_engine import Engine
from platform_assets.landing.csv_records import LONGEST_RECORD, MOST_LINES
from platform_assets.landing.landed_rows import ERROR, LINE, TEXT, land
from platform_assets.landing.source_files import Source, digest_of, look_at
from platform_assets_tests.object_store import SECRET, ObjectStore, running_object_store

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# Ibis 12 calls DuckDB 2 by names that it will lose.

SETTING = "PLATFORM_SHOP_SALES_URI"
PASSWORD = "sesame"
OPEN_QUOTE = "a quote is not closed"
Row = dict[str, Any]


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    engine = Engine(tmp_path_factory.mktemp("scratch [a]=1"), "300MB", 2)
    yield engine
    engine.close()


def folders(engine: Engine) -> list[str]:
    """What is left of landed files."""
    return sorted(path.name for path in engine.folder("probe").parent.glob("landing-*"))


def landed(engine: Engine, uri: str | Path) -> list[Row]:
    with land(Source(SETTING, str(uri)), engine) as file:
        rows: list[Row] = file.rows.order_by(LINE).to_pyarrow().to_pylist()
    return rows


def read(engine: Engine, folder: Path, content: bytes) -> list[Row]:
    path = folder / "file.csv"
    path.write_bytes(content)
    return landed(engine, path)


def good(line: int, *values: str | None) -> Row:
    return {LINE: line, ERROR: None, TEXT: None, **dict(zip("ab", values, strict=True))}


def bad(line: int, error: str, text: str) -> Row:
    return {LINE: line, ERROR: error, TEXT: text, "a": None, "b": None}


def fields(found: int) -> str:
    return f"it has {found} fields; the header has 2"


# Lines


@pytest.mark.requirement("PLT-6")
@pytest.mark.parametrize(
    ("content", "expected"),
    [
        pytest.param(b"a,b\n1,2\n3,4\n", [good(2, "1", "2"), good(3, "3", "4")], id="plain"),
        pytest.param(b"a,b\n1,2\n3,4", [good(2, "1", "2"), good(3, "3", "4")], id="no line break at the end"),
        pytest.param(
            b"a,b\n1\n2\n3,4\n5,6,7\n8,9\n10\n",
            [
                bad(2, fields(1), "1"),
                bad(3, fields(1), "2"),
                good(4, "3", "4"),
                bad(5, fields(3), "5,6,7"),
                good(6, "8", "9"),
                bad(7, fields(1), "10"),
            ],
            id="rejected before, between and after",
        ),
        pytest.param(b"a,b\n1,2,\n", [bad(2, fields(3), "1,2,")], id="only rejected"),
        pytest.param(
            b"a,b\n1,2\n\n\n3,4\n\n5\n", [good(2, "1", "2"), good(5, "3", "4"), bad(7, fields(1), "5")], id="blank"
        ),
        pytest.param(b"a,b\n  \n1,2\n", [bad(2, fields(1), "  "), good(3, "1", "2")], id="only spaces"),
        pytest.param(b"a,b\r\n1,2\r\n\r\n3,4\r\n", [good(2, "1", "2"), good(4, "3", "4")], id="CRLF"),
        pytest.param(b"a,b\n1,2\r\n3,4\n", [good(2, "1", "2"), good(3, "3", "4")], id="both line breaks"),
        pytest.param(
            b"a,b\n1,2\r3,4\n5,6\n",
            [bad(2, "new-line character seen in unquoted field", "1,2\r3,4"), good(3, "5", "6")],
            id="a lone carriage return",
        ),
        pytest.param(b"\xef\xbb\xbfa,b\n1,2\n", [good(2, "1", "2")], id="byte order mark"),
        pytest.param(b' A ,"B"\n1,2\n', [good(2, "1", "2")], id="header in other case, blanks and quotes"),
        pytest.param("a,b\nŁódź,数\n".encode(), [good(2, "Łódź", "数")], id="beyond ASCII"),
        pytest.param(b"a,b\n,\n", [good(2, None, None)], id="empty fields"),
        pytest.param(b'a,b\n"","\'"\n', [good(2, None, "'")], id="empty between quotes"),
        pytest.param(b"a,b\n NULL , 4\n", [good(2, " NULL ", " 4")], id="blanks stay"),
        pytest.param(b'a,b\n"x,""y""",z"w\n', [good(2, 'x,"y"', 'z"w')], id="quotes and commas in fields"),
        pytest.param(b"a,b\n#1,2\n", [good(2, "#1", "2")], id="no comments"),
        pytest.param(
            b'a,b\n"x\ny",2\n3\n"x\r\n\r\ny",4\n5,6\n',
            [good(2, "x\ny", "2"), bad(4, fields(1), "3"), good(5, "x\r\n\r\ny", "4"), good(8, "5", "6")],
            id="line breaks between quotes",
        ),
        pytest.param(
            b'a,b\n1,"x\ny",2\n3,4\n',
            [bad(2, OPEN_QUOTE, '1,"x'), good(3, 'y"', "2"), good(4, "3", "4")],
            id="too many over two lines",
        ),
        pytest.param(
            b'a,b\n1,"x\n3,4\n5,6\n',
            [bad(2, OPEN_QUOTE, '1,"x'), good(3, "3", "4"), good(4, "5", "6")],
            id="open quote",
        ),
        pytest.param(
            b'a,b\n1,"x\n3,"4\n5,6\n',
            [bad(2, OPEN_QUOTE, '1,"x'), bad(3, OPEN_QUOTE, '3,"4'), good(4, "5", "6")],
            id="two open quotes",
        ),
        pytest.param(
            b'a,b\n1,"x\n3,4\n"y\nz",6\n',
            [bad(2, OPEN_QUOTE, '1,"x'), good(3, "3", "4"), good(4, "y\nz", "6")],
            id="open quote before a field over two lines",
        ),
        pytest.param(b'a,b\n1,2\n3,"4', [good(2, "1", "2"), bad(3, OPEN_QUOTE, '3,"4')], id="cut between quotes"),
        pytest.param(
            b'a,b\n1,"x"y\n3,4\n', [bad(2, "',' expected after '\"'", '1,"x"y'), good(3, "3", "4")], id="behind a quote"
        ),
        pytest.param(
            b"a,b\n1,\xff\\\n3,4\n",
            [bad(2, "it is not in UTF-8, from byte 3 on", "1,\\xff\\"), good(3, "3", "4")],
            id="wrong encoding in one line",
        ),
        pytest.param(b"a,b\n1,\0\n3,4\n", [bad(2, "it holds a zero byte", "1,\0"), good(3, "3", "4")], id="zero byte"),
    ],
)
def test_every_line_is_a_row_or_is_kept_with_the_reason(
    engine: Engine, tmp_path: Path, content: bytes, expected: list[Row]
) -> None:
    assert read(engine, tmp_path, content) == expected


def test_a_record_spans_up_to_a_hundred_lines(engine: Engine, tmp_path: Path) -> None:
    longest = "\n".join(["x"] * MOST_LINES)
    assert read(engine, tmp_path, f'a,b\n1,"{longest}"\n3,4\n'.encode()) == [
        good(2, "1", longest),
        good(2 + MOST_LINES, "3", "4"),
    ]
    rows = read(engine, tmp_path, f'a,b\n1,"{longest}\nx"\n3,4\n'.encode())
    assert rows[0] == bad(2, OPEN_QUOTE, '1,"x')
    assert [row[LINE] for row in rows] == list(range(2, 4 + MOST_LINES))
    assert rows[-1] == good(3 + MOST_LINES, "3", "4")


@pytest.mark.parametrize("filler", ["x", '"', "é"])
def test_a_record_is_as_long_as_stated(engine: Engine, tmp_path: Path, filler: str) -> None:
    field = filler * ((LONGEST_RECORD - 4) // len(filler.encode()))
    quoted = f'"{field}"' if filler != '"' else f'"{field[: len(field) // 2 * 2]}"'
    value = quoted[1:-1].replace('""', '"')
    over, plain = b"1," + b"\xff" * (LONGEST_RECORD + 10), "1," + "x" * LONGEST_RECORD
    rows = read(engine, tmp_path, b"a,b\n1," + quoted.encode() + b"\n" + over + b"\n" + plain.encode())
    assert rows == [
        good(2, "1", value),
        bad(3, f"it has {len(over)} bytes; {LONGEST_RECORD} are read", "1," + "\\xff" * (LONGEST_RECORD - 2)),
        bad(4, f"it has {len(plain)} bytes; {LONGEST_RECORD} are read", plain[:LONGEST_RECORD]),
    ]


@pytest.mark.requirement("PLT-6")
def test_an_open_quote_loses_no_line_of_a_large_file(engine: Engine, tmp_path: Path) -> None:
    lines = [f"{number},{'x' * 50}" for number in range(200_000)]
    broken = {3, 100_000, 199_999}
    for number in broken:
        lines[number] = f'{number},"x'
    rows = read(engine, tmp_path, "\n".join(["a,b", *lines]).encode())
    assert [row[LINE] for row in rows] == list(range(2, 200_002))
    assert {row[LINE] - 2: row[TEXT] for row in rows if row[ERROR]} == {number: lines[number] for number in broken}
    assert all(row["a"] == str(row[LINE] - 2) for row in rows if not row[ERROR])


def test_quoted_line_breaks_are_right_where_a_large_file_is_read_in_parts(engine: Engine, tmp_path: Path) -> None:
    value = 'x"\n' * 30
    content = io.StringIO()
    csv.writer(content, lineterminator="\n").writerows(
        [["a", "b"], *([str(number), value] for number in range(20_000))]
    )
    rows = read(engine, tmp_path, content.getvalue().encode())
    assert [(row[LINE], row["a"]) for row in rows] == [(2 + 31 * number, str(number)) for number in range(20_000)]
    assert {row["b"] for row in rows} == {value}


text = st.text(st.sampled_from('aé7 ,"\n\r;\\#'), max_size=6)


def as_lines(row: list[str]) -> bytes:
    content = io.StringIO()
    csv.writer(content, lineterminator="\n", quoting=csv.QUOTE_ALL).writerow(row)
    return content.getvalue().encode()


damaged = st.sampled_from([b"1\n", b"1,2,3\n", b"\xff,2\n", b"1,\0\n", b'"1"2,3\n', b"1\r2,3\n"])


@pytest.mark.requirement("PLT-6")
@settings(max_examples=60)
@given(st.lists(st.lists(text, min_size=2, max_size=2) | damaged | st.sampled_from([b"\n", b"\r\n"]), min_size=1))
def test_fields_come_back_whatever_is_in_them_and_damaged_lines_as_they_were(
    engine: Engine, tmp_path_factory: pytest.TempPathFactory, parts: list[list[str] | bytes]
) -> None:
    expected: list[tuple[int, Any]] = []
    content, line = b"a,b\n", 2
    for part in parts:
        written = part if isinstance(part, bytes) else as_lines(part)
        if not isinstance(part, bytes):
            expected.append((line, tuple(value or None for value in part)))
        elif part.strip():
            expected.append((line, part.decode(errors="backslashreplace").rstrip("\r\n")))
        content, line = content + written, line + written.count(b"\n")
    if not expected:
        content, expected = content + b"1,2\n", [(line, ("1", "2"))]
    rows = read(engine, tmp_path_factory.getbasetemp(), content)
    assert [(row[LINE], row[TEXT] if row[ERROR] else (row["a"], row["b"])) for row in rows] == expected


@pytest.mark.requirement("PLT-6")
@settings(max_examples=100)
@given(
    st.lists(st.sampled_from([b"a", b",", b'"', b"\n", b"\r", b"\0", b"\xff", b"1,2\n", b'1,"', b'",2\n']), max_size=40)
)
@example([b'1,"', b"a", b"\n", b"1,2\n", b'",2\n'])
def test_each_line_of_any_rubbish_is_part_of_exactly_one_row(
    engine: Engine, tmp_path_factory: pytest.TempPathFactory, parts: list[bytes]
) -> None:
    body = b"".join(parts) + b"\n1,2\n"
    rows = read(engine, tmp_path_factory.getbasetemp(), b"a,b\n" + body)
    covered: list[int] = []
    for row in rows:
        breaks = sum((row[name] or "").count("\n") for name in (TEXT, "a", "b"))
        covered += range(row[LINE], row[LINE] + breaks + 1)
    assert len(covered) == len(set(covered))
    lines = enumerate(body.split(b"\n"), start=2)
    assert {number for number, line in lines if line.strip(b"\r")} <= set(covered)


# Columns


def test_columns_are_named_as_schemas_name_them(engine: Engine, tmp_path: Path) -> None:
    rows = read(engine, tmp_path, b",Loan ID,\xc3\x84,file_row_number,nth,\n1,2,3,4,5,6\n")
    assert rows == [
        {
            LINE: 2,
            ERROR: None,
            TEXT: None,
            "unnamed_1": "1",
            "loan id": "2",
            "ä": "3",
            "file_row_number": "4",
            "nth": "5",
            "unnamed_6": "6",
        }
    ]


def test_parquet_keeps_types_and_numbers_rows(engine: Engine, tmp_path: Path) -> None:
    big = 2**53 + 1
    path = tmp_path / "sales [1].parquet"
    pq.write_table(pa.table({" A": [big, None], "b": ["x", ""]}), path)
    with land(Source(SETTING, str(path)), engine) as file:
        types = {name: str(kind) for name, kind in file.rows.schema().items()}
        assert types == {"a": "int64", "b": "string", LINE: "int64", ERROR: "string", TEXT: "string"}
        assert file.rows.order_by(LINE).to_pyarrow().to_pylist() == [good(1, big, "x"), good(2, None, "")]  # type: ignore[arg-type]


def test_parquet_rows_are_numbered_across_row_groups(engine: Engine, tmp_path: Path) -> None:
    path = tmp_path / "sales.parquet"
    pq.write_table(pa.table({"a": range(10_000), "b": range(10_000)}), path, row_group_size=1_000)
    rows = landed(engine, path)
    assert [row["a"] for row in rows] == list(range(10_000))
    assert [row[LINE] for row in rows] == list(range(1, 10_001))


# Where a file may be

CONTENT = b"a,b\n1,2\n"


class Files(http.server.BaseHTTPRequestHandler):
    """Serves one file, and the beginning of one that ends too early."""

    def do_GET(self) -> None:
        known = self.path.split("?")[0] in {"/sales.csv", "/cut.csv"}
        self.send_response(200 if known else 404)
        self.send_header("Content-Length", str(len(CONTENT) + (10 if "cut" in self.path else 0)) if known else "0")
        self.end_headers()
        self.wfile.write(CONTENT if known else b"")

    def do_HEAD(self) -> None:
        self.do_GET()

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def serving_files() -> Iterator[str]:
    server = http.server.HTTPServer(("127.0.0.1", 0), Files)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.requirement("CRE-2", "PLT-4")
def test_a_file_may_be_anywhere_and_packed(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "sales.csv").write_bytes(CONTENT)
    (tmp_path / "sales [1]*.csv.gz").write_bytes(gzip.compress(CONTENT))
    (tmp_path / "sales.csv.bz2").write_bytes(bz2.compress(CONTENT))
    with fsspec.open("memory://shop/sales.csv.gz", "wb") as file:
        file.write(gzip.compress(CONTENT))
    with serving_files() as server:
        for uri in (
            str(tmp_path / "sales.csv"),
            str(tmp_path / "sales [1]*.csv.gz"),
            str(tmp_path / "sales.csv.bz2"),
            f"file://{tmp_path}/sales.csv",
            "memory://shop/sales.csv.gz",
            f"{server}/sales.csv",
            f"{server}/sales.csv?token={PASSWORD}",
        ):
            with land(Source(SETTING, uri), engine) as landed_file:
                assert landed_file.rows.to_pyarrow().to_pylist() == [good(2, "1", "2")], uri
                assert landed_file.digest == hashlib.sha256(CONTENT).hexdigest(), uri


@pytest.fixture(scope="module")
def object_store() -> Iterator[ObjectStore]:
    with running_object_store() as store:
        yield store


@pytest.fixture
def bucket(object_store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A new bucket that `s3://` finds by the variables of the object store alone."""
    for name, value in object_store.options.items():
        monkeypatch.setenv(name, value)
    # Drivers are kept, with the variables that they were made from.
    driver = fsspec.get_filesystem_class("s3")
    driver.clear_instance_cache()
    yield object_store.lake()
    driver.clear_instance_cache()


@pytest.mark.requirement("CRE-2", "PLT-4")
def test_a_file_may_be_in_an_object_store(engine: Engine, bucket: str) -> None:
    with fsspec.open(f"{bucket}/sales.csv.gz", "wb") as file:
        file.write(gzip.compress(CONTENT))
    with fsspec.open(f"{bucket}/sales.parquet", "wb") as file:
        pq.write_table(pa.table({"a": [1], "b": [2]}), file)
    assert landed(engine, f"{bucket}/sales.csv.gz") == [good(2, "1", "2")]
    assert landed(engine, f"{bucket}/sales.parquet") == [good(1, 1, 2)]  # type: ignore[arg-type]


@pytest.mark.requirement("PLT-2")
def test_a_file_looks_different_once_it_was_written_anew(bucket: str) -> None:
    for uri in (f"{bucket}/sales.csv.gz", "memory://looks/sales.csv.gz"):
        source, looks = Source(SETTING, uri), [""]
        for content in (b"first", b"other"):
            # Drivers keep what they listed.
            fsspec.filesystem(uri.split(":")[0]).find(uri.rsplit("/", 1)[0], detail=True)
            with fsspec.open(uri, "wb") as file:
                file.write(content)
            looks.append(look_at(source))
            assert look_at(source) == looks[-1]
            # As it lies there, whatever its name says.
            assert digest_of(source) == hashlib.sha256(content).hexdigest()
        assert len(set(looks)) == 3, uri
    with pytest.raises(SourceError, match=f"none .{SETTING}. cannot be looked at: FileNotFoundError"):
        look_at(Source(SETTING, f"{bucket}/none"))


@pytest.mark.requirement("PLT-2")
def test_a_store_that_says_too_little_has_nothing_to_look_at() -> None:
    with serving_files() as server:
        source = Source(SETTING, f"{server}/sales.csv")
        assert look_at(source) == ""
        assert digest_of(source) == hashlib.sha256(CONTENT).hexdigest()
        with pytest.raises(SourceError, match="cannot be read: "):
            digest_of(Source(SETTING, f"{server}/cut.csv"))


@pytest.mark.requirement("PLT-8", "CRE-2")
def test_what_an_object_store_does_not_have_is_told_without_secrets(
    engine: Engine, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusals = {f"{bucket}/none.csv": "FileNotFoundError: ", "s3://nowhere/none.csv": "NoSuchBucket: "}
    for uri, reason in refusals.items():
        message = refused(engine, uri)
        assert message.startswith(f"<uri> ({SETTING}) cannot be fetched: {reason}")
        assert SECRET not in message
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    endpoint = f"http://127.0.0.1:{free_port()}"
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    # The driver's own patience is five attempts, about six seconds.
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "2")
    message = refused(engine, f"{bucket}/sales.csv")
    assert message.startswith(f"<uri> ({SETTING}) cannot be fetched: EndpointConnectionError: ")
    assert endpoint in message
    assert SECRET not in message


def test_a_file_that_is_replaced_meanwhile_is_still_read_as_it_was(engine: Engine, tmp_path: Path) -> None:
    path = tmp_path / "sales.parquet"
    pq.write_table(pa.table({"a": [1], "b": [2]}), path)
    with land(Source(SETTING, str(path)), engine) as file:
        pq.write_table(pa.table({"a": ["other"], "b": ["rows"]}), path)
        assert file.rows.to_pyarrow().to_pylist() == [good(1, 1, 2)]  # type: ignore[arg-type]


def test_nothing_is_left_of_a_discarded_file(engine: Engine, tmp_path: Path) -> None:
    before = folders(engine)
    read(engine, tmp_path, CONTENT)
    assert folders(engine) == before


# Files that are none


def refused(engine: Engine, uri: str | Path) -> str:
    before = folders(engine)
    with pytest.raises(SourceError) as caught:
        land(Source(SETTING, str(uri)), engine)
    assert folders(engine) == before
    assert caught.value.__suppress_context__ or "://" not in str(uri)
    assert PASSWORD not in str(caught.value)
    return str(caught.value).replace(str(uri), "<uri>")


NOT_CSV = f"<uri> ({SETTING}) is not a CSV file with a header of comma-separated names"
NOT_UTF8 = f"<uri> ({SETTING}) is neither parquet nor a CSV file in UTF-8"
NO_ROWS = f"<uri> ({SETTING}) has columns and no rows; it needs at least one"


@pytest.mark.requirement("CRE-2")
@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(b"", f"<uri> ({SETTING}) is empty; it needs a header and rows", id="empty"),
        pytest.param(b"a,b\n", NO_ROWS, id="header only"),
        pytest.param(b"a,b\r\n\r\n\n", NO_ROWS, id="header and blank lines"),
        pytest.param(b"\n\n", NOT_CSV, id="blank lines only"),
        pytest.param(b"\xef\xbb\xbf", NOT_CSV, id="byte order mark only"),
        pytest.param(b",,\n1,2,3\n", NOT_CSV, id="no names"),
        pytest.param(b"a\n1\n", NOT_CSV, id="one column"),
        pytest.param(b"a;b\n1;2\n", NOT_CSV, id="semicolons"),
        pytest.param(b'a,"b\nc"\n1,2\n', NOT_CSV, id="line break in the header"),
        pytest.param(b"a,b\r1,2\r3,4\r", NOT_CSV, id="carriage returns only"),
        pytest.param(b"x" * 10_000_000, NOT_CSV, id="a single long line"),
        pytest.param(b"\x89PNG\r\n\x1a\n\0\0", NOT_UTF8, id="image"),
        pytest.param(gzip.compress(CONTENT), NOT_UTF8, id="packed, with another name"),
        pytest.param(b"PK\x03\x04,\0\0\n", NOT_CSV, id="zip"),
        pytest.param("a,b\n1,2\n".encode("utf-16"), NOT_UTF8, id="UTF-16"),
        pytest.param(
            b"a,b, A\n1,2,3\n", f"<uri> ({SETTING}) has the columns ['a'] more than once", id="doubled header"
        ),
        pytest.param(
            b"a,source_line\n1,2\n",
            f"<uri> ({SETTING}) has the columns ['source_line'], whose names the platform needs; rename them",
            id="a name of ours",
        ),
    ],
)
def test_a_file_that_is_no_table_is_refused(engine: Engine, tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "file.csv"
    path.write_bytes(content)
    assert refused(engine, path) == message


def test_missing_files_and_folders_are_told(engine: Engine, tmp_path: Path) -> None:
    point = f"point {SETTING} at the file that is meant"
    assert refused(engine, tmp_path / "none.csv") == f"<uri> ({SETTING}) does not exist; {point}"
    assert refused(engine, tmp_path) == f"<uri> ({SETTING}) is a folder; {point}"
    assert refused(engine, tmp_path / "none.csv.gz") == f"<uri> ({SETTING}) does not exist; {point}"


def parquet_bytes(rows: int = 20_000) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"a": range(rows), "b": [f"x{number}" for number in range(rows)]}), sink)
    return bytes(sink.getvalue())


@pytest.mark.requirement("CRE-2")
@pytest.mark.parametrize("kept", [4, 8, 100, 0.3, 0.9, -5, -1])
def test_a_parquet_file_cut_anywhere_is_refused(engine: Engine, tmp_path: Path, kept: float) -> None:
    path, whole = tmp_path / "file.parquet", parquet_bytes()
    path.write_bytes(whole[: int(kept * len(whole)) if 0 < kept < 1 else int(kept)])
    assert refused(engine, path).startswith(f"<uri> ({SETTING}) cannot be read: ")


def test_parquet_files_without_rows_or_with_doubled_columns_are_refused(engine: Engine, tmp_path: Path) -> None:
    path = tmp_path / "file.parquet"
    pq.write_table(pa.table({"a": pa.array([], pa.int64())}), path)
    assert refused(engine, path) == NO_ROWS
    pq.write_table(pa.table({"a": [1], " a": [1]}), path)
    assert refused(engine, path) == f"<uri> ({SETTING}) has the columns ['a'] more than once"
    pq.write_table(pa.table({"source_text": [1], "b": [1]}), path)
    assert "whose names the platform needs" in refused(engine, path)


def test_a_damaged_archive_is_refused(engine: Engine, tmp_path: Path) -> None:
    path = tmp_path / "file.csv.gz"
    path.write_bytes(gzip.compress(CONTENT * 1_000)[:-20])
    assert refused(engine, path).startswith(f"<uri> ({SETTING}) cannot be fetched: EOFError: ")
    path.write_bytes(CONTENT)
    assert refused(engine, path).startswith(f"<uri> ({SETTING}) cannot be fetched: BadGzipFile: ")


@pytest.mark.requirement("PLT-8", "CRE-2")
def test_what_cannot_be_fetched_is_told_without_passwords(engine: Engine) -> None:
    with serving_files() as server:
        refusals = {
            f"teleport://anna:{PASSWORD}@host/x.csv": "ValueError: Protocol not known: teleport",
            f"ftp://anna:{PASSWORD}@127.0.0.1:{free_port()}/x.csv": "ConnectionRefusedError: ",
            f"http://anna:{PASSWORD}@127.0.0.1:{free_port()}/x.csv": "ConnectionRefusedError: ",
            f"{server}/none.csv?token={PASSWORD}": "ClientResponseError: 404",
            f"{server}/cut.csv?token={PASSWORD}": "Not enough data to satisfy content length header",
            "memory://none.csv": "FileNotFoundError: ",
            f"gs://anna:{PASSWORD}@bucket/x.csv": "needs a driver that is not installed: Please install gcsfs",
        }
        for uri, reason in refusals.items():
            message = refused(engine, uri)
            assert reason in message
            assert SETTING in message


def test_a_source_says_whether_it_is_demo_data() -> None:
    assert str(Source(SETTING, f"ftp://anna:{PASSWORD}@host/x.csv")) == f"ftp://host/x.csv ({SETTING})"
    signed = f"https://host/x.csv?sv=2022&sig={PASSWORD}%3D"
    assert str(Source(SETTING, signed)) == f"https://host/x.csv ({SETTING})"
    assert str(Source(SETTING, "/data/x.csv", demo=True)) == "/data/x.csv (demo data)"
