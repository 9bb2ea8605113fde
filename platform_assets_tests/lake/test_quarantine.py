"""Source rows are converted to their declared types. Bad rows are quarantined with all reasons, and no row is lost."""

from __future__ import annotations

import csv
import datetime as dt
import decimal
import io
import json
import struct
from collections import Counter
from typing import TYPE_CHECKING, Any

import ibis
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from platform_assets.base.errors import SourceError
from platform_assets.engine.query_engine import Engine
from platform_assets.lake.broken_rules import RULES, breaking, count_by_rule
from platform_assets.lake.expectations import is_positive, is_present
from platform_assets.lake.field_types import reading_rules
from platform_assets.lake.quarantine import quarantined, sift
from platform_assets.lake.schemas import Column, TableSchema
from platform_assets.landing.landed_rows import land
from platform_assets.landing.row_writer import LINE
from platform_assets.landing.source_files import Source

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from platform_assets.lake.quarantine import Sifted

Row = dict[str, Any]

SALES = TableSchema(
    name="shop/sales",
    columns=(
        Column("id", "int64", "Number of the sale."),
        Column("day", "date", "Day of the sale."),
        Column("amount", "float64", "Amount.", "euros"),
        Column("note", "string", "Remark."),
    ),
    key=("id",),
    source=True,
    expectations=(is_present("id"), is_positive("amount", at_most=1e6)),
)
HEADER = "id,day,amount,note,extra\n"


class Sieve:
    """Writes a source file, and separates its rows into good and quarantined rows."""

    def __init__(self, engine: Engine, folder: Path) -> None:
        self.engine = engine
        self._file = folder / "sales"

    def sift(self, content: str | bytes | pa.Table, schema: TableSchema = SALES) -> tuple[list[Row], list[Row], Sifted]:
        if isinstance(content, bytes):
            self._file.write_bytes(content)
        elif isinstance(content, str):
            self._file.write_text(content, encoding="utf-8", newline="")
        else:
            pq.write_table(content, self._file)
        with land(Source("PLATFORM_SALES_URI", str(self._file)), self.engine) as landed:
            sifted = sift(landed, schema, self.engine)
            with sifted:
                good = sifted.good().to_pyarrow().to_pylist()
                bad = quarantined(landed, sifted).order_by(LINE).to_pyarrow().to_pylist()
                assert sifted.typed.rows == len(good) + len(bad) + sifted.twins
                return good, bad, sifted


@pytest.fixture(scope="module")
def sieve(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sieve]:
    folder = tmp_path_factory.mktemp("sieve")
    engine = Engine(folder / "scratch", "300MB", 2)
    yield Sieve(engine, folder)
    engine.close()


def rules(bad: Sequence[Row]) -> dict[int, str]:
    return {row[LINE]: row[RULES] for row in bad}


# Types

