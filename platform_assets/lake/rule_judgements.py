"""Check the expectations of large tables with the query engine instead of Great Expectations.

Great Expectations needs all rows in memory. This module counts bad rows with the predicates of `quarantine.py`, and
gives the same results.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from platform_assets.base.errors import PlatformError
from platform_assets.lake.expectations import HAS_ROWS, IS_UNIQUE
from platform_assets.lake.judgements import SAMPLE_ROWS, Judgement

if TYPE_CHECKING:
    from collections.abc import Sequence

    import ibis.expr.types as ir

    from platform_assets.lake.expectations import Expectation


def judge_by_rules(
    rows: ir.Table, expectations: Sequence[Expectation], identified_by: Sequence[str]
) -> list[Judgement]:
    """Check rows with the engine that reads them. Only counts and samples leave the engine.

    Parameters
    ----------
    rows
        The rows to check.
    expectations
        The expectations to check.
    identified_by
        Columns that identify a row in the samples.

    Returns
    -------
    list[Judgement]
        In the order of the expectations.

    Raises
    ------
    PlatformError
        An expectation has no rule for large tables.
    """
    # Use one query, so that the rows are read once.
    numbers = {str(place): _number(rows, one) for place, one in enumerate(expectations) if one.kind != HAS_ROWS}
    [found] = rows.aggregate(**{_ROWS: rows.count(), **numbers}).to_pyarrow().to_pylist()
    return [
        _judgement(rows, one, found[_ROWS], found.get(str(place)), identified_by)
        for place, one in enumerate(expectations)
    ]


_ROWS = "number of rows"


def _number(rows: ir.Table, expectation: Expectation) -> ir.IntegerScalar:
    """Return the number of rows that break an expectation; for uniqueness, the number of repeated values."""
    if expectation.kind == IS_UNIQUE:
        [column] = expectation.columns
        return rows[column].count() - rows[column].nunique()
    return (~_keeps(rows, expectation)).sum().fill_null(0)


def _keeps(rows: ir.Table, expectation: Expectation) -> ir.BooleanValue:
    """Return for each row whether it meets an expectation. As in Great Expectations, null meets every expectation."""
    if expectation.holds is None:
        raise PlatformError(f"the expectation {expectation.name} ({expectation.kind}) has no rule for large tables")
    return expectation.holds(rows).fill_null(True)  # noqa: FBT003 - Ibis takes no keyword


def _judgement(
    rows: ir.Table, expectation: Expectation, total: int, number: int | None, identified_by: Sequence[str]
) -> Judgement:
    if number is None:
        passed = total >= expectation.arguments["min_value"]
        return Judgement(expectation.name, passed=passed, rows=total, observed=str(total))
    if number == 0:
        return Judgement(expectation.name, passed=True, rows=total)
    if expectation.kind == IS_UNIQUE:
        [column] = expectation.columns
        bad = rows.semi_join(rows.group_by(column).having(rows.count() > 1).agg(copies=rows.count()), column)
        number = int(bad.count().to_pyarrow().as_py())
    else:
        bad = rows.filter(~_keeps(rows, expectation))
    shown = list(dict.fromkeys([*expectation.columns, *identified_by]))
    samples = bad.order_by(list(identified_by)).select(shown).limit(SAMPLE_ROWS).to_pyarrow().to_pylist()
    return Judgement(expectation.name, passed=False, rows=total, broken=number, samples=tuple(samples))
