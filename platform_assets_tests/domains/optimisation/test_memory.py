"""Compression is lossless, the compressed table is small, and reading takes little more memory than the table."""

from __future__ import annotations

import csv
import datetime as dt
import subprocess
import sys
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from platform_assets.base.errors import SourceError
from platform_assets.domains.optimisation import demo as hotels
from platform_assets.domains.optimisation import report
from platform_assets.domains.optimisation.memory import read_small, shrink
from platform_assets.domains.optimisation.text_column import MISSING
from platform_assets.landing.csv_records import Unread

if TYPE_CHECKING:
    from pathlib import Path

    from platform_assets.domains.optimisation.small_table import SmallTable

NAN = float("nan")
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
INT64 = st.integers(-(2**63), 2**63 - 1)


def same(found: pd.DataFrame, expected: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(found, expected, check_exact=True, check_freq=False)
    for place in range(expected.shape[1]):
        left, right = found.iloc[:, place], expected.iloc[:, place]
        if left.dtype == object:
            assert [type(value) for value in left] == [type(value) for value in right]
        if isinstance(left.dtype, np.dtype) and left.dtype.kind == "f":
            assert (np.signbit(left) == np.signbit(right))[~np.isnan(right)].all()


def form_of(table: SmallTable) -> str:
    (column,) = table.columns
    return column.form


COLUMNS = st.one_of(
    *(
        st.lists(st.integers(*bounds), max_size=30).map(lambda values, kind=kind: pd.Series(values, dtype=kind))  # type: ignore[misc]
        for kind, bounds in {
            "int8": (-128, 127),
            "int64": (-(2**63), 2**63 - 1),
            "uint64": (0, 2**64 - 1),
            "uint16": (0, 2**16 - 1),
        }.items()
    ),
    st.lists(st.integers(-300, 300), max_size=30).map(lambda values: pd.Series(values, dtype="int64")),
    st.lists(st.floats(), max_size=30).map(lambda values: pd.Series(values, dtype="float64")),
    st.lists(st.floats(width=32), max_size=30).map(lambda values: pd.Series(values, dtype="float64")),
    st.lists(st.floats(width=16), max_size=30).map(lambda values: pd.Series(values, dtype="float16")),
    st.lists(st.sampled_from([0.0, -0.0, 1.0, NAN]), max_size=30).map(lambda v: pd.Series(v, dtype="float64")),
    st.lists(st.decimals(-10_000, 10_000, places=4).map(float) | st.just(NAN), max_size=30).map(
        lambda values: pd.Series(values, dtype="float64")
    ),
    st.lists(st.booleans(), max_size=30).map(lambda values: pd.Series(values, dtype="bool")),
    st.lists(st.booleans() | st.none(), max_size=30).map(lambda values: pd.Series(values, dtype="boolean")),
    st.lists(INT64 | st.none(), max_size=30).map(lambda values: pd.Series(values, dtype="Int64")),
    st.lists(st.floats(allow_nan=False) | st.none(), max_size=30).map(lambda v: pd.Series(v, dtype="Float64")),
    st.lists(TEXT | st.none(), max_size=30).map(lambda values: pd.Series(values, dtype="str")),
    st.lists(st.dates().map(str) | st.none(), max_size=30).map(lambda values: pd.Series(values, dtype="str")),
    st.lists(TEXT | st.none(), max_size=30).map(lambda values: pd.Series(values, dtype=object)),
    st.lists(TEXT | st.none() | st.integers() | st.floats() | st.booleans(), max_size=30).map(
        lambda values: pd.Series(values, dtype=object)
    ),
    st.lists(st.binary(max_size=3) | st.none(), max_size=30).map(lambda values: pd.Series(values, dtype=object)),
    st.lists(st.dates() | st.none(), max_size=30).map(lambda values: pd.Series(values, dtype=object)),
    st.lists(st.datetimes(dt.datetime(1700, 1, 1), dt.datetime(2200, 1, 1)) | st.none(), max_size=30).map(
        lambda values: pd.Series(values, dtype="datetime64[us]")
    ),
    st.lists(st.dates(dt.date(1700, 1, 1), dt.date(2200, 1, 1)) | st.none(), max_size=30).map(
        lambda values: pd.Series(values, dtype="datetime64[ns]")
    ),
    st.lists(st.sampled_from(["a", "b", None]), max_size=30).map(
        lambda values: pd.Series(pd.Categorical(values, categories=["b", "unused", "a"], ordered=True))
    ),
)


@pytest.mark.requirement("OPT-2")
@given(COLUMNS)
@settings(max_examples=400)
def test_a_column_of_any_type_is_read_back_bit_for_bit(series: pd.Series[Any]) -> None:
    frame = series.to_frame("x")
    same(shrink(frame).frame(), frame)


@pytest.mark.requirement("OPT-2")
@given(COLUMNS.filter(len), st.integers(2, 40))
def test_a_column_with_repeated_values_is_read_back_unchanged_and_is_not_larger_than_in_pandas(
    series: pd.Series[Any], times: int
) -> None:
    frame = pd.concat([series.to_frame("x")] * times, ignore_index=True)
    table = shrink(frame)
    same(table.frame(), frame)
    assert table.nbytes <= max(frame["x"].memory_usage(index=False, deep=True), 16)


@pytest.mark.requirement("OPT-2")
@pytest.mark.parametrize(
    "frame",
    [
        pd.DataFrame(),
        pd.DataFrame({"a": []}),
        pd.DataFrame(index=[3, 4]),
        pd.DataFrame({"a": [1, 2]}, index=pd.Index(["x", "y"], name="key")),
        pd.DataFrame([[1, "a"], [2, "b"]], columns=["twice", "twice"]),
        pd.DataFrame([[1, 2]], columns=pd.MultiIndex.from_tuples([("a", 1), ("a", 2)])),
        pd.DataFrame({0: [1.5], 1: [Decimal("1.10")]}),
        pd.DataFrame({"a": pd.Series(["2026-01-01", None], dtype="datetime64[us, Europe/Madrid]")}),
        pd.DataFrame({"a": pd.to_timedelta([1, None], unit="s"), "b": pd.period_range("2026-01", periods=2, freq="M")}),
        pd.DataFrame({"a": [[1], [2, 3]], "b": [{"x": 1}, None], "c": [1 + 2j, 3]}),
        pd.DataFrame({"a": ["\ud800", "b"], "b": [10**30, 1], "c": [True, None]}, dtype=object),
        pd.DataFrame({"a": pd.Series([[1], None], dtype=pd.ArrowDtype(pa.list_(pa.int64())))}),
    ],
)
def test_a_frame_of_any_shape_is_read_back_unchanged(frame: pd.DataFrame) -> None:
    before = frame.copy(deep=True)
    same(shrink(frame).frame(), before)
    same(frame, before)


@pytest.mark.requirement("OPT-2")
@pytest.mark.parametrize(
    ("values", "form"),
    [
        (pd.Series(range(200)), "uint8"),
        (pd.Series(range(-100, 100)), "int8"),
        (pd.Series(range(60_000)), "uint16"),
        (pd.Series(range(2**40, 2**40 + 10)), "unchanged"),
        (pd.Series([0, 1, 1, 0] * 100), "bool"),
        (pd.Series([0.0, 1.0, NAN] * 100), "bool"),
        (pd.Series(np.arange(300.0)), "uint16"),
        (pd.Series(np.arange(300.0) - 0.0).replace(0.0, -0.0), "float"),
        (pd.Series(np.arange(20_000, 40_000) / 1e4), "decimal32(9, 4)"),
        (pd.Series(np.arange(1_000) / 1024 + 1e3), "float"),
        (pd.Series(np.pi * np.arange(1, 1_000)), "unchanged"),
        (pd.Series([1e300, 5e-324] * 1_000), "dictionary of 2, uint8"),
        (pd.Series([NAN] * 10), "all null"),
        (pd.Series([None] * 10, dtype="str"), "all null"),
        (pd.Series(["a", "b"] * 100), "dictionary of 2, uint8"),
        (pd.Series([f"text {i}" for i in range(300)]), "text, 32-bit offsets"),
        (pd.Series([f"text {i % 257}" for i in range(3_000)]), "dictionary of 257, uint16"),
        (pd.Series(pd.date_range("1900-01-01", periods=300).astype(str)), "date"),
        (pd.Series(pd.date_range("1900-01-01", periods=300)), "date"),
        (pd.Series([*pd.date_range("1900-01-01", periods=300).astype(str), "1900-1-1"]), "text, 32-bit offsets"),
        (pd.Series(pd.date_range("1900-01-01 00:00:01", periods=300)), "unchanged"),
        (pd.Series([1, "1"] * 10, dtype=object), "unchanged"),
    ],
)
def test_each_column_gets_the_smallest_form_that_keeps_its_values(values: pd.Series[Any], form: str) -> None:
    frame = values.to_frame("x")
    table = shrink(frame)
    assert form_of(table).startswith(form)
    same(table.frame(), frame)


@pytest.mark.requirement("OPT-2")
def test_decimals_keep_a_coordinate_that_half_precision_would_change() -> None:
    frame = pd.DataFrame({"latitude": np.round(np.linspace(40.5, 45, 5_000), 5)})
    frame.loc[0, "latitude"] = 42.7241
    assert float(np.float16(42.7241)) == 42.71875
    table = shrink(frame)
    assert (form_of(table), table.nbytes) == ("decimal32(9, 5)", 4 * len(frame))
    assert table.frame().loc[0, "latitude"] == 42.7241


@pytest.mark.requirement("OPT-2")
def test_other_programs_read_the_original_values_from_compressed_columns() -> None:
    frame = pd.DataFrame(
        {"price": [1.25, 2.5, NAN] * 100, "day": ["2026-01-31", None, "2026-02-01"] * 100, "n": [1.0, 2.0, 3.0] * 100}
    )
    table = shrink(frame).arrow
    with duckdb.connect() as connection:
        connection.register("small", table)
        found = connection.sql("SELECT price::DOUBLE, day::VARCHAR, n::DOUBLE FROM small LIMIT 3")
        assert found.fetchall() == [(1.25, "2026-01-31", 1.0), (2.5, None, 2.0), (None, "2026-02-01", 3.0)]


# Files


def write(path: Path, text: str, encoding: str = "utf-8") -> Path:
    path.write_text(text, encoding=encoding, newline="")
    return path


def read(path: Path) -> dict[str, list[Any]]:
    return {str(name): values.tolist() for name, values in read_small(path).frame().items()}


@pytest.mark.requirement("OPT-2")
@pytest.mark.parametrize("encoding", ["utf-8", "cp1252"])
def test_a_csv_file_gives_the_same_values_as_pandas(tmp_path: Path, encoding: str) -> None:
    hotels.generate(tmp_path / "bad.csv", 3_000)
    lines = (tmp_path / "bad.csv").read_text(encoding="cp1252").splitlines()
    path = write(tmp_path / "hotels.csv", "\n".join(x for x in lines if "surplus" not in x) + "\n", encoding)
    table = read_small(path)
    same(table.frame(), pd.read_csv(path, encoding=encoding))
    assert table.encoding == encoding
    assert "Château" in "".join(table.frame()["name"])
    assert table.unread == ()


@pytest.mark.requirement("OPT-2")
def test_a_parquet_file_and_its_frame_give_the_same_table(tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {
            "n": pd.array([1, None, 3] * 500, dtype="Int64"),
            "x": [0.25, NAN, -0.0] * 500,
            "code": ["0012", "13", None] * 500,
            "day": pd.Series(["2026-01-01", None, "2026-02-01"] * 500, dtype="datetime64[us]"),
            "list": [[1], None, [2, 3]] * 500,
            "ok": [True, False, True] * 500,
        }
    )
    frame.to_parquet(tmp_path / "plain.parquet", index=False)
    pq.write_table(pq.read_table(tmp_path / "plain.parquet"), tmp_path / "small.parquet", row_group_size=100)
    expected = pd.read_parquet(tmp_path / "plain.parquet").astype({"n": "Int64"})
    for name in ("plain", "small"):
        table = read_small(tmp_path / f"{name}.parquet")
        pd.testing.assert_frame_equal(table.frame().drop(columns="list"), expected.drop(columns="list"))
        assert [None if x is None else list(x) for x in table.frame()["list"]] == [[1], None, [2, 3]] * 500
        assert np.signbit(table.frame()["x"].to_numpy()[2])
        assert table.nbytes < shrink(expected).nbytes + 100 + expected["list"].memory_usage(deep=True)


CELLS = st.one_of(
    # Remove zero bytes, because a line that contains one is unreadable.
    TEXT.map(lambda text: text.replace("\0", "")),
    st.integers(-(2**65), 2**65).map(str),
    st.floats().map(str),
    st.sampled_from(["", "NA", "007", "-0", "True", "1e5", '5" disk', 'a,"b"', "two\nlines", "2026-01-31", " x "]),
)


@pytest.mark.requirement("OPT-2")
@given(rows=st.lists(st.tuples(CELLS, CELLS), min_size=1, max_size=20), times=st.integers(1, 3))
def test_text_columns_with_mixed_contents_are_read_back_exactly(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]], times: int
) -> None:
    path = tmp_path_factory.mktemp("mixed") / "mixed.csv"
    # The last row makes both columns text.
    lines = [*rows * times, ("words and", "words")]
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("a", "b"), *lines])
    table = read_small(path)
    found = table.frame()
    assert found["a"].where(found["a"].notna(), "").tolist() == [a for a, _ in lines]
    assert found["b"].where(found["b"].notna(), "").tolist() == [b for _, b in lines]