EXACT = 2**53 + 1
UNREADABLE = object()
INTEGERS: list[tuple[str, Any]] = [
    ("7", 7),
    (" 7 ", 7),
    ("+7", 7),
    ("-7", -7),
    ("007", 7),
    ("7.0", 7),
    ("7.", 7),
    (str(EXACT), EXACT),
    (f"{2**53 - 1}.0", 2**53 - 1),
    (f"-{2**53 - 1}.0", 1 - 2**53),
    (str(2**63 - 1), 2**63 - 1),
    (str(-(2**63)), -(2**63)),
    ("", None),
    *(
        (text, UNREADABLE)
        for text in (
            "5.7",
            "6.5",
            f"{EXACT}.5",
            f"{2**53}.0",
            f"-{2**54}.",
            "2e16",
            "1e3",
            "0x10",
            "0b11",
            "1_000",
            "1,000",
            "nan",
            "x",
            "   ",
            "7 8",
            "7-",
        )
    ),
    (str(2**63), UNREADABLE),
    ("\N{ARABIC-INDIC DIGIT SEVEN}", UNREADABLE),
    ("true", UNREADABLE),
]
FLOATS: list[tuple[str, Any]] = [
    ("5.7", 5.7),
    (" 5.7 ", 5.7),
    ("1e3", 1000.0),
    ("-1.5E-3", -0.0015),
    (".5", 0.5),
    ("5.", 5.0),
    ("0.1", 0.1),
    ("4.35", 4.35),
    ("1e-320", 1e-320),
    ("-0.0", -0.0),
    ("", None),
    *(
        (text, UNREADABLE)
        for text in ("nan", "NaN", "inf", "-Infinity", "1e400", "0x10", "1_0.5", "5,7", "x", " ", ".")
    ),
]
DATES: list[tuple[str, Any]] = [
    ("2020-02-29", dt.date(2020, 2, 29)),
    (" 2020-02-29 ", dt.date(2020, 2, 29)),
    ("3021-09-18", dt.date(3021, 9, 18)),
    ("0001-01-01", dt.date(1, 1, 1)),
    ("9999-12-31", dt.date(9999, 12, 31)),
    ("2020-02-29 00:00:00", dt.date(2020, 2, 29)),
    ("2020-02-29T00:00:00.000", dt.date(2020, 2, 29)),
    ("", None),
    *(
        (text, UNREADABLE)
        for text in (
            "2020-02-30",
            "2021-02-29",
            "2020-2-9",
            "2020/02/09",
            "20200209",
            "09.02.2020",
            "20-02-09",
            "12020-02-09",
            "2020-02-09 10:00:00",
            "2020-02-09 (BC)",
            "0000-01-01",
            "epoch",
            "infinity",
            "nat",
            "   ",
        )
    ),
]
TEXTS: list[tuple[str, Any]] = [
    ("x", "x"),
    (" x ", " x "),
    ("   ", "   "),
    ("", None),
    ("NULL", "NULL"),
    ("é\n,", "é\n,"),
]


@pytest.mark.requirement("PLT-6", "CRE-5")
@pytest.mark.parametrize(
    ("column", "rule", "examples"),
    [
        ("int64", "value_is_a_whole_number", INTEGERS),
        ("float64", "value_is_a_number", FLOATS),
        ("date", "value_is_a_date", DATES),
        ("string", "none", TEXTS),
    ],
)
@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_text_is_read_exactly_or_quarantined(
    sieve: Sieve, column: str, rule: str, examples: list[tuple[str, Any]], kind: str
) -> None:
    schema = TableSchema("shop/values", (Column("place", "int64", "."), Column("value", column, ".")), ("place",))
    texts = [text for text, _ in examples]
    content: Any = pa.table({"place": range(len(texts)), "value": texts})
    if kind == "csv":
        written = io.StringIO()
        csv.writer(written).writerows([("place", "value"), *enumerate(texts)])
        content = written.getvalue()
    good, bad, _ = sieve.sift(content, schema)
    read = {row["place"]: row["value"] for row in good}
    # An empty CSV field is a missing value. Parquet distinguishes an empty text from null.
    is_missing = {"": None if kind == "csv" or column != "string" else ""}
    assert {texts[place]: repr(value) for place, value in read.items()} == {
        text: repr(is_missing.get(text, value)) for text, value in examples if value is not UNREADABLE
    }
    raw = {json.loads(row["source_row"])["value"]: row[RULES] for row in bad}
    assert raw == {text: rule for text, value in examples if value is UNREADABLE}


