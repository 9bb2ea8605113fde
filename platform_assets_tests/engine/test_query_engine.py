"""Staging: the digest's laws, the bounds of the engine, and what rows may hold."""

from __future__ import annotations

import datetime as dt
import math
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ibis
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from platform_assets.base.errors import SchemaError, TableError
from platform_assets.engine.query_engine import Engine, as_frame
from platform_assets.engine.staged_files import combined_digest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from platform_assets.base.frames import Expression

# Ibis 12 calls DuckDB 2 by names that it will lose.

TYPES: dict[str, tuple[pa.DataType, st.SearchStrategy[Any]]] = {
    "integer": (pa.int64(), st.integers(-(2**63), 2**63 - 1) | st.sampled_from([0, 1, -1])),
    "real": (pa.float64(), st.floats(allow_nan=True, allow_infinity=True) | st.sampled_from([0.0, -0.0, 1.0])),
    "text": (pa.string(), st.text(max_size=3)),
    "day": (pa.date32(), st.dates()),
    "instant": (
        pa.timestamp("us", "UTC"),
        st.datetimes(dt.datetime(1, 1, 2), dt.datetime(9999, 12, 30), timezones=st.just(dt.UTC)),
    ),
    "yes": (pa.bool_(), st.booleans()),
}


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    engine = Engine(tmp_path_factory.mktemp("it's a [scratch] folder=1") / "inner", "200MB", 1)
    yield engine
    engine.close()


@pytest.fixture
def files(engine: Engine) -> Path:
    return engine.folder("test")


def digest(engine: Engine, rows: Any, by: str | None = None) -> str:
    with engine.stage(rows, by) as staged:
        return staged.digest


def is_same(one: Any, other: Any) -> bool:
    both_nan = isinstance(one, float) and isinstance(other, float) and math.isnan(one) and math.isnan(other)
    return both_nan or ((one is None) == (other is None) and one == other)


@st.composite
def tables(draw: st.DrawFn, min_rows: int = 0, min_columns: int = 1) -> pa.Table:
    kinds = draw(st.lists(st.sampled_from([*TYPES]), min_size=min_columns, max_size=4))
    rows = draw(st.integers(min_rows, 6))
    columns = [
        pa.array(draw(st.lists(st.none() | TYPES[kind][1], min_size=rows, max_size=rows)), TYPES[kind][0])
        for kind in kinds
    ]
    return pa.table(columns, names=[f"c{number}" for number in range(len(kinds))])


few = settings(max_examples=25)


# The digest


@pytest.mark.requirement("PLT-7")
@few
@given(data=st.data())
def test_the_order_of_the_rows_does_not_change_the_digest(engine: Engine, data: st.DataObject) -> None:
    table = data.draw(tables())
    order = data.draw(st.permutations(range(len(table))))
    assert digest(engine, table.take(pa.array(order, pa.int64()))) == digest(engine, table)


@pytest.mark.requirement("PLT-7")
@few
@given(table=tables(min_rows=1), group=st.integers(1, 3))
def test_the_layout_of_the_files_does_not_change_the_digest(engine: Engine, table: pa.Table, group: int) -> None:
    folder = engine.folder("layout")
    pieces = [folder / f"{start}.parquet" for start in range(0, len(table), group)]
    for number, piece in enumerate(pieces):
        pq.write_table(table.slice(number * group, group), piece, row_group_size=1, compression="gzip")
    assert digest(engine, engine.parquet(*pieces)) == digest(engine, table)


@pytest.mark.requirement("PLT-7")
@few
@given(data=st.data())
def test_any_changed_cell_changes_the_digest(engine: Engine, data: st.DataObject) -> None:
    table = data.draw(tables(min_rows=1))
    column = data.draw(st.integers(0, table.num_columns - 1))
    row = data.draw(st.integers(0, len(table) - 1))
    values = table.column(column).to_pylist()
    kind = next(strategy for arrow, strategy in TYPES.values() if arrow == table.column(column).type)
    value = data.draw(st.none() | kind)
    assume(not is_same(value, values[row]))
    values[row] = value
    changed = table.set_column(column, table.schema.field(column), pa.array(values, table.column(column).type))
    assert digest(engine, changed) != digest(engine, table)