@pytest.mark.requirement("OPT-2")
@pytest.mark.parametrize(
    ("cells", "dtype", "values"),
    [
        (["1", "2"], "int64", [1, 2]),
        (["1", "", "NA"], "Int64", [1, pd.NA, pd.NA]),
        (["9223372036854775807", "-9223372036854775808"], "int64", [2**63 - 1, -(2**63)]),
        (["9223372036854775807", ""], "Int64", [2**63 - 1, pd.NA]),
        (["18446744073709551615", "0"], "uint64", [2**64 - 1, 0]),
        (["18446744073709551616", "0"], "str", ["18446744073709551616", "0"]),
        (["9007199254740993", "0.5"], "str", ["9007199254740993", "0.5"]),
        (["00501", "12206"], "str", ["00501", "12206"]),
        (["12206", "12206-1234"], "str", ["12206", "12206-1234"]),
        (["1.50", "-2e3", "inf"], "float64", [1.5, -2000.0, float("inf")]),
        (["1", "2.5"], "float64", [1.0, 2.5]),
        (["True", "False"], "bool", [True, False]),
        (["True", ""], "boolean", [True, pd.NA]),
        (["True", "1"], "str", ["True", "1"]),
        (["NA", "x"], "str", ["NA", "x"]),
        (["NA", "NA"], "str", ["NA", "NA"]),
        (["2026-01-31", "2026-02-30"], "str", ["2026-01-31", "2026-02-30"]),
    ],
)
def test_the_inferred_type_of_a_column_preserves_every_value(
    tmp_path: Path, cells: list[str], dtype: str, values: list[Any]
) -> None:
    path = write(tmp_path / "x.csv", "x,y\n" + "".join(f"{cell},z\n" for cell in cells))
    series = read_small(path).frame()["x"]
    assert series.dtype == dtype
    assert [None if value is pd.NA else value for value in series] == [None if v is pd.NA else v for v in values]