TYPED: list[tuple[str, pa.Array, list[Any]]] = [
    ("int64", pa.array([EXACT, 2**63 - 1, None]), [EXACT, 2**63 - 1, None]),
    ("int64", pa.array([7.0, 5.7, float("nan"), None]), [7, UNREADABLE, UNREADABLE, None]),
    ("int64", pa.array([7, 2**64 - 1], pa.uint64()), [7, UNREADABLE]),
    ("int32", pa.array([7, 2**31]), [7, UNREADABLE]),
    ("float64", pa.array([5.7, float("nan"), float("inf"), None]), [5.7, UNREADABLE, UNREADABLE, None]),
    ("float64", pa.array([0.1], pa.float32()), [0.10000000149011612]),
    ("float64", pa.array([7, None]), [7.0, None]),
    ("date", pa.array([dt.datetime(2020, 2, 29), dt.datetime(2020, 2, 29, 10)]), [dt.date(2020, 2, 29), UNREADABLE]),
    ("date", pa.array([19_800_101, None]), [UNREADABLE, None]),
    ("date", pa.array([-719_528, 3_700_000, 0], pa.date32()), [UNREADABLE, UNREADABLE, dt.date(1970, 1, 1)]),
    ("timestamp(6)", pa.array(["0000-12-31 10:00"]), [UNREADABLE]),
    (
        "timestamp(6)",
        pa.array([-(1 << 57), 1 << 58, 0], pa.timestamp("us")),
        [UNREADABLE] * 2 + [dt.datetime(1970, 1, 1)],
    ),
    ("date", pa.array([dt.date(2020, 2, 29), None]), [dt.date(2020, 2, 29), None]),
    ("string", pa.array([EXACT, None]), [str(EXACT), None]),
    ("string", pa.array([dt.date(2020, 2, 29)]), ["2020-02-29"]),
    ("int64", pa.array([2.0**53 - 1, 2.0**53, -(2.0**54)]), [2**53 - 1, UNREADABLE, UNREADABLE]),
    ("int64", pa.array([2.0**24 - 1, 2.0**24], pa.float32()), [2**24 - 1, UNREADABLE]),
    ("int64", pa.array([decimal.Decimal(2**60), decimal.Decimal(7)], pa.decimal128(20, 0)), [2**60, 7]),
    ("int64", pa.array([decimal.Decimal("7.00"), decimal.Decimal("7.50")]), [7, UNREADABLE]),
    ("int64", pa.array([True]), [UNREADABLE]),
    ("int64", pa.array([[1], [2]]), [UNREADABLE, UNREADABLE]),
    ("string", pa.array([["x"], None]), [UNREADABLE, None]),
    ("string", pa.array([{"x": 1}, None]), [UNREADABLE, None]),
    ("string", pa.array([1.5, float("nan"), float("-inf"), None]), ["1.5", UNREADABLE, UNREADABLE, None]),
    ("string", pa.array(["x", "a\0b"]), ["x", UNREADABLE]),
    ("string", pa.array(["Łódź".encode(), b"\xff", None, b""]), ["Łódź", UNREADABLE, None, ""]),
    ("string", pa.array([True, None]), ["true", None]),
    ("int64", pa.array([b"7", b"x"]), [7, UNREADABLE]),
    ("boolean", pa.array([True, None]), [True, None]),
    ("boolean", pa.array(["true", "FALSE", "1", "0", "yes", ""]), [True, False, True, False, UNREADABLE, None]),
    ("boolean", pa.array([1, 0, 2]), [True, False, UNREADABLE]),
    ("boolean", pa.array([1.0]), [UNREADABLE]),
    (
        "decimal(6, 2)",
        pa.array(["1.5", "-1.500", "1.505", "12345.00"]),
        [decimal.Decimal("1.5"), decimal.Decimal("-1.5"), UNREADABLE, UNREADABLE],
    ),
    (
        "timestamp(6)",
        pa.array(["2020-02-29 09:30", "2020-02-29T09:30:07.1234560", "2020-02-29"]),
        [dt.datetime(2020, 2, 29, 9, 30), dt.datetime(2020, 2, 29, 9, 30, 7, 123456), dt.datetime(2020, 2, 29)],
    ),
    (
        "timestamp(6)",
        pa.array(["2020-02-29 09:30Z", "2020-02-29 25:00", "2020-02-29 09:30:07.1234567"]),
        [UNREADABLE] * 3,
    ),
    ("timestamp(6)", pa.array([1_000, 1_001], pa.timestamp("ns")), [dt.datetime(1970, 1, 1, 0, 0, 0, 1), UNREADABLE]),
    (
        "date",
        pa.array([dt.datetime(2020, 2, 29), dt.datetime(2020, 2, 29, 10)], pa.timestamp("ns")),
        [dt.date(2020, 2, 29), UNREADABLE],
    ),
    ("int64", pa.nulls(2), [None, None]),
]


@pytest.mark.requirement("PLT-6")
@pytest.mark.parametrize(("column", "values", "expected"), TYPED)
def test_a_value_of_another_type_is_accepted_if_the_conversion_is_exact(
    sieve: Sieve, column: str, values: pa.Array, expected: list[Any]
) -> None:
    schema = TableSchema("shop/values", (Column("place", "int64", "."), Column("value", column, ".")), ("place",))
    good, bad, _ = sieve.sift(pa.table({"place": range(len(values)), "value": values}), schema)
    read = {row["place"]: row["value"] for row in good} | {row[LINE] - 1: UNREADABLE for row in bad}
    assert [read[place] for place in range(len(values))] == expected