@pytest.mark.requirement("PLT-7")
@few
@given(data=st.data())
def test_a_dropped_or_doubled_row_changes_the_digest(engine: Engine, data: st.DataObject) -> None:
    table = data.draw(tables(min_rows=1))
    row = data.draw(st.integers(0, len(table) - 1))
    whole = digest(engine, table)
    assert digest(engine, pa.concat_tables([table.slice(0, row), table.slice(row + 1)])) != whole
    assert digest(engine, pa.concat_tables([table, table.slice(row, 1)])) != whole
    assert digest(engine, pa.concat_tables([table, table])) != whole


@pytest.mark.requirement("PLT-7")
@few
@given(table=tables(min_columns=2))
def test_swapped_or_renamed_columns_change_the_digest(engine: Engine, table: pa.Table) -> None:
    names = table.schema.names
    whole = digest(engine, table)
    assert digest(engine, table.rename_columns(["other", *names[1:]])) != whole
    assert digest(engine, table.select(names[::-1])) != whole
    swapped = table.rename_columns([names[1], names[0], *names[2:]])
    first, second = table.column(0).to_pylist(), table.column(1).to_pylist()
    assume(not all(map(is_same, first, second)) or table.schema.field(0).type != table.schema.field(1).type)
    assert digest(engine, swapped.select(names)) != whole


@pytest.mark.requirement("PLT-7")
def test_cells_that_change_places_between_rows_change_the_digest(engine: Engine) -> None:
    """Exclusive or over DuckDB's row hashes is blind to this."""
    table = pa.table({"a": range(50), "b": range(100, 150)})
    found = {digest(engine, table)}
    for row in range(49):
        b = table.column("b").to_pylist()
        b[row], b[row + 1] = b[row + 1], b[row]
        found.add(digest(engine, table.set_column(1, "b", pa.array(b))))
    assert len(found) == 50


@pytest.mark.requirement("PLT-7")
def test_rows_that_come_in_pairs_count(engine: Engine) -> None:
    """In exclusive or a pair of equal rows is nothing."""
    found = {digest(engine, pa.table({"a": [value, value, 7]})) for value in range(20)}
    assert len(found) == 20


@pytest.mark.requirement("PLT-7")
@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ([0.0], [-0.0], True),
        ([math.nan], [-math.nan], True),
        ([math.nan], [np.frombuffer(b"\1\0\0\0\0\0\xf8\x7f")[0]], True),
        ([math.nan], [None], False),
        ([0.0], [None], False),
        ([math.inf], [-math.inf], False),
        ([1.0], [math.nextafter(1.0, 2.0)], False),
        ([""], [None], False),
        (["a"], ["a "], False),
        (["e\u0301"], ["\u00e9"], False),
    ],
)
def test_equal_values_are_those_that_sql_calls_equal(
    engine: Engine, one: list[Any], other: list[Any], same: bool
) -> None:
    kind = pa.string() if isinstance(one[0], str) else pa.float64()
    found = [digest(engine, pa.table({"a": pa.array(values, kind)})) for values in (one, other)]
    assert (found[0] == found[1]) is same


def test_types_are_part_of_the_digest(engine: Engine) -> None:
    kinds = [pa.int32(), pa.int64(), pa.float64(), pa.string(), pa.decimal128(10, 2), pa.decimal128(10, 3)]
    one = pa.table({"a": ["1"]})
    assert len({digest(engine, pa.table({"a": one.column("a").cast(kind)})) for kind in kinds}) == len(kinds)


def test_partitions_digest_alone_and_together(engine: Engine) -> None:
    rows = pd.DataFrame({"part": ["a", "a", "b"], "value": [1, 2, 3]})
    with engine.stage(rows, "part") as staged, engine.stage(rows.head(2), "part") as first:
        assert {name: part.rows for name, part in staged.parts.items()} == {"a": 2, "b": 1}
        assert staged.parts["a"].digest == first.parts["a"].digest
        assert staged.digest == combined_digest({name: part.digest for name, part in staged.parts.items()})
    renamed = rows.rename(columns={"part": "region"})
    assert digest(engine, renamed, "region") != digest(engine, rows, "part")
    assert combined_digest({"a": "x\nb=y"}) != combined_digest({"a": "x", "b": "y"})


# Bounds


