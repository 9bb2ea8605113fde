"""Invariants of the digest of staged rows, and the lifetime of staged files."""

from __future__ import annotations

import datetime as dt
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from platform_assets.base.errors import SchemaError
from platform_assets.engine.staged_files import combined_digest

if TYPE_CHECKING:
    from platform_assets.engine.query_engine import Engine

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
few = settings(max_examples=25)


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
def test_a_dropped_or_duplicated_row_changes_the_digest(engine: Engine, data: st.DataObject) -> None:
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
def test_cells_swapped_between_rows_change_the_digest(engine: Engine) -> None:
    """If DuckDB's row hashes were combined by XOR, the digest would not change."""
    table = pa.table({"a": range(50), "b": range(100, 150)})
    found = {digest(engine, table)}
    for row in range(49):
        b = table.column("b").to_pylist()
        b[row], b[row + 1] = b[row + 1], b[row]
        found.add(digest(engine, table.set_column(1, "b", pa.array(b))))
    assert len(found) == 50


@pytest.mark.requirement("PLT-7")
def test_the_digest_depends_on_the_value_of_a_pair_of_equal_rows(engine: Engine) -> None:
    """If the row hashes were combined by XOR, a pair of equal rows would cancel out."""
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
def test_digests_are_equal_only_for_values_that_are_equal_in_sql(
    engine: Engine, one: list[Any], other: list[Any], same: bool
) -> None:
    kind = pa.string() if isinstance(one[0], str) else pa.float64()
    found = [digest(engine, pa.table({"a": pa.array(values, kind)})) for values in (one, other)]
    assert (found[0] == found[1]) is same


def test_a_different_column_type_changes_the_digest(engine: Engine) -> None:
    kinds = [pa.int32(), pa.int64(), pa.float64(), pa.string(), pa.decimal128(10, 2), pa.decimal128(10, 3)]
    one = pa.table({"a": ["1"]})
    assert len({digest(engine, pa.table({"a": one.column("a").cast(kind)})) for kind in kinds}) == len(kinds)


def test_a_partition_has_the_same_digest_alone_and_with_other_partitions(engine: Engine) -> None:
    rows = pd.DataFrame({"part": ["a", "a", "b"], "value": [1, 2, 3]})
    with engine.stage(rows, "part") as staged, engine.stage(rows.head(2), "part") as first:
        assert {name: part.rows for name, part in staged.parts.items()} == {"a": 2, "b": 1}
        assert staged.parts["a"].digest == first.parts["a"].digest
        assert staged.digest == combined_digest({name: part.digest for name, part in staged.parts.items()})
    renamed = rows.rename(columns={"part": "region"})
    assert digest(engine, renamed, "region") != digest(engine, rows, "part")
    assert combined_digest({"a": "x\nb=y"}) != combined_digest({"a": "x", "b": "y"})


def test_staged_files_are_removed_at_the_end_of_the_context_and_after_an_error(engine: Engine) -> None:
    own = engine.folder("x").parent
    before = {*own.iterdir()}
    with engine.stage(pd.DataFrame({"a": [1]})) as staged:
        assert staged.folder.exists()
    with pytest.raises(SchemaError):
        engine.stage(pd.DataFrame({"a": [[1]]}))
    assert {*own.iterdir()} == before