# Reasons


@pytest.mark.requirement("PLT-6")
def test_quarantined_rows_name_all_broken_rules_and_keep_the_original_text(sieve: Sieve) -> None:
    good, bad, sifted = sieve.sift(
        HEADER
        + "1,2020-01-01,1.50,x,e\n"
        + "2,2020-02-30,-5,y,e\n"
        + "x,2020-01-01,abc,,\n"
        + "4,2020-01-01\n"
        + f"{EXACT},2020-01-01,0,é,9007199254740993\n"
        + '6,"2020-01-01,1,x,e\n'
    )
    assert good == [{"id": 1, "day": dt.date(2020, 1, 1), "amount": 1.5, "note": "x"}]
    assert bad == [
        {
            LINE: 3,
            RULES: "day_is_a_date, amount_is_positive",
            "source_row": '{"id":"2","day":"2020-02-30","amount":"-5","note":"y","extra":"e"}',
            "source_error": "",
        },
        {
            LINE: 4,
            RULES: "id_is_a_whole_number, amount_is_a_number, id_is_present",
            "source_row": '{"id":"x","day":"2020-01-01","amount":"abc","note":null,"extra":null}',
            "source_error": "",
        },
        {
            LINE: 5,
            RULES: "line_is_readable",
            "source_row": "4,2020-01-01",
            "source_error": "it has 2 fields; the header has 5",
        },
        {
            LINE: 6,
            RULES: "amount_is_positive",
            "source_row": f'{{"id":"{EXACT}","day":"2020-01-01","amount":"0","note":"é","extra":"9007199254740993"}}',
            "source_error": "",
        },
        {
            LINE: 7,
            RULES: "line_is_readable",
            "source_row": '6,"2020-01-01,1,x,e',
            "source_error": "a quote is not closed",
        },
    ]
    assert sifted.unknown_columns == ("extra",)


def test_quarantined_rows_are_counted_and_found_by_broken_rule() -> None:
    bad = ibis.memtable(
        pa.table(
            {LINE: [2, 3, 4, 5], RULES: ["b", "a, b", "line_is_readable", "day_is_a_date, b"], "source_row": ["x"] * 4}
        )
    )
    assert count_by_rule(bad) == [("b", 3), ("a", 1), ("day_is_a_date", 1), ("line_is_readable", 1)]
    assert sorted(breaking(bad, reading_rules(SALES))[LINE].to_pyarrow().to_pylist()) == [4, 5]


def test_the_quarantine_of_parquet_keeps_numbers_exact(sieve: Sieve) -> None:
    table = pa.table({"id": [EXACT], "day": ["x"], "amount": [0.1], "note": ["y"], "extra": [[EXACT, None]]})
    _, [row], _ = sieve.sift(table)
    assert json.loads(row["source_row"]) == {
        "id": EXACT,
        "day": "x",
        "amount": 0.1,
        "note": "y",
        "extra": [EXACT, None],
    }


# Keys

DAY = "2020-01-01"