@pytest.mark.requirement("OPT-2", "PLT-12")
def test_a_declared_type_is_used_instead_of_an_inferred_one(tmp_path: Path) -> None:
    cells = ["1E5,1,1", "+10101,2.5,0", "NA,,1", "1701.0,-0.0,1"]
    path = write(tmp_path / "x.csv", "Code,x,flag\n" + "".join(f"{line}\n" for line in cells * 3))
    table = read_small(path, types={"code": pa.string(), "x": pa.float64(), "flag": pa.int64()})
    assert table.frame()["Code"].tolist() == ["1E5", "+10101", "NA", "1701.0"] * 3
    assert str(table.frame()["x"].tolist()) == str([1.0, 2.5, NAN, -0.0] * 3)
    # Values with a declared integer type must stay numbers, because the engine rejects booleans in an integer column.
    assert table.arrow["flag"].to_pylist() == [1, 0, 1, 1] * 3
    texts = read_small(path, types={"code": pa.float64()}).frame()["Code"]
    assert texts.tolist() == ["1E5", "+10101", "NA", "1701.0"] * 3


def test_empty_columns_are_read_as_missing_numbers(tmp_path: Path) -> None:
    frame = read_small(write(tmp_path / "x.csv", "x,y\n,1\n,2\n")).frame()
    same(frame, pd.read_csv(tmp_path / "x.csv"))


