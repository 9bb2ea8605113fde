"""A file becomes rows with named columns, or is refused as a whole."""

from __future__ import annotations

import datetime as dt
import decimal
from typing import TYPE_CHECKING, Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from platform_assets.landing.landed_rows import any_encoding, land
from platform_assets.landing.row_writer import ERROR, LINE, TEXT, UNREADABLE
from platform_assets.landing.source_files import Source
from platform_assets_tests.landing.sales_files import CONTENT, SETTING, Row, folders, good, landed, read, refused

if TYPE_CHECKING:
    from pathlib import Path

    from platform_assets.engine.query_engine import Engine


NOT_CSV = f"<uri> ({SETTING}) is not a CSV file with a header of comma-separated names"
NOT_UTF8 = f"<uri> ({SETTING}) is neither parquet nor a CSV file in UTF-8"
NO_ROWS = f"<uri> ({SETTING}) has a header but no rows; it needs at least one row"


def test_column_names_become_lower_case_and_empty_names_get_a_number(engine: Engine, tmp_path: Path) -> None:
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


def test_parquet_rows_keep_their_types_and_are_numbered(engine: Engine, tmp_path: Path) -> None:
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


def test_replacing_the_file_does_not_change_the_landed_rows(engine: Engine, tmp_path: Path) -> None:
    path = tmp_path / "sales.parquet"
    pq.write_table(pa.table({"a": [1], "b": [2]}), path)
    with land(Source(SETTING, str(path)), engine) as file:
        pq.write_table(pa.table({"a": ["other"], "b": ["rows"]}), path)
        assert file.rows.to_pyarrow().to_pylist() == [good(1, 1, 2)]  # type: ignore[arg-type]


def test_discarding_removes_all_files(engine: Engine, tmp_path: Path) -> None:
    before = folders(engine)
    read(engine, tmp_path, CONTENT)
    assert folders(engine) == before


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
        pytest.param(
            b"PK\x03\x04,\0\0\n",
            f"<uri> ({SETTING}) is a damaged zip archive (File is not a zip file); fetch it again",
            id="zip",
        ),
        pytest.param(
            b"a,b, A\n1,2,3\n",
            f"<uri> ({SETTING}) has the columns ['a'] more than once; rename or drop all but one of each",
            id="doubled header",
        ),
    ],
)
def test_a_file_that_is_not_a_table_is_refused(engine: Engine, tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "file.csv"
    path.write_bytes(content)
    assert refused(engine, path) == message


def parquet_bytes(rows: int = 20_000) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"a": range(rows), "b": [f"x{number}" for number in range(rows)]}), sink)
    return bytes(sink.getvalue())


@pytest.mark.requirement("CRE-2")
@pytest.mark.parametrize("kept", [4, 8, 100, 0.3, 0.9, -5, -1])
def test_a_truncated_parquet_file_is_refused(engine: Engine, tmp_path: Path, kept: float) -> None:
    path, whole = tmp_path / "file.parquet", parquet_bytes()
    path.write_bytes(whole[: int(kept * len(whole)) if 0 < kept < 1 else int(kept)])
    assert refused(engine, path).startswith(f"<uri> ({SETTING}) cannot be read: ")


def test_parquet_files_without_rows_or_with_duplicate_columns_are_refused(engine: Engine, tmp_path: Path) -> None:
    path = tmp_path / "file.parquet"
    pq.write_table(pa.table({"a": pa.array([], pa.int64())}), path)
    assert refused(engine, path) == NO_ROWS
    for doubled in (["a", " A "], ["a", "b", "a"], ["x", "B", "b"]):
        pq.write_table(pa.Table.from_arrays([pa.array([1])] * len(doubled), doubled), path)
        assert "more than once; rename or drop all but one of each" in refused(engine, path)


@pytest.mark.requirement("PLT-12")
def test_a_source_column_with_the_name_of_a_platform_column_is_renamed(engine: Engine, tmp_path: Path) -> None:
    [row] = read(engine, tmp_path, b"source_line,source_line_of_source,source_error\n7,8,9\n")
    assert row[LINE] == 2
    assert row["source_line_of_source_"] == "7"
    assert row["source_line_of_source"] == "8"
    assert row["source_error_of_source"] == "9"


@pytest.mark.requirement("PLT-12")
def test_utf_16_with_a_byte_order_mark_is_read(engine: Engine, tmp_path: Path) -> None:
    assert read(engine, tmp_path, "a,b\n1,数\r\n\n3,4\n".encode("utf-16")) == [good(2, "1", "数"), good(4, "3", "4")]
    path = tmp_path / "file.csv"
    path.write_bytes("a,b\n1,2\n".encode("utf-16") + b"\0")
    assert "cannot be read as utf-16" in refused(engine, path)


