from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from platform_assets.base.errors import SchemaError, TableError
from platform_assets.engine.query_engine import Engine, as_frame

if TYPE_CHECKING:
    from pathlib import Path

    from platform_assets.base.frames import Expression


def test_stored_columns_have_the_types_of_the_expression(engine: Engine) -> None:
    """DuckDB computes sums of integers in 128 bits, and would write these sums as doubles."""
    rows = engine.as_expression(pa.table({"a": [2**53, 1]}))
    with engine.stage(rows.aggregate(total=rows.a.sum(), count=rows.count())) as staged:
        assert staged.schema == pa.schema({"total": pa.int64(), "count": pa.int64()})
        assert as_frame(engine.staged(staged)).total.tolist() == [2**53 + 1]
        assert pq.read_schema(staged.parts[""].files[0]).field("total").type == pa.int64()


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        (pd.DataFrame({"a": [None, None]}), "column a has no type"),
        (pd.DataFrame({"a": [1, "x"]}), "each column must have a single type"),
        (pd.DataFrame({"a": [[1], [2]]}), "column a has type array<int64>, which tables cannot store"),
        (pd.DataFrame({"a": pd.to_timedelta([1], unit="s")}), "column a has type interval"),
        (pd.DataFrame({"a": [1], "A": [2]}), r"columns \['A', 'a'\] have the same name, or differ only in case"),
        (pa.table({"a": pa.array([1], pa.timestamp("ns"))}), "times must be rounded to microseconds"),
        (pa.table({"a": pa.array([2**63], pa.uint64())}), "a value does not fit its column's type: .*UINT64"),
    ],
)
def test_the_error_for_an_unsupported_column_names_the_column(engine: Engine, rows: Any, reason: str) -> None:
    with pytest.raises(SchemaError, match=reason):
        engine.stage(rows)


@pytest.mark.parametrize("by", ["missing", "real"])
def test_a_partition_column_that_is_missing_or_a_float_is_refused(engine: Engine, by: str) -> None:
    with pytest.raises(SchemaError, match=f"cannot partition by {by} .*must be one of"):
        engine.stage(pd.DataFrame({"real": [1.5], "a": [1]}), by)


def test_an_expression_with_times_finer_than_a_microsecond_is_refused(engine: Engine, files: Path) -> None:
    def stamps(nanoseconds: int) -> Expression:
        file = files / f"{nanoseconds}.parquet"
        pq.write_table(pa.table({"at": pa.array([nanoseconds, None], pa.timestamp("ns"))}), file)
        return engine.parquet(file)

    with engine.stage(stamps(1_000)) as staged:
        found = engine.staged(staged).at.to_pyarrow()
        assert found.type == pa.timestamp("us")
        assert pc.drop_null(found).cast(pa.int64()).to_pylist() == [1]
    with pytest.raises(TableError, match="column at has times that are not whole microseconds; round them first"):
        engine.stage(stamps(1_001))