def test_text_that_pandas_reads_as_missing_is_read_as_a_missing_number(tmp_path: Path) -> None:
    path = write(tmp_path / "x.csv", "x,y\n1.5,1\n" + "".join(f"{word},1\n" for word in MISSING))
    same(read_small(path).frame(), pd.read_csv(path))
    assert read_small(path).frame()["x"].isna().sum() == len(MISSING)


@pytest.mark.parametrize(
    ("text", "lines", "unread"),
    [
        ("a,b\n1,2\n3,4\n", [2, 3], []),
        ("a,b\n\n1,2\n\n\n3,4", [3, 6], []),
        ("a,b\r\n1,2\r\n3,4\r\n", [2, 3], []),
        ('a,b\n1,"two\nlines"\n3,4\n', [2, 4], []),
        ('a,b\n1,5" disk\n3,4\n', [2, 3], []),
        (
            "a,b\n1,2,3\n1,2\n1\n3,4\n",
            [3, 5],
            [
                Unread(2, "it has 3 fields; the header has 2", "1,2,3"),
                Unread(4, "it has 1 fields; the header has 2", "1"),
            ],
        ),
        ('a,b\n1,2\n9,"open\n3,4\n5,6\n', [2, 4, 5], [Unread(3, "a quote is not closed", '9,"open')]),
        ("a,b\n1,2,3\n", [], [Unread(2, "it has 3 fields; the header has 2", "1,2,3")]),
        ("a,b\n", [], []),
    ],
)
def test_each_row_has_its_line_number_and_no_line_is_lost(
    tmp_path: Path, text: str, lines: list[int], unread: list[Unread]
) -> None:
    table = read_small(write(tmp_path / "x.csv", text))
    assert table.lines().tolist() == lines
    assert list(table.unread) == unread
    assert table.rows == len(table.frame()) == len(lines)


