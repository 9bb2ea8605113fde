"""Expectations: facts about a table as data, checked with Great Expectations.

A fact about single rows also has an Ibis predicate, with which `quarantine.py` finds the rows that break it.
`assets.py` turns judgements into Dagster's check results.
"""

from __future__ import annotations

import datetime as dt
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from platform_assets.base.errors import PlatformError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import ibis.expr.types as ir
    import pandas as pd

SAMPLE_ROWS = 5
IS_UNIQUE = "ExpectColumnValuesToBeUnique"
HAS_ROWS = "ExpectTableRowCountToBeBetween"
_PLACE = "place"


@dataclass(frozen=True)
class Expectation:
    """A fact about a table.

    Attributes
    ----------
    name
        Name of the fact and of its asset check, e.g. `loan_amount_is_positive`.
    description
        The fact as a sentence.
    kind
        Class name in `great_expectations.expectations`.
    arguments
        Its keyword arguments.
    columns
        Columns that it reads.
    holds
        Predicate that good rows satisfy, for a fact about single rows. As in Great Expectations, null counts as
        satisfied.
    blocking
        Whether a failure prevents publishing. A fact about single rows of a source never does.
    """

    name: str
    description: str
    kind: str
    arguments: Mapping[str, Any]
    columns: tuple[str, ...] = ()
    holds: Callable[[ir.Table], ir.BooleanValue] | None = field(default=None, compare=False)
    blocking: bool = True


@dataclass(frozen=True)
class Judgement:
    """Result of checking an expectation.

    Attributes
    ----------
    name
        Name of the expectation.
    passed
        Whether the fact is true.
    rows
        Number of checked rows.
    broken
        Number of rows that break it; 0 for a fact about the whole table.
    samples
        Some of those rows: the checked columns and those that identify the row.
    observed
        Observed value, for a fact about the whole table.
    """

    name: str
    passed: bool
    rows: int
    broken: int = 0
    samples: tuple[Mapping[str, Any], ...] = ()
    observed: str | None = None


def judge(frame: pd.DataFrame, expectations: Sequence[Expectation], identified_by: Sequence[str]) -> list[Judgement]:
    """Check rows with Great Expectations, without network access or files.

    Parameters
    ----------
    frame
        The rows, with the columns that the expectations read.
    expectations
        The expectations.
    identified_by
        Columns that identify a row in the samples.

    Returns
    -------
    list[Judgement]
        In the order of the expectations.

    Raises
    ------
    PlatformError
        An expectation cannot be evaluated, e.g. because of a wrong argument.

    """
    import great_expectations as gx
    from great_expectations.data_context.types.base import ProgressBarsConfig

    declared = [_declared(expectation, place) for place, expectation in enumerate(expectations)]
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    batch = (
        context.data_sources.add_pandas("rows")
        .add_dataframe_asset("rows")
        .add_batch_definition_whole_dataframe("rows")
        .get_batch(batch_parameters={"dataframe": _quickly_compared(frame)})
    )
    try:
        found = _validated(batch, declared, {"result_format": "BASIC"})
        # Search for the rows that break a fact only if the check failed, because the search doubles the time.
        broken = [one for place, one in enumerate(declared) if not found[place]["success"]]
        samples = {
            "result_format": "SUMMARY",
            "partial_unexpected_count": SAMPLE_ROWS,
            "unexpected_index_column_names": list(identified_by),
        }
        found |= _validated(batch, broken, samples) if broken else {}
    finally:
        # Otherwise the rows stay in memory until the next context is created.
        context.data_sources.delete("rows")
    return [_judgement(expectation, found[place], len(frame)) for place, expectation in enumerate(expectations)]


def _validated(batch: Any, declared: Sequence[Any], result_format: Mapping[str, Any]) -> dict[int, Any]:
    """Return the results of Great Expectations by the position of the expectation."""
    import great_expectations as gx

    # In one suite, intermediate results such as the nulls of a column are computed once.
    suite = gx.ExpectationSuite(name="rows", expectations=list(declared))
    results = [one.to_json_dict() for one in batch.validate(suite, result_format=dict(result_format)).results]
    return {result["expectation_config"]["meta"][_PLACE]: result for result in results}


def _quickly_compared(frame: pd.DataFrame) -> pd.DataFrame:
    """Convert times to nanoseconds if they fit, because pandas compares others value by value in Python.

    Times with a zone become times in UTC without one, because Great Expectations compares two columns by their arrays,
    and pandas deprecates arrays of times with a zone.
    """
    import pandas as pd

    compared = frame.copy(deep=False)
    for name in frame.select_dtypes("datetimetz"):
        compared[name] = frame[name].dt.tz_convert("UTC").dt.tz_localize(None)
    for name in compared.select_dtypes("datetime"):
        with suppress(pd.errors.OutOfBoundsDatetime):
            compared[name] = compared[name].dt.as_unit("ns")
    return compared


def _declared(expectation: Expectation, place: int) -> Any:
    from great_expectations import expectations as kinds

    try:
        return getattr(kinds, expectation.kind)(**expectation.arguments, meta={_PLACE: place})
    except (AttributeError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise PlatformError(f"the expectation {expectation.name} has a wrong declaration: {reason}") from error


def _judgement(expectation: Expectation, result: Mapping[str, Any], rows: int) -> Judgement:
    seen = result["result"]
    if "observed_value" not in seen and "unexpected_count" not in seen:
        reasons = {problem["exception_message"] for problem in result["exception_info"].values()}
        raise PlatformError(f"the expectation {expectation.name} cannot be evaluated: {'; '.join(sorted(reasons))}")
    return Judgement(
        name=expectation.name,
        passed=result["success"],
        rows=rows,
        broken=seen.get("unexpected_count", 0),
        samples=tuple(seen.get("partial_unexpected_index_list") or ()),
        observed=str(seen["observed_value"]) if "observed_value" in seen else None,
    )


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
    """No value of the column occurs twice. `duplicate_rows.py` finds the rows that break this."""
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
    """Every value of the column holds a letter or a digit of any script."""
    return Expectation(
        f"{column}_has_a_word",
        f"Every {column} holds a letter or a digit.",
        "ExpectColumnValuesToMatchRegex",
        {"column": column, "regex": r"\w"},
        (column,),
        # In the engine, \w matches ASCII only.
        lambda t: t[column].re_search(r"[\p{L}\p{N}_]"),
    )


def is_paired_with(column: str, other: str, pairs: Mapping[Any, Any]) -> Expectation:
    """If neither column is null, the column has the value that `pairs` gives for the other one."""
    return Expectation(
        f"{column}_follows_from_{other}",
        f"Every {column} belongs to its {other}: {dict(pairs)}.",
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
    # The serialised form of Great Expectations' condition objects, which avoids its import.
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
        # As in `_quickly_compared`.
        return bound.astimezone(dt.UTC).replace(tzinfo=None)
    return dt.datetime.combine(bound, dt.time()) if is_plain_date else bound