def test_memory_threads_and_spill_folder_are_set(tmp_path: Path) -> None:
    engine = Engine(tmp_path / "scratch", "123MiB", 1)
    [(memory, threads, spill, zone)] = engine.sql(
        "SELECT current_setting('memory_limit'), current_setting('threads'),"
        " current_setting('temp_directory'), current_setting('TimeZone')"
    )
    assert (memory, threads, zone) == ("123.0 MiB", 1, "UTC")
    assert (tmp_path / "scratch") in Path(spill).parents
    engine.close()
    assert list((tmp_path / "scratch").iterdir()) == []


LARGE = """
import resource, sys
from pathlib import Path
from platform_assets.engine.query_engine import Engine
scratch = Path(sys.argv[1])
engine = Engine(scratch, "50MB", 1)
engine.sql("CREATE VIEW numbers AS SELECT i, hash(i) AS h, hash(i + 1)::VARCHAR AS t FROM range(3_000_000) r(i)")
numbers = engine.ibis.table("numbers")
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
spilled = 0
import threading
done = threading.Event()
def watch():
    global spilled
    while not done.wait(0.02):
        spilled = max(spilled, sum(f.stat().st_size for f in list(scratch.glob("*/spill/*")) if f.exists()))
watcher = threading.Thread(target=watch); watcher.start()
staged = engine.stage(numbers.mutate(h=numbers.h.cast("float64")).order_by("h"))
done.set(); watcher.join()
print(staged.rows, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024, spilled // 2**20)
"""


@pytest.mark.slow
def test_a_table_far_larger_than_memory_is_staged_within_it_and_leaves_nothing(tmp_path: Path) -> None:
    """Three million rows of 36 bytes and more, sorted, in 50 MB."""
    done = subprocess.run(
        [sys.executable, "-c", LARGE, str(tmp_path)], check=True, capture_output=True, text=True
    ).stdout
    rows, megabytes, spilled = map(int, done.split())
    assert rows == 3_000_000
    assert megabytes < 125
    assert spilled > 100
    assert list(tmp_path.iterdir()) == []


def test_rows_are_let_go_when_no_expression_needs_them(engine: Engine) -> None:
    for number in range(20):
        as_frame(engine.as_expression(pd.DataFrame({"a": [number]})))
    views = "SELECT count(*) FROM duckdb_views() WHERE view_name LIKE 'rows_%'"
    engine.as_expression(pd.DataFrame({"a": [0]}))
    assert engine.sql(views)[0][0] <= 2
    kept = engine.as_expression(pd.DataFrame({"a": [7]})).mutate(b=1)
    engine.as_expression(pd.DataFrame({"a": [0]}))
    assert as_frame(kept).to_dict("list") == {"a": [7], "b": [1]}


def test_staged_files_go_with_the_context_and_after_an_error(engine: Engine) -> None:
    own = engine.folder("x").parent
    before = {*own.iterdir()}
    with engine.stage(pd.DataFrame({"a": [1]})) as staged:
        assert staged.folder.exists()
    with pytest.raises(SchemaError):
        engine.stage(pd.DataFrame({"a": [[1]]}))
    assert {*own.iterdir()} == before


# What rows may hold


def test_names_and_paths_may_hold_blanks_and_quotes(engine: Engine) -> None:
    rows = pd.DataFrame({'a part\'s "name"': ["x", "y"], "select": [1, 2], "b=c": [3, 4]})
    with engine.stage(rows, 'a part\'s "name"') as staged:
        assert staged.parts.keys() == {"x", "y"}
        pd.testing.assert_frame_equal(as_frame(engine.staged(staged).order_by("select")), rows)


def test_files_are_read_by_their_names_not_by_patterns(engine: Engine, files: Path) -> None:
    (files / "month=1").mkdir()
    names = ("[a].parquet", "a.parquet", "month=1/*.parquet", "month=1/b.parquet")
    for name in names:
        pq.write_table(pa.table({"name": [name]}), files / name)
    for name in names:
        assert as_frame(engine.parquet(files / name)).to_dict("list") == {"name": [name]}


