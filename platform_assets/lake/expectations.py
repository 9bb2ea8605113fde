"""Expectations: conditions that a table must meet.

`judgements.py` checks them with Great Expectations. A condition on single rows also has an Ibis predicate, with which
`quarantine.py` finds the rows that break it.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import ibis.expr.types as ir

IS_UNIQUE = "ExpectColumnValuesToBeUnique"
HAS_ROWS = "ExpectTableRowCountToBeBetween"


@dataclass(frozen=True)
class Expectation:
    """A condition that a table must meet.

    Attributes
    ----------
    name
        Name of the condition and of its asset check, e.g. `loan_amount_is_positive`.
    description
        The condition as a sentence.
    kind
        Class name in `great_expectations.expectations`.
    arguments
        Keyword arguments of that class.
    columns
        Columns that the condition reads; empty for a condition on the whole table.
    holds
        For a condition on single rows: the predicate that good rows satisfy. As in Great Expectations, null satisfies
        it.
    blocking
        Whether a failure prevents publishing. Ignored for single rows of a source, because bad rows are quarantined.
    """

    name: str
    description: str
    kind: str
    arguments: Mapping[str, Any]
    columns: tuple[str, ...] = ()
    holds: Callable[[ir.Table], ir.BooleanValue] | None = field(default=None, compare=False)
    blocking: bool = True


def warns(expectation: Expectation) -> Expectation:
    """Return the expectation as a warning: the table is published even if it fails."""
    return replace(expectation, blocking=False)


def is_present(column: str) -> Expectation:
    """No null in the column."""
    return Expectation(
        f"{column}_is_present",
        f"No {column} is null.",
        "ExpectColumnValuesToNotBeNull",
        {"column": column},
        (column,),
        lambda t: t[column].notnull(),
    )


def is_unique(column: str) -> Expectation:
    """No value of the column occurs twice. `duplicate_rows.py` finds the rows that break this condition."""
    return Expectation(
        f"{column}_is_unique",
        f"No {column} occurs twice.",
        IS_UNIQUE,
        {"column": column},
        (column,),
    )


def is_one_of(column: str, values: Sequence[Any]) -> Expectation:
    """Every value of the column is among the given ones."""
    return Expectation(
        f"{column}_is_a_known_value",
        f"Every {column} is one of {list(values)}.",
        "ExpectColumnValuesToBeInSet",
        {"column": column, "value_set": list(values)},
        (column,),
        lambda t: t[column].isin(values),
    )


def has_a_word(column: str) -> Expectation:
    """Every value of the column contains a letter or a digit of any script."""
    return Expectation(
        f"{column}_has_a_word",
        f"Every {column} contains a letter or a digit.",
        "ExpectColumnValuesToMatchRegex",
        {"column": column, "regex": r"\w"},
        (column,),
        # In DuckDB, \w matches only ASCII.
        lambda t: t[column].re_search(r"[\p{L}\p{N}_]"),
    )


def has_at_most(column: str, characters: int) -> Expectation:
    """No value of the column is longer than the given number of characters."""
    return Expectation(
        f"{column}_has_at_most_{characters}_characters",
        f"No {column} is longer than {characters} characters.",
        "ExpectColumnValueLengthsToBeBetween",
        {"column": column, "max_value": characters},
        (column,),
        lambda t: t[column].length() <= characters,
    )


def is_paired_with(column: str, other: str, pairs: Mapping[Any, Any]) -> Expectation:
    """If neither column is null, `column` has the value that `pairs` gives for the value of `other`."""
    return Expectation(
        f"{column}_follows_from_{other}",
        f"In every row, {column} corresponds to {other}: {dict(pairs)}.",
        "ExpectColumnPairValuesToBeInSet",
        {
            "column_A": column,
            "column_B": other,
            "value_pairs_set": [(value, key) for key, value in pairs.items()],
            "ignore_row_if": "either_value_is_missing",
        },
        (column, other),
        lambda t: _any_of(
            [
                t[column].isnull(),
                t[other].isnull(),
                *((t[column] == value) & (t[other] == key) for key, value in pairs.items()),
            ]
        ),
    )


def is_positive(column: str, at_most: float) -> Expectation:
    """Every value of the column is above zero and at most a plausible maximum."""
    # The upper bound excludes infinity, and NaN, which DuckDB orders above every number.
    return Expectation(
        f"{column}_is_positive",
        f"Every {column} is above 0 and at most {at_most:g}.",
        "ExpectColumnValuesToBeBetween",
        {"column": column, "min_value": 0, "strict_min": True, "max_value": at_most},
        (column,),
        lambda t: (t[column] > 0) & (t[column] <= at_most),
    )


def is_not_negative(column: str) -> Expectation:
    """No value of the column is below zero."""
    return Expectation(
        f"{column}_is_not_negative",
        f"No {column} is below 0.",
        "ExpectColumnValuesToBeBetween",
        {"column": column, "min_value": 0},
        (column,),
        lambda t: t[column] >= 0,
    )


def is_within(column: str, low: Any, high: Any) -> Expectation:
    """Every value of the column is between the two bounds, inclusive. Bounds are compared as floats."""
    return Expectation(
        f"{column}_is_within_bounds",
        f"Every {column} is between {low} and {high}, inclusive.",
        "ExpectColumnValuesToBeBetween",
        {"column": column, "min_value": _as_in_pandas(low), "max_value": _as_in_pandas(high)},
        (column,),
        lambda t: t[column].between(low, high),
    )


def is_after(column: str, other: str) -> Expectation:
    """In every row with both dates, the first is after the second."""
    return Expectation(
        f"{column}_is_after_{other}",
        f"Every {column} is after its {other}.",
        "ExpectColumnPairValuesAToBeGreaterThanB",
        {"column_A": column, "column_B": other, "ignore_row_if": "either_value_is_missing"},
        (column, other),
        lambda t: t[column] > t[other],
    )


def is_at_least(column: str, other: str) -> Expectation:
    """In every row with both numbers, the first is at least the second."""
    return Expectation(
        f"{column}_is_at_least_{other}",
        f"Every {column} is at least its {other}.",
        "ExpectColumnPairValuesAToBeGreaterThanB",
        {"column_A": column, "column_B": other, "or_equal": True, "ignore_row_if": "either_value_is_missing"},
        (column, other),
        lambda t: t[column] >= t[other],
    )


def is_null_when(column: str, other: str, value: int) -> Expectation:
    """The column is null in every row in which another column has this value."""
    return Expectation(
        f"{column}_is_null_when_{other}_is_{value}",
        f"{column} is null wherever {other} is {value}.",
        "ExpectColumnValuesToBeNull",
        {"column": column, "row_condition": _where(other, "==", value)},
        (column, other),
        lambda t: t[column].isnull() | (t[other] != value),
    )


def is_present_unless(column: str, other: str, value: int) -> Expectation:
    """The column is null only in rows in which another column has this value."""
    return Expectation(
        f"{column}_is_present_unless_{other}_is_{value}",
        f"{column} is null only where {other} is {value}.",
        "ExpectColumnValuesToNotBeNull",
        {"column": column, "row_condition": _where(other, "!=", value)},
        (column, other),
        lambda t: t[column].notnull() | (t[other] == value),
    )


def is_either(column: str, other: str) -> tuple[Expectation, Expectation]:
    """Every row has a value in exactly one of the two columns."""
    return (
        Expectation(
            f"{column}_is_present_without_{other}",
            f"{column} is null only where {other} is not null.",
            "ExpectColumnValuesToNotBeNull",
            {"column": column, "row_condition": _null(other, is_null=True)},
            (column, other),
            lambda t: t[column].notnull() | t[other].notnull(),
        ),
        Expectation(
            f"{column}_is_null_with_{other}",
            f"{column} is null wherever {other} is not null.",
            "ExpectColumnValuesToBeNull",
            {"column": column, "row_condition": _null(other, is_null=False)},
            (column, other),
            lambda t: t[column].isnull() | t[other].isnull(),
        ),
    )


def has_rows(at_least: int = 1) -> Expectation:
    """The table is not empty."""
    return Expectation(
        "table_has_rows",
        f"The table has at least {at_least} rows.",
        HAS_ROWS,
        {"min_value": at_least},
    )


def _where(column: str, operator: str, value: int) -> dict[str, Any]:
    # Use the serialised form of condition objects, to avoid importing Great Expectations.
    return {"type": "comparison", "column": {"name": column}, "operator": operator, "parameter": value}


def _null(column: str, *, is_null: bool) -> dict[str, Any]:
    return {"type": "nullity", "column": {"name": column}, "is_null": is_null}


def _any_of(predicates: Sequence[ir.BooleanValue]) -> ir.BooleanValue:
    import ibis

    return ibis.or_(*predicates)


def _as_in_pandas(bound: Any) -> Any:
    # DuckDB returns dates to pandas as timestamps, which cannot be compared with plain dates.
    is_plain_date = isinstance(bound, dt.date) and not isinstance(bound, dt.datetime)
    if isinstance(bound, dt.datetime) and bound.tzinfo:
        # As in `judgements.py`.
        return bound.astimezone(dt.UTC).replace(tzinfo=None)
    return dt.datetime.combine(bound, dt.time()) if is_plain_date else bound
