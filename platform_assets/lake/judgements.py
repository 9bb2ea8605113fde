"""Judgements about a table: which expectations it meets, checked with Great Expectations.

`assets.py` turns judgements into Dagster's check results.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from platform_assets.base.errors import PlatformError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd

    from platform_assets.lake.expectations import Expectation

SAMPLE_ROWS = 5
"""Largest number of rows in the samples of a judgement."""
_PLACE = "place"


@dataclass(frozen=True)
class Judgement:
    """Result of checking an expectation.

    Attributes
    ----------
    name
        Name of the expectation.
    passed
        Whether the table meets the expectation.
    rows
        Number of checked rows.
    broken
        Number of rows that break the expectation; 0 for an expectation about the whole table.
    samples
        Some of the rows that break the expectation, with the checked columns and the columns that identify a row.
    observed
        Observed value, for an expectation about the whole table.
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
        # Search for the rows that break an expectation only if the check failed, because the search doubles the time.
        broken = [one for place, one in enumerate(declared) if not found[place]["success"]]
        samples = {
            "result_format": "SUMMARY",
            "partial_unexpected_count": SAMPLE_ROWS,
            "unexpected_index_column_names": list(identified_by),
        }
        found |= _validated(batch, broken, samples) if broken else {}
    finally:
        # Delete the data source, because otherwise the rows stay in memory until the next context is created.
        context.data_sources.delete("rows")
    return [_judgement(expectation, found[place], len(frame)) for place, expectation in enumerate(expectations)]


def _validated(batch: Any, declared: Sequence[Any], result_format: Mapping[str, Any]) -> dict[int, Any]:
    """Return the results of Great Expectations by the position of the expectation."""
    import great_expectations as gx

    # Use a single suite, so that intermediate results, such as the nulls of a column, are computed only once.
    suite = gx.ExpectationSuite(name="rows", expectations=list(declared))
    results = [one.to_json_dict() for one in batch.validate(suite, result_format=dict(result_format)).results]
    return {result["expectation_config"]["meta"][_PLACE]: result for result in results}


def _quickly_compared(frame: pd.DataFrame) -> pd.DataFrame:
    """Convert times to nanoseconds if they fit, because pandas compares other units value by value in Python.

    Times with a zone become UTC times without a zone. Great Expectations compares two columns as arrays, and arrays of
    times with a zone are deprecated in pandas.
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
        raise PlatformError(f"the expectation {expectation.name} is declared incorrectly: {reason}") from error


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