@pytest.mark.requirement("OPT-2")
@pytest.mark.parametrize(
    ("encoding", "stated", "word"),
    [
        ("utf-8", None, "日本 Château"),
        ("utf-8-sig", None, "Château"),
        ("utf-16", None, "日本 Château"),
        ("cp1252", None, "Château, “quoted”"),
        ("cp1251", None, "Привет мир, гостиница Москва"),
        ("cp1250", "cp1250", "Zażółć gęślą jaźń"),
    ],
)
def test_a_file_is_read_in_the_detected_or_the_declared_encoding(
    tmp_path: Path, encoding: str, stated: str | None, word: str
) -> None:
    path = write(tmp_path / "x.csv", f'name,n\n"{word}",1\nplain,2\n' + "plain,3\n" * 50, encoding)
    assert read_small(path, stated).frame()["name"].iloc[:2].tolist() == [word, "plain"]


def test_the_encoding_of_an_ascii_file_is_utf_8(tmp_path: Path) -> None:
    assert read_small(write(tmp_path / "x.csv", "a,b\n1,2\n")).encoding == "utf-8"


@pytest.mark.parametrize(
    ("content", "stated", "said"),
    [
        (None, None, "No such file"),
        (b"", None, "is not a CSV file with a header"),
        (b"\n1,2\n", None, "is not a CSV file with a header"),
        (b"a,b\n1,2\n", "no-such-encoding", "unknown encoding"),
        (b"PAR1 and nothing more", None, "cannot be read"),
    ],
)
def test_the_error_for_an_unreadable_file_names_the_file(
    tmp_path: Path, content: bytes | None, stated: str | None, said: str
) -> None:
    path = tmp_path / "x.csv"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SourceError, match=said) as caught:
        read_small(path, stated)
    assert str(path) in str(caught.value)


