"""A file becomes rows with named columns, or is refused as a whole."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from platform_assets.landing.landed_rows import ERROR, LINE, TEXT, land
from platform_assets.landing.source_files import Source
from platform_assets_tests.landing.sales_files import CONTENT, SETTING, folders, good, landed, read, refused

if TYPE_CHECKING:
    from pathlib import Path

    from platform_assets.engine.query_engine import Engine


NOT_CSV = f"<uri> ({SETTING}) is not a CSV file with a header of comma-separated names"
NOT_UTF8 = f"<uri> ({SETTING}) is neither parquet nor a CSV file in UTF-8"
NO_ROWS = f"<uri> ({SETTING}) has columns and no rows; it needs at least one"


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
