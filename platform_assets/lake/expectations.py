"""Expectations as data, and the bridge to Great Expectations: declarations and rows in, judgements out.

A declaration names a fact about a table. Great Expectations judges it; where the fact is
about single rows, the same declaration also says, as an Ibis predicate, which rows break it,
so that they can be set apart (`quarantine.py`). Dagster's side lives in `orchestration`.
"""

from __future__ import annotations

import datetime as dt
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from platform_assets.base.errors import PlatformError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import ibis.expr.types as ir
    import pandas as pd

SAMPLE_ROWS = 5
_PLACE = "place"


@dataclass(frozen=True)
class Expectation:
    """A fact about a table.

    Attributes
    ----------
    name
        The fact, which is also the name of the asset check, e.g. `loan_amount_is_positive`.
    description
        The fact as a sentence.
    kind
        Class name in `great_expectations.expectations`.
    arguments
        Its keyword arguments.
    columns
        The columns that it reads.
    holds
        For a fact about single rows, the predicate that good rows satisfy. A null
        predicate counts as satisfied, as it does in Great Expectations.
    """

    name: str
    description: str
    kind: str
    arguments: Mapping[str, Any]
    columns: tuple[str, ...] = ()
    holds: Callable[[ir.Table], ir.BooleanValue] | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Judgement:
    """What became of an expectation.

    Attributes
    ----------
    name
        The expectation's.
    passed
        Whether the fact holds.
    rows
        Rows looked at.
    broken
        Rows that break it; 0 for a fact about the whole table.
    samples
        Some of those rows: the columns looked at and what identifies the row.
    observed
        What was seen instead, for a fact about the whole table.
    """

    name: str
    passed: bool
    rows: int
    broken: int = 0
    samples: tuple[Mapping[str, Any], ...] = ()
    observed: str | None = None


def judge(frame: pd.DataFrame, expectations: Sequence[Expectation], identified_by: Sequence[str]) -> list[Judgement]:
    """Let Great Expectations judge rows: no network, nothing left behind.

    Parameters
    ----------
    frame
        The rows, with the columns that the expectations read.
    expectations
        What is expected.
    identified_by
        Columns that tell a person which row is meant.

    Returns
    -------
    list[Judgement]
        In the order of the expectations.

    Raises
    ------
    PlatformError
        An expectation cannot be evaluated at all, e.g. for a wrong argument.

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
        # Most facts hold; which rows break one, with what identifies them, takes as long again to find.
        broken = [one for place, one in enumerate(declared) if not found[place]["success"]]
        samples = {
            "result_format": "SUMMARY",
            "partial_unexpected_count": SAMPLE_ROWS,
            "unexpected_index_column_names": list(identified_by),
        }
        found |= _validated(batch, broken, samples) if broken else {}
    finally:
        # What the context knows of the rows stays in memory until the next one is made.
        context.data_sources.delete("rows")
    return [_judgement(expectation, found[place], len(frame)) for place, expectation in enumerate(expectations)]


def _validated(batch: Any, declared: Sequence[Any], result_format: Mapping[str, Any]) -> dict[int, Any]:
    """What Great Expectations says, by the place of what was declared."""
    import great_expectations as gx

    # One suite, for what several expectations need (which values of a column are null) is then found once.
    suite = gx.ExpectationSuite(name="rows", expectations=list(declared))
    results = [one.to_json_dict() for one in batch.validate(suite, result_format=dict(result_format)).results]
    return {result["expectation_config"]["meta"][_PLACE]: result for result in results}


def _quickly_compared(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows with times in nanoseconds where they have that range: others are compared value by value, in Python."""
    import pandas as pd

    compared = frame.copy(deep=False)
    for name in frame.select_dtypes("datetime"):
        with suppress(pd.errors.OutOfBoundsDatetime):
            compared[name] = frame[name].dt.as_unit("ns")
    return compared