READ = """
import sys, tracemalloc
from pathlib import Path
import pyarrow as pa
from platform_assets.domains.optimisation.memory import read_small
first, second = map(Path, sys.argv[1:])
read_small(first)  # keep imports and Arrow's first allocations out of the measurement
tracemalloc.start()
table = read_small(second)
print(table.nbytes, tracemalloc.get_traced_memory()[1], pa.system_memory_pool().max_memory())
"""


@pytest.mark.requirement("OPT-2")
def test_reading_takes_little_more_memory_than_the_table(tmp_path: Path) -> None:
    some = hotels.generate(tmp_path / "some.csv", 12_800)
    head, *body = some.read_text(encoding="cp1252").splitlines()
    many = write(tmp_path / "many.csv", "\n".join([head, *body * 8]) + "\n")
    done = subprocess.run(
        [sys.executable, "-c", READ, str(some), str(many)], check=True, stdout=subprocess.PIPE, text=True
    )
    size, of_python, of_arrow = map(int, done.stdout.split())
    # Python (with numpy) and Arrow may reach their peaks at different times, but the sum is an upper bound. Parts of
    # the file are in memory during the read, and are large compared with this table. The 2 MiB allow for them.
    assert of_python + of_arrow < 1.3 * size + 2**21
    assert size < 0.2 * many.stat().st_size


@pytest.mark.requirement("OPT-2")
def test_the_hotels_take_less_memory_than_with_the_usual_methods(tmp_path: Path) -> None:
    table = read_small(hotels.generate(tmp_path / "hotels.csv", 20_000))
    sizes = report.competitors(table)
    assert list(sizes)[-1] == report.OURS
    assert sizes[report.OURS] < 0.6 * min(size for name, size in sizes.items() if name != report.OURS)
    assert next(iter(sizes)) == "pandas, texts as objects"


@pytest.mark.requirement("OPT-2")
def test_the_report_shows_the_size_of_each_column_before_and_after_compression(tmp_path: Path) -> None:
    table = read_small(write(tmp_path / "x.csv", "n,t\n" + "1,a\n2,b\n" * 500))
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in report.per_column(table).splitlines()]
    assert lines[0] == ["column", "type", "form", "bytes before", "bytes after", "times smaller"]
    assert [line[0] for line in lines[2:]] == ["n", "t", "all"]
    assert lines[2][2:5] == ["uint8", "8,000", "1,000"]
    assert lines[3][2] == "dictionary of 2, uint8"


@pytest.mark.requirement("OPT-2")
def test_the_chart_is_an_embedded_png_image() -> None:
    import base64
    import struct

    chart = report.bar_chart({"others": 3_000_000, report.OURS: 1_000_000})
    prefix = "![memory in MB](data:image/png;base64,"
    assert chart.startswith(prefix)
    image = base64.b64decode(chart.removeprefix(prefix).removesuffix(")"))
    width, height = struct.unpack(">II", image[16:24])
    assert image[:8] == b"\x89PNG\r\n\x1a\n"
    assert (width, height) > (400, 150)
    assert chart == report.bar_chart({"others": 3_000_000, report.OURS: 1_000_000})
