"""A table is checked before it is published; a failed check leaves no staged files."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

import ibis
import pandas as pd
import pyarrow as pa
import pytest

from platform_assets.base.errors import PlatformError, SchemaError, SourceError
from platform_assets.engine.query_engine import Engine
from platform_assets.lake import validation
from platform_assets.lake.expectations import Expectation, has_rows, is_positive, is_present, is_unique
from platform_assets.lake.schemas import Column, TableSchema
from platform_assets.lake.table_versions import TableVersion
from platform_assets.lake.validation import READ_WELL, USUAL_SIZE, WITHIN_LIMIT, Validator, checks_of, conform
from platform_assets.landing.landed_rows import Landed, land
from platform_assets.landing.row_writer import ERROR, LINE, TEXT
from platform_assets.landing.source_files import Source

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from platform_assets.lake.validation import Validated

COLUMNS = (
    Column("id", "int64", "Number of the sale."),
    Column("day", "date", "Day of the sale."),
    Column("amount", "float64", "Amount.", "euros"),
)
RULES = (has_rows(), is_unique("id"), is_present("id"), is_positive("amount", at_most=100))
SALES = TableSchema("shop/sales", COLUMNS, ("id",), RULES, source=True)
TOTALS = TableSchema("shop/totals", COLUMNS, ("id",), RULES)
DAY = dt.date(2020, 1, 1)


@pytest.fixture(scope="module")
def shared_engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    engine = Engine(tmp_path_factory.mktemp("scratch"), "300MB", 2)
    yield engine
    engine.close()


def leftovers(engine: Engine) -> list[str]:
    own = engine.folder("probe").parent
    return sorted(path.name for path in own.iterdir() if not path.name.startswith(("probe", "spill")))


@pytest.fixture
def engine(shared_engine: Engine) -> Iterator[Engine]:
    """An engine. After the test, check that it left no staged files behind."""
    yield shared_engine
    assert leftovers(shared_engine) == []


def landed(engine: Engine, folder: Path, *lines: str, header: str = "id,day,amount", demo: bool = False) -> Landed:
    path = folder / "sales.csv"
    path.write_text("\n".join([header, *lines, ""]))
    return land(Source("PLATFORM_SALES_URI", str(path), demo), engine)


def good(count: int) -> list[str]:
    return [f"{number},2020-01-01,5" for number in range(count)]


def bad(count: int) -> list[str]:
    return [f"{-number},2020-01-01,-5" for number in range(1, count + 1)]


def frame(**columns: list[Any]) -> pd.DataFrame:
    return pd.DataFrame({"id": [1], "day": [DAY], "amount": [5.0]} | columns)


def verdicts(validated: Validated) -> dict[str, bool]:
    return {judgement.name: judgement.passed for judgement in validated.judgements}


# Checks of a table


@pytest.mark.requirement("PLT-5", "PLT-6")
def test_row_expectations_warn_in_a_source_and_block_in_a_derived_table() -> None:
    assert {check.name: check.blocking for check in checks_of(SALES)} == {
        WITHIN_LIMIT: True,
        READ_WELL: False,
        USUAL_SIZE: False,
        "table_has_rows": True,
        "id_is_unique": False,
        "id_is_present": False,
        "amount_is_positive": False,
    }
    assert {check.name: check.blocking for check in checks_of(TOTALS)} == {
        "table_has_rows": True,
        "id_is_unique": True,
        "id_is_present": True,
        "amount_is_positive": True,
    }


@pytest.mark.requirement("PLT-5", "PLT-6")
def test_bad_rows_are_counted_by_the_checks_but_not_published(engine: Engine, tmp_path: Path) -> None:
    lines = [
        "1,2020-01-01,5",
        "2,2020-01-01,-5",
        "3,2020-01-01",
        "x,2020-01-01,5",
        "1,2020-01-01,5.0",
        "4,2020-01-01,6",
    ]
    rows = landed(
        engine,
        tmp_path,
        *(f"{line},e" if line.count(",") == 2 else line for line in lines),
        header="ID,day,amount,extra",
    )
    validated = Validator(engine, 1.0).validate(SALES, rows)
    table = engine.staged(validated.table).order_by("id").to_pyarrow().to_pylist()
    assert table == [{"id": 1, "day": DAY, "amount": 5.0}, {"id": 4, "day": DAY, "amount": 6.0}]
    assert validated.quarantine is not None
    quarantine = engine.staged(validated.quarantine).order_by(LINE).to_pyarrow().to_pylist()
    assert [(row[LINE], row["broken_rules"]) for row in quarantine] == [
        (3, "amount_is_positive"),
        (4, "line_is_readable"),
        (5, "id_is_a_whole_number, id_is_present"),
    ]
    judged = {one.name: (one.passed, one.rows, one.broken) for one in validated.judgements}
    assert judged == {
        WITHIN_LIMIT: (True, 5, 3),
        READ_WELL: (False, 5, 2),
        USUAL_SIZE: (True, 2, 0),
        "table_has_rows": (True, 4, 0),
        "id_is_unique": (True, 4, 0),
        "id_is_present": (False, 4, 1),
        "amount_is_positive": (False, 4, 1),
    }
    assert [check.name for check in checks_of(SALES)] == [one.name for one in validated.judgements]
    samples = {one.name: [row[LINE] for row in one.samples] for one in validated.judgements if one.samples}
    assert samples == {WITHIN_LIMIT: [3, 4, 5], READ_WELL: [4, 5], "id_is_present": [5], "amount_is_positive": [3]}
    digest = validated.metadata["source_digest"]
    assert validated.metadata == {
        "source": f"{tmp_path}/sales.csv (PLATFORM_SALES_URI)",
        "source_digest": digest,
        "quarantined_rows": 3,
        "quarantined_by_rule": {
            "amount_is_positive": 1,
            "id_is_a_whole_number": 1,
            "id_is_present": 1,
            "line_is_readable": 1,
        },
        "identical_rows_dropped": 1,
        "unknown_columns": ["extra"],
    }
    assert len(digest) == 64
    validated.discard()


@pytest.mark.parametrize("demo", [True, False])
def test_tables_from_sample_data_are_marked_as_demo(engine: Engine, tmp_path: Path, demo: bool) -> None:
    validated = Validator(engine, 0).validate(SALES, landed(engine, tmp_path, *good(1), demo=demo))
    assert validated.demo is demo
    validated.discard()


@pytest.mark.requirement("PLT-6")
@pytest.mark.parametrize(
    ("limit", "good_rows", "bad_rows", "passed"),
    [
        (0.05, 95, 5, True),
        (0.05, 57, 3, True),
        (0.05, 94, 5, False),
        (0.05, 96, 5, True),
        (0.0, 5, 0, True),
        (0.0, 999, 1, False),
        (1.0, 0, 3, True),
        (0.999, 0, 3, False),
    ],
)
def test_a_load_with_too_many_bad_rows_is_blocked(
    engine: Engine, tmp_path: Path, limit: float, good_rows: int, bad_rows: int, passed: bool
) -> None:
    rows = landed(engine, tmp_path, *good(good_rows), *bad(bad_rows))
    validated = Validator(engine, limit).validate(SALES, rows)
    first = validated.judgements[0]
    assert (first.name, first.passed, first.rows, first.broken) == (
        WITHIN_LIMIT,
        passed,
        good_rows + bad_rows,
        bad_rows,
    )
    assert validated.table.rows == good_rows
    assert validated.quarantine is not None
    assert validated.quarantine.rows == bad_rows
    share = f"{bad_rows / (good_rows + bad_rows):.2%} of {good_rows + bad_rows} rows are bad; the limit is {limit:.2%}"
    assert first.observed == share
    validated.discard()


def test_identical_rows_count_once_in_the_share_of_bad_rows(engine: Engine, tmp_path: Path) -> None:
    validated = Validator(engine, 0.5).validate(SALES, landed(engine, tmp_path, *good(1) * 10, *bad(1)))
    assert (validated.judgements[0].passed, validated.judgements[0].rows) == (True, 2)
    validated.discard()


@pytest.mark.requirement("PLT-12")
def test_a_bad_row_over_several_lines_counts_once_for_each_of_its_lines(engine: Engine, tmp_path: Path) -> None:
    lines = [*good(90), '-9,2020-01-01,"-5\n\n\n\n\n"', *bad(1)]
    validated = Validator(engine, 0.05).validate(SALES, landed(engine, tmp_path, *lines))
    first = validated.judgements[0]
    assert (first.passed, first.rows, first.broken) == (False, 97, 7)
    assert first.observed == "7.22% of 97 lines are bad; the limit is 5.00%"
    assert validated.quarantine is not None
    assert validated.quarantine.rows == 2
    validated.discard()


def version(rows: int, demo: bool = False) -> TableVersion:
    return TableVersion("shop/sales", 1, "", rows, dt.datetime(2020, 1, 1), {"demo": demo})


@pytest.mark.requirement("PLT-5", "PLT-12")
@pytest.mark.parametrize(
    ("rows", "history", "passed"),
    [
        (3, [], True),
        (3, [version(6)], True),
        (3, [version(7)], False),
        (6, [version(3)], True),
        (7, [version(3)], False),
        (7, [version(3), version(3), version(3, demo=True), version(8), version(20), version(7)], True),
        (7, [version(3, demo=True)], True),
    ],
)
def test_an_unusual_row_count_causes_a_warning(
    engine: Engine, tmp_path: Path, rows: int, history: list[TableVersion], passed: bool
) -> None:
    validated = Validator(engine, 0).validate(SALES, landed(engine, tmp_path, *good(rows)), history)
    assert verdicts(validated)[USUAL_SIZE] is passed
    validated.discard()


def test_a_source_without_rows_is_blocked(engine: Engine) -> None:
    names = {column.name: pa.string() for column in COLUMNS} | {LINE: pa.int64(), ERROR: pa.string(), TEXT: pa.string()}
    rows = engine.as_expression(pa.schema(names.items()).empty_table())
    validated = Validator(engine, 0).validate(SALES, Landed(Source("PLATFORM_SALES_URI", "x.csv"), rows, ""))
    assert {name for name, passed in verdicts(validated).items() if not passed} == {"table_has_rows"}
    assert validated.judgements[0].observed == "0.00% of 0 rows are bad; the limit is 0.00%"
    validated.discard()


@pytest.mark.requirement("PLT-5")
@pytest.mark.parametrize(
    ("columns", "failed"),
    [
        ({}, set()),
        ({"amount": [0.0]}, {"amount_is_positive"}),
        ({"id": [1, 1], "day": [DAY] * 2, "amount": [1.0, 2.0]}, {"id_is_unique"}),
        ({"id": [], "day": [], "amount": []}, {"table_has_rows"}),
        ({"amount": [float("nan")]}, set()),
    ],
)
def test_a_derived_table_is_checked_without_a_quarantine(
    engine: Engine, columns: dict[str, list[Any]], failed: set[str]
) -> None:
    validated = Validator(engine, 1).validate(TOTALS, frame(**columns).astype({"id": "int64", "amount": "float64"}))
    assert {name for name, passed in verdicts(validated).items() if not passed} == failed
    assert (validated.quarantine, validated.demo, validated.metadata) == (None, False, {})
    assert validated.table.rows == len(columns.get("id", [1]))
    validated.discard()


@pytest.mark.requirement("PLT-5")
def test_samples_of_failed_rows_in_a_derived_table_contain_exact_keys(engine: Engine) -> None:
    validated = Validator(engine, 1).validate(TOTALS, frame(id=[2**53 + 1], amount=[-1.0]))
    assert validated.judgements[-1].samples == ({"amount": -1.0, "id": 2**53 + 1},)
    validated.discard()


# Columns and types of a table


def test_columns_get_the_declared_order_and_types(engine: Engine) -> None:
    rows = pd.DataFrame({"amount": [5], "day": [pd.Timestamp("2020-01-01")], "id": pd.array([1], "Int32")})
    validated = Validator(engine, 1).validate(TOTALS, rows)
    assert [(field.name, str(field.type)) for field in validated.table.schema] == [
        ("id", "int64"),
        ("day", "date32[day]"),
        ("amount", "double"),
    ]
    validated.discard()


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            frame().drop(columns="day"),
            r"the columns of shop/totals differ .*: missing \['day'\], undeclared \[\]; change",
        ),
        (frame(tax=[1]), r"the columns of shop/totals differ .*: missing \[\], undeclared \['tax'\]; change"),
        (frame().rename(columns={"id": "ID"}), r"missing \['id'\], undeclared \['ID'\]"),
        (frame(id=["x"]), "Could not convert string 'x' to INT64"),
        (frame(id=[2**64 - 1]), "out of range"),
    ],
)
def test_a_table_that_does_not_match_its_schema_is_refused_and_leaves_no_files(
    engine: Engine, rows: pd.DataFrame, message: str
) -> None:
    with pytest.raises(SchemaError, match=message):
        Validator(engine, 1).validate(TOTALS, rows)


def test_conform_keeps_large_integers_and_nulls() -> None:
    rows = ibis.memtable(pa.table({"amount": [1, None], "day": ["2020-01-01", None], "id": [2**53 + 1, None]}))
    assert conform(rows, TOTALS).to_pyarrow().to_pylist() == [
        {"id": 2**53 + 1, "day": DAY, "amount": 1.0},
        {"id": None, "day": None, "amount": None},
    ]


# Failures

WRONG = Expectation("id_is_odd", "Every id is odd.", "ExpectNothing", {}, ("id",))


def test_a_failed_check_leaves_no_files(engine: Engine, tmp_path: Path) -> None:
    source = TableSchema(SALES.name, COLUMNS, ("id",), (WRONG,), source=True)
    with pytest.raises(PlatformError, match="id_is_odd is declared incorrectly"):
        Validator(engine, 1).validate(source, landed(engine, tmp_path, *good(1)))
    derived = TableSchema(TOTALS.name, COLUMNS, ("id",), (WRONG,))
    with pytest.raises(PlatformError, match="id_is_odd is declared incorrectly"):
        Validator(engine, 1).validate(derived, frame())


def test_a_source_that_lacks_a_column_leaves_no_files(engine: Engine, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"lacks the columns \['amount'\]"):
        Validator(engine, 1).validate(SALES, landed(engine, tmp_path, "1,2", header="id,day"))


@pytest.mark.requirement("PLT-6")
def test_a_source_needs_a_landed_file_and_a_derived_table_does_not_accept_one(engine: Engine, tmp_path: Path) -> None:
    with pytest.raises(SchemaError, match="shop/sales is declared as a source, but its asset returned a frame"):
        Validator(engine, 0).validate(SALES, frame())
    with pytest.raises(SchemaError, match="shop/totals is declared as derived, but its asset returned a landed file"):
        Validator(engine, 0).validate(TOTALS, landed(engine, tmp_path, *good(1)))


@pytest.mark.parametrize("returned", [None, [1, 2], {"id": [1]}, "shop/totals"])
def test_the_error_for_a_value_that_is_not_a_table_names_the_type_of_the_value(engine: Engine, returned: Any) -> None:
    with pytest.raises(
        SchemaError, match=f"{type(returned).__name__} is not a table; return a pandas frame or an Ibis expr"
    ):
        Validator(engine, 0).validate(TOTALS, returned)


@pytest.mark.requirement("PLT-5", "PLT-9")
def test_a_table_with_too_many_rows_for_memory_gets_the_same_check_results(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = pd.DataFrame({"id": [1, 1, 2], "day": [DAY] * 3, "amount": [1.0, 200.0, 3.0]})
    in_memory = Validator(engine, 1).validate(TOTALS, rows)
    in_memory.discard()
    monkeypatch.setattr(validation, "MOST_ROWS_IN_MEMORY", 2)
    monkeypatch.setattr(validation, "judge", None)
    by_rules = Validator(engine, 1).validate(TOTALS, rows)
    by_rules.discard()
    assert by_rules.judgements == in_memory.judgements
    assert [one.passed for one in by_rules.judgements] == [True, False, True, False]