@pytest.mark.requirement("PLT-12")
def test_a_few_lines_not_in_utf_8_are_marked_unreadable_but_with_many_the_file_is_read_as_cp1252(
    engine: Engine, tmp_path: Path
) -> None:
    path = tmp_path / "file.csv"

    def land_with(latin: int, utf_8: int) -> tuple[str, list[Row]]:
        lines = ["1,Gr\xfc\xdfe aus K\xf6ln".encode("latin-1")] * latin + ["1,Grüße aus Köln".encode()] * utf_8
        path.write_bytes(b"\n".join([b"a,b", b"1,plain", *lines]))
        with land(Source(SETTING, str(path)), engine, reader=any_encoding()) as file:
            return file.encoding, file.rows.order_by(LINE).to_pyarrow().to_pylist()

    encoding, rows = land_with(latin=1, utf_8=19)
    assert encoding == "utf-8"
    assert [row[LINE] for row in rows if row[ERROR]] == [3]
    assert {row["b"] for row in rows if not row[ERROR]} == {"plain", "Grüße aus Köln"}
    encoding, rows = land_with(latin=2, utf_8=0)
    assert encoding == "cp1252"
    assert {row["b"] for row in rows} == {"plain", "Grüße aus Köln"}


@pytest.mark.requirement("PLT-12")
@pytest.mark.parametrize(
    ("column", "kind", "values"),
    [
        (pa.array(["x", None]).dictionary_encode(), "string", ["x", None]),
        (pa.array([7, None], pa.int32()).dictionary_encode(), "int32", [7, None]),
        (pa.array(["x", None], pa.string_view()), "string", ["x", None]),
        (pa.array(["x", None], pa.large_string()), "string", ["x", None]),
        (pa.array([b"x", None], pa.binary_view()), "string", ["x", None]),
        (pa.array([b"xy", None], pa.binary(2)), "string", ["xy", None]),
        (
            pa.array([decimal.Decimal("-1.50"), None], pa.decimal256(20, 2)),
            "decimal(20, 2)",
            [decimal.Decimal("-1.5"), None],
        ),
        (pa.array([decimal.Decimal("-1.50"), None], pa.decimal256(60, 2)), "string", ["-1.50", None]),
        (
            pa.array([decimal.Decimal("-1.50"), None], pa.decimal32(5, 2)),
            "decimal(5, 2)",
            [decimal.Decimal("-1.5"), None],
        ),
        (pa.array([dt.time(9, 30), None]), "string", ["09:30:00.000000", None]),
        (pa.array([1.5, None], pa.float16()), "float32", [1.5, None]),
        (pa.nulls(2), "string", [None, None]),
        (pa.array([[1], None]), "array<int64>", [[1], None]),
    ],
)
def test_a_parquet_type_is_converted_to_a_plain_type(
    engine: Engine, tmp_path: Path, column: pa.Array, kind: str, values: list[Any]
) -> None:
    path = tmp_path / "file.parquet"
    pq.write_table(pa.table({"a": column}), path)
    with land(Source(SETTING, str(path)), engine) as file:
        assert str(file.rows["a"].type()) == kind
        assert file.rows.order_by(LINE)["a"].to_pyarrow().to_pylist() == values


@pytest.mark.requirement("PLT-12")
def test_bytes_that_are_not_text_are_escaped_and_their_columns_are_listed_as_unreadable(
    engine: Engine, tmp_path: Path
) -> None:
    path = tmp_path / "file.parquet"
    pq.write_table(pa.table({"A": ["é".encode(), b"\xe9", None], "b": [1, 2, 3], "c": [b"\xff", b"\xff", b""]}), path)
    rows = [(row["a"], row["b"], row["c"], row[UNREADABLE], row[ERROR]) for row in landed(engine, path)]
    assert rows == [("é", 1, "\\xff", ["c"], None), ("\\xe9", 2, "\\xff", ["a", "c"], None), (None, 3, "", None, None)]


@pytest.mark.requirement("PLT-12")
def test_an_index_saved_by_pandas_becomes_a_column(engine: Engine, tmp_path: Path) -> None:
    path = tmp_path / "file.parquet"
    pd.DataFrame({"a": [1, 2]}, index=pd.Index([5, 6], name="b")).to_parquet(path)
    assert [(row["a"], row["b"]) for row in landed(engine, path)] == [(1, 5), (2, 6)]