@pytest.mark.requirement("PLT-6", "CRE-5")
@pytest.mark.parametrize(
    ("lines", "kept", "set_apart", "twins"),
    [
        pytest.param([f"1,{DAY},5,x,"] * 2, [1], {}, 1, id="twice"),
        pytest.param([f"1,{DAY},5,x,"] * 3, [1], {}, 2, id="three times"),
        pytest.param([f"1,{DAY},5,x,", f"1,{DAY},5.0,x,"], [1], {}, 1, id="the same once typed"),
        pytest.param([f"1,{DAY},5,x,a", f"1,{DAY},5,x,b"], [1], {}, 1, id="differing where nobody looks"),
        pytest.param([f"1,{DAY},5,x,", f"1,{DAY},6,x,"], [], {2: "", 3: ""}, 0, id="different"),
        pytest.param([f"1,{DAY},5,x,", f"1,{DAY},5,,"], [], {2: "", 3: ""}, 0, id="null differs from a value"),
        pytest.param([f"1,{DAY},5,x,"] * 2 + [f"1,{DAY},6,x,"], [], {2: "", 3: "", 4: ""}, 0, id="twice and different"),
        pytest.param([f"1,{DAY},5,x,", f"1,{DAY},-6,x,"], [], {2: "", 3: "amount_is_positive, "}, 0, id="good and bad"),
        pytest.param([f"1,{DAY},-5,x,"] * 2, [], {2: "amount_is_positive"}, 1, id="bad twice"),
        pytest.param(
            [f"1,{DAY},abc,x,", f"1,{DAY},xyz,x,"],
            [],
            {2: "amount_is_a_number, ", 3: "amount_is_a_number, "},
            0,
            id="unreadable in different ways",
        ),
        pytest.param(
            [f"1,{DAY},,x,", f"1,{DAY},abc,x,"], [], {2: "", 3: "amount_is_a_number, "}, 0, id="missing, unreadable"
        ),
        pytest.param([f"1,{DAY},abc,x,"] * 2, [], {2: "amount_is_a_number"}, 1, id="unreadable twice"),
        pytest.param([f",{DAY},5,x,"] * 2, [], {2: "id_is_present", 3: "id_is_present"}, 0, id="no key"),
        pytest.param(["1,2"] * 2, [], {2: "line_is_readable", 3: "line_is_readable"}, 0, id="damaged twice"),
        pytest.param(
            [f"1,{DAY},5,x,"] * 2 + [f"2,{DAY},-5,x,"], [1], {4: "amount_is_positive"}, 1, id="beside a bad one"
        ),
    ],
)
def test_identical_rows_become_one_row_and_contradicting_rows_are_quarantined(
    sieve: Sieve, lines: list[str], kept: list[int], set_apart: dict[int, str], twins: int
) -> None:
    good, bad, sifted = sieve.sift(HEADER + "\n".join(lines))
    assert [row["id"] for row in good] == kept
    named = {
        line: f"{rule}id_is_unique" if rule == "" or rule.endswith(", ") else rule for line, rule in set_apart.items()
    }
    assert rules(bad) == named
    assert sifted.twins == twins


@pytest.mark.requirement("PLT-6")
def test_a_key_of_several_columns_is_compared_as_a_whole(sieve: Sieve) -> None:
    schema = TableSchema(SALES.name, SALES.columns, ("id", "day"), source=True)
    lines = ["1,2020-01-01,5,x,", "1,2020-01-02,5,y,", "1,2020-01-02,5,z,", "1,,5,x,", "1,,5,x,", "1,2020-01-01,5,x,"]
    good, bad, sifted = sieve.sift(HEADER + "\n".join(lines), schema)
    assert sorted((row["day"] is None, row["note"]) for row in good) == [(False, "x"), (True, "x"), (True, "x")]
    assert rules(bad) == {3: "id_and_day_is_unique", 4: "id_and_day_is_unique"}
    assert sifted.twins == 1


def test_the_first_of_identical_rows_is_kept(sieve: Sieve) -> None:
    _, bad, _ = sieve.sift(HEADER + f"9,{DAY},1,x,\n" + f"1,{DAY},-5,x,\n" * 50_000)
    assert rules(bad) == {3: "amount_is_positive"}


def field(*values: str) -> st.SearchStrategy[str]:
    return st.sampled_from(values)


lines = st.lists(
    st.tuples(
        field("1", "2", "3", "3.0", "", "x"),
        field(DAY, "2020-02-30", ""),
        field("5", "5.0", "-1", "abc", ""),
        field("x", ""),
        field("", "e"),
    ).map(",".join)
    | field("1,2", '1,"', ""),
    max_size=25,
)


@pytest.mark.requirement("PLT-6", "CRE-5")
@settings(max_examples=30)
@given(lines)
def test_every_line_is_published_or_quarantined_or_dropped_as_a_duplicate(sieve: Sieve, drawn: list[str]) -> None:
    content = [f"1000,{DAY},5,x,", *drawn]
    good, bad, sifted = sieve.sift(HEADER + "\n".join(content))
    came = {number: line for number, line in enumerate(content, start=2) if line}
    assert len(good) + len(bad) + sifted.twins == len(came)
    # Each quarantined row contains the text of its line.
    for row in bad:
        raw = row["source_row"]
        values = json.loads(raw).values() if raw.startswith("{") else None
        assert (",".join(value or "" for value in values) if values else raw) == came[row[LINE]]
        assert row[RULES]
    # No key is published twice, and no key of contradicting rows is published.
    keys = Counter(row["id"] for row in good)
    assert set(keys.values()) <= {1}
    contradicted = {json.loads(row["source_row"])["id"] for row in bad if "id_is_unique" in row[RULES]}
    assert not {int(float(key)) for key in contradicted} & set(keys)


