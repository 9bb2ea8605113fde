"""Compile an Ibis expression once, and run it on many small tables. Compiling takes longer than running."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import ibis
import pyarrow as pa

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import ibis.expr.types as ir


class Query:
    """An expression over one table, compiled to SQL. Call it with the rows of the table to get the result rows."""

    def __init__(self, schema: ibis.Schema, make: Callable[[ir.Table], ir.Table]) -> None:
        self._schema = schema.to_pyarrow()
        self._sql = str(ibis.to_sql(make(ibis.table(schema, name="given")), dialect="duckdb"))

    def __call__(self, rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
        duckdb: Any = ibis.get_backend()
        duckdb.con.register("given", pa.Table.from_pylist([*rows], schema=self._schema))
        answer: list[dict[str, Any]] = duckdb.con.sql(self._sql).to_arrow_table().to_pylist()
        return answer