def _declared(expectation: Expectation, place: int) -> Any:
    from great_expectations import expectations as kinds

    try:
        return getattr(kinds, expectation.kind)(**expectation.arguments, meta={_PLACE: place})
    except (AttributeError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise PlatformError(f"the expectation {expectation.name} is declared wrongly: {reason}") from error


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
    """No value of the column twice. Rows cannot break this alone: `quarantine.py` compares them."""
    return Expectation(
        f"{column}_is_unique",
        f"No {column} stands twice.",
        "ExpectColumnValuesToBeUnique",
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
        # The engine's \w means ASCII.
        lambda t: t[column].re_search(r"[\p{L}\p{N}_]"),
    )


def is_paired_with(column: str, other: str, pairs: Mapping[Any, Any]) -> Expectation:
    """In every row that has both, the column has the value that `pairs` has for the other one."""
    return Expectation(
        f"{column}_follows_from_{other}",
        f"Every {column} is the one that belongs to its {other}: {dict(pairs)}.",
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
    """Every value of the column is above zero and no more than a bound that sense sets."""
    # Without an upper bound infinity would pass, and NaN too: DuckDB orders it above every number.
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
    """Every value of the column lies between the two bounds, both allowed. Bounds are compared as floats."""
    return Expectation(
        f"{column}_is_within_bounds",
        f"Every {column} lies between {low} and {high}, both allowed.",
        "ExpectColumnValuesToBeBetween",
        {"column": column, "min_value": _as_in_pandas(low), "max_value": _as_in_pandas(high)},
        (column,),
        lambda t: t[column].between(low, high),
    )


def is_after(column: str, other: str) -> Expectation:
    """In every row that has both, the first date comes after the second."""
    return Expectation(
        f"{column}_is_after_{other}",
        f"Every {column} comes after its {other}.",
        "ExpectColumnPairValuesAToBeGreaterThanB",
        {"column_A": column, "column_B": other, "ignore_row_if": "either_value_is_missing"},
        (column, other),
        lambda t: t[column] > t[other],
    )


def is_at_least(column: str, other: str) -> Expectation:
    """In every row that has both, the first number is equal to the second or above it."""
    return Expectation(
        f"{column}_is_at_least_{other}",
        f"Every {column} is equal to its {other} or above it.",
        "ExpectColumnPairValuesAToBeGreaterThanB",
        {"column_A": column, "column_B": other, "or_equal": True, "ignore_row_if": "either_value_is_missing"},
        (column, other),
        lambda t: t[column] >= t[other],
    )


def is_null_when(column: str, other: str, value: int) -> Expectation:
    """The column is null in every row where another one has this value."""
    return Expectation(
        f"{column}_is_null_when_{other}_is_{value}",
        f"{column} is null wherever {other} is {value}.",
        "ExpectColumnValuesToBeNull",
        {"column": column, "row_condition": _where(other, "==", value)},
        (column, other),
        lambda t: t[column].isnull() | (t[other] != value),
    )


def is_present_unless(column: str, other: str, value: int) -> Expectation:
    """The column is null at most where another one has this value."""
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
            f"{column} is null only where {other} is not.",
            "ExpectColumnValuesToNotBeNull",
            {"column": column, "row_condition": _null(other, is_null=True)},
            (column, other),
            lambda t: t[column].notnull() | t[other].notnull(),
        ),
        Expectation(
            f"{column}_is_null_with_{other}",
            f"{column} is null wherever {other} is not.",
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
        "ExpectTableRowCountToBeBetween",
        {"min_value": at_least},
    )


def _where(column: str, operator: str, value: int) -> dict[str, Any]:
    # What Great Expectations' own condition objects look like as data; they would cost its import here.
    return {"type": "comparison", "column": {"name": column}, "operator": operator, "parameter": value}


def _null(column: str, *, is_null: bool) -> dict[str, Any]:
    return {"type": "nullity", "column": {"name": column}, "is_null": is_null}


def _any_of(predicates: Sequence[ir.BooleanValue]) -> ir.BooleanValue:
    import ibis

    return ibis.or_(*predicates)


def _as_in_pandas(bound: Any) -> Any:
    # DuckDB hands dates to pandas as timestamps, and those refuse comparison with plain dates.
    is_plain_date = isinstance(bound, dt.date) and not isinstance(bound, dt.datetime)
    return dt.datetime.combine(bound, dt.time()) if is_plain_date else bound