def test_a_frame_has_no_index_here_and_missing_text_is_null(engine: Engine) -> None:
    rows = pd.DataFrame({"text": pd.Series(["a", None], dtype=object), "n": [1, 2]}).set_index("n", drop=False)
    with engine.stage(rows) as staged:
        assert staged.schema == pa.schema({"text": pa.string(), "n": pa.int64()})
        assert engine.staged(staged).text.to_pyarrow().to_pylist() == ["a", None]


@pytest.mark.parametrize("by", [None, "part"])
def test_no_rows_keep_their_columns(engine: Engine, by: str | None) -> None:
    rows = pa.table({"part": pa.array([], pa.string()), "day": pa.array([], pa.date32())})
    with engine.stage(rows, by) as staged:
        assert (staged.rows, staged.schema) == (0, rows.schema)
        assert engine.staged(staged).to_pyarrow().schema == rows.schema


def test_what_is_stored_has_the_type_that_the_expression_states(engine: Engine) -> None:
    """DuckDB sums integers in 128 bits, and would write them as doubles."""
    rows = engine.as_expression(pa.table({"a": [2**53, 1]}))
    with engine.stage(rows.aggregate(total=rows.a.sum(), count=rows.count())) as staged:
        assert staged.schema == pa.schema({"total": pa.int64(), "count": pa.int64()})
        assert as_frame(engine.staged(staged)).total.tolist() == [2**53 + 1]
        assert pq.read_schema(staged.parts[""].files[0]).field("total").type == pa.int64()


def test_tables_of_ibis_own_memory_are_staged(engine: Engine) -> None:
    with engine.stage(ibis.memtable(pa.table({"a": [1, 2]})).filter(ibis._.a > 1)) as staged:
        assert as_frame(engine.staged(staged)).a.tolist() == [2]


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        (pd.DataFrame({"a": [None, None]}), "column a has no type"),
        (pd.DataFrame({"a": [1, "x"]}), "each column needs one type"),
        (pd.DataFrame({"a": [[1], [2]]}), "column a has type array<int64>, which tables do not keep"),
        (pd.DataFrame({"a": pd.to_timedelta([1], unit="s")}), "column a has type interval"),
        (pd.DataFrame({"a": [1], "A": [2]}), r"columns \['A', 'a'\] have the same name, or differ only in case"),
        (pa.table({"a": pa.array([1], pa.timestamp("ns"))}), "times no finer than a microsecond"),
        (pa.table({"a": pa.array([2**63], pa.uint64())}), "a value does not fit its column's type: .*UINT64"),
    ],
)
def test_what_tables_do_not_keep_is_refused_by_name(engine: Engine, rows: Any, reason: str) -> None:
    with pytest.raises(SchemaError, match=reason):
        engine.stage(rows)


@pytest.mark.parametrize("by", ["missing", "real"])
def test_partitions_have_types_with_one_spelling(engine: Engine, by: str) -> None:
    with pytest.raises(SchemaError, match=f"cannot partition by {by} .*must be one of"):
        engine.stage(pd.DataFrame({"real": [1.5], "a": [1]}), by)


def test_times_finer_than_a_microsecond_are_refused_also_in_an_expression(engine: Engine, files: Path) -> None:
    def stamps(nanoseconds: int) -> Expression:
        file = files / f"{nanoseconds}.parquet"
        pq.write_table(pa.table({"at": pa.array([nanoseconds, None], pa.timestamp("ns"))}), file)
        return engine.parquet(file)

    with engine.stage(stamps(1_000)) as staged:
        found = engine.staged(staged).at.to_pyarrow()
        assert found.type == pa.timestamp("us")
        assert pc.drop_null(found).cast(pa.int64()).to_pylist() == [1]
    with pytest.raises(TableError, match="column at has times finer than a microsecond; round them first"):
        engine.stage(stamps(1_001))


def test_more_memory_or_space_is_asked_for_when_there_is_none(tmp_path: Path) -> None:
    engine = Engine(tmp_path, "10MB", 1)
    engine.sql("SET max_temp_directory_size = '1MB'")
    engine.sql("CREATE VIEW numbers AS SELECT i, hash(i)::VARCHAR AS h FROM range(1_000_000) r(i)")
    with pytest.raises(TableError, match="no memory to stage the rows .*raise PLATFORM_ENGINE_MEMORY"):
        engine.stage(engine.ibis.table("numbers").order_by("h"))
    engine.close()