# Sources as a whole


def test_a_source_without_a_declared_column_is_refused(sieve: Sieve) -> None:
    with pytest.raises(SourceError, match=r"lacks the columns \['amount'\]; it has \['id', 'day', 'note'\]"):
        sieve.sift("ID,Day,note\n1,2,3\n")


@pytest.mark.requirement("PLT-12")
def test_wrong_statistics_in_a_parquet_footer_do_not_hide_a_bad_row(sieve: Sieve) -> None:
    sink = io.BytesIO()
    amounts = [1.0, -5.0, 2.0]
    table = pa.table({"id": [1, 2, 3], "day": [DAY] * 3, "amount": amounts, "note": ["x"] * 3})
    pq.write_table(table, sink, use_dictionary=False, compression="none")
    content = sink.getvalue()
    footer = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
    wrong = content[footer:].replace(struct.pack("<d", -5.0), struct.pack("<d", 1.0))
    assert wrong != content[footer:]
    good, bad, _ = sieve.sift(content[:footer] + wrong)
    assert [row["id"] for row in good] == [1, 3]
    assert rules(bad) == {2: "amount_is_positive"}


@pytest.mark.requirement("PLT-12")
def test_bytes_that_are_not_utf_8_are_quarantined_with_an_error_that_names_the_columns(sieve: Sieve) -> None:
    table = pa.table(
        {"id": [1, 2], "day": [DAY] * 2, "amount": [1.0] * 2, "note": [b"x", b"\xe9"], "extra": [b"\xff"] * 2}
    )
    good, [row], _ = sieve.sift(table)
    assert [row["id"] for row in good] == [1]
    assert row[RULES] == "note_is_of_type_string"
    assert row["source_error"] == "not in UTF-8: note, extra"
    assert json.loads(row["source_row"])["note"] == "\\xe9"


def with_hole(path: Path, column: str, compression: str) -> bytes:
    """Return a parquet file with damaged bytes in the pages of one column."""
    sink = pa.BufferOutputStream()
    numbers = range(50_000)
    table = pa.table(
        {
            "id": numbers,
            "day": [DAY] * 50_000,
            "amount": [-1.0] * 50_000,
            "note": [f"x{n * 7919 % 50_000}" for n in numbers],
            "extra": [f"y{n * 7919 % 50_000}" for n in numbers],
        }
    )
    pq.write_table(table, sink, compression=compression, use_dictionary=False)
    content = bytes(sink.getvalue())
    path.write_bytes(content)
    group = pq.ParquetFile(path).metadata.row_group(0)
    chunk = group.column(table.column_names.index(column))
    start = chunk.data_page_offset + chunk.total_compressed_size // 2
    return content[:start] + b"\xff" * 64 + content[start + 64 :]


@pytest.mark.requirement("CRE-2")
@pytest.mark.parametrize("column", ["note", "extra"])
@pytest.mark.parametrize("compression", ["snappy", "zstd"])
def test_a_parquet_file_damaged_in_the_middle_is_refused_and_leaves_no_files(
    tmp_path: Path, column: str, compression: str
) -> None:
    from platform_assets.lake.validation import Validator

    engine = Engine(tmp_path / "scratch", "300MB", 2)
    path = tmp_path / "sales.parquet"
    path.write_bytes(with_hole(path, column, compression))
    own = engine.folder("probe").parent
    with pytest.raises(SourceError, match=r"sales.parquet \(PLATFORM_SALES_URI\) cannot be read to its end: "):
        Validator(engine, 1).validate(SALES, land(Source("PLATFORM_SALES_URI", str(path)), engine))
    assert [child.name for child in own.iterdir() if child.name.startswith(("staged", "landing"))] == []
    engine.close()
