"""The series that are measured every day, their checks, and the scales on which values are compared.

Values are transformed before they are compared, so that increases and decreases are equally likely: counts and
durations to their logarithm, and shares to the arcsine of their square root.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Check:
    """A condition that is checked for each model or table.

    Attributes
    ----------
    name
        Name of the check.
    description
        The condition, as a sentence.
    severity
        `error` if a failure needs action at once, else `warn`.
    """

    name: str
    description: str
    severity: Literal["warn", "error"] = "warn"


@dataclass(frozen=True)
class Series:
    """A series of daily measurements.

    Attributes
    ----------
    title
        Display name.
    check
        Name of the check that tests the series; empty if the series is displayed but not tested.
    unit
        Unit of the values. Values with the unit `share` are displayed in percent.
    """

    title: str
    check: str = ""
    unit: str = ""


@dataclass(frozen=True)
class Point:
    """A measurement: a value of a series, with the inputs or the result of its test.

    Attributes
    ----------
    series, column
        Name of the series, and the measured column; the column is empty if the series is not measured by column.
    value, low, high
        The value, and the lower and upper bound of its 95 % interval; NaN if unknown.
    rows
        Number of rows from which the value was computed.
    judged
        The transformed value that is tested against earlier values; NaN if the value is not tested in this way.
    noise
        Minimum standard deviation that the test assumes for `judged`; NaN if the value is not tested in this way.
    evidence, threshold, is_open
        Result of another test of the value: the test statistic, its smallest value that raises an alarm,
        and whether an alarm is open. The first two are in days, because the threshold is derived from the mean
        number of days between two false alarms.
    told
        Explanation, for display.
    """

    series: str
    value: float
    column: str = ""
    low: float = math.nan
    high: float = math.nan
    rows: int = 0
    judged: float = math.nan
    noise: float = math.nan
    evidence: float = math.nan
    threshold: float = math.nan
    is_open: bool = False
    told: str = ""


VOLUME, FAILURES, LATENCY = "volume_is_as_usual", "failures_are_as_usual", "latency_is_as_usual"
INPUTS, PREDICTIONS = "requested_rows_are_as_in_training", "predictions_are_as_usual"
MEASURED = "measurements_are_complete"
ESTIMATED, LABELS, AGE = "estimated_performance_is_as_usual", "labels_agree_with_predictions", "champion_is_recent"
FAILED = "failed"
"""Series of failed measurements. Its value is 1 if the model or table could not be measured; `told` is the reason."""
FAILURE = Series("Failed measurements", MEASURED)
MODEL_CHECKS = (
    Check(MEASURED, "The model was measured without an error."),
    Check(VOLUME, "The number of predictions per day is similar to the same weekday in earlier weeks.", "error"),
    Check(FAILURES, "The share of failed requests is similar to earlier days.", "error"),
    Check(LATENCY, "The 95th percentile of the response time is similar to earlier days."),
    Check(INPUTS, "The rows in prediction requests have the same distribution as the training rows.", "error"),
    Check(PREDICTIONS, "The mean and spread of the predictions are similar to earlier days."),
    Check(ESTIMATED, "The performance as estimated without labels is similar to earlier days."),
    Check(LABELS, "Labels agree with the champion's predictions about as often as on the holdout.", "error"),
    Check(AGE, "The champion is not older than the model's policy allows."),
)
MODEL_SERIES = {
    FAILED: FAILURE,
    "predictions": Series("Predictions per day", VOLUME, "predictions"),
    "requests": Series("Requests per day", "", "requests"),
    "failed_share": Series("Failed requests", FAILURES, "share"),
    "latency_p50": Series("Latency, median", "", "ms"),
    "latency_p95": Series("Latency, 95th percentile", LATENCY, "ms"),
    "latency_p99": Series("Latency, 99th percentile", "", "ms"),
    "drift": Series("Distance of inputs from training", INPUTS, "distance"),
    "mean_prediction": Series("Mean prediction", PREDICTIONS),
    "spread_of_predictions": Series("Spread of predictions", PREDICTIONS),
    "estimated": Series("Estimated performance", ESTIMATED),
    "agreement": Series("Predictions that agree with their label", LABELS, "share"),
    "agreement_from_labels_alone": Series("Agreement, from labelled predictions alone", "", "share"),
    "calibration_gap": Series("Mean label minus mean prediction"),
    "labelled": Series("Labelled predictions since promotion", "", "predictions"),
    "disagreeing": Series("Labelled predictions that disagree", "", "predictions"),
    "champion_age": Series("Age of the champion", AGE, "days"),
    "input_age": Series("Age of the source tables of the features", "", "hours"),
}

FRESHNESS, ROWS, COMPLETE = "freshness_is_as_usual", "volume_is_as_usual", "completeness_is_as_usual"
DISTINCT, RANGE, COLUMNS = "uniqueness_is_as_usual", "range_is_as_usual", "schema_is_as_before"
DISTRIBUTION = "distribution_is_as_usual"
TABLE_CHECKS = (
    Check(MEASURED, "The table was measured without an error."),
    Check(FRESHNESS, "The age of the newest table version is in its usual range.", "error"),
    Check(ROWS, "The number of rows has changed about as much as between earlier versions.", "error"),
    Check(COMPLETE, "The shares of missing values and quarantined rows are similar to earlier versions.", "error"),
    Check(DISTINCT, "The number of distinct values in each column is similar to earlier versions."),
    Check(RANGE, "The smallest and largest values of each column are similar to earlier versions."),
    Check(COLUMNS, "The columns and their types are the same as in the previously measured version."),
    Check(
        DISTRIBUTION,
        "The mean and spread of each numeric column, and the share of the most frequent value of each non-numeric "
        "column, are similar to earlier versions.",
    ),
)
TABLE_SERIES = {
    FAILED: FAILURE,
    "age": Series("Age of the newest version", FRESHNESS, "hours"),
    "rows": Series("Rows", ROWS, "rows"),
    "missing_share": Series("Missing values", COMPLETE, "share"),
    "quarantined_share": Series("Quarantined rows", COMPLETE, "share"),
    "distinct": Series("Distinct values", DISTINCT, "values"),
    "smallest": Series("Smallest value", RANGE),
    "largest": Series("Largest value", RANGE),
    "mean": Series("Mean", DISTRIBUTION),
    "spread": Series("Standard deviation", DISTRIBUTION),
    "most_frequent_share": Series("Share of the most frequent value", DISTRIBUTION, "share"),
    "columns": Series("Columns", COLUMNS, "columns"),
}
SMALLEST_SHARE = 0.01
"""Negligible change of a share, on the arcsine scale. Examples: from 50 to 51 %, or from 1.0 to 1.2 %."""
SMALLEST_RATIO = 0.02
"""Negligible change of a count, as a ratio."""
_FEW = 10
SMALLEST_DISTINCT_RATIO = 0.005
"""Negligible change of the number of distinct values, as a ratio."""
SMALLEST_DURATION_RATIO = 0.1
"""Negligible change of a duration, as a ratio."""
SMALLEST_SHIFT = 0.025
"""Negligible change of a mean, as a multiple of the standard deviation of the values."""


def arcsine(share: float) -> float:
    """Transform a share to the arcsine of its square root, whose variance does not depend on the share."""
    return math.asin(math.sqrt(min(max(share, 0.0), 1.0)))


def share_noise(rows: int) -> float:
    """Return the standard deviation, on the arcsine scale, of a share that was computed from `rows` rows."""
    return max(1 / (2 * math.sqrt(max(rows, 1))), SMALLEST_SHARE)


def count_noise(count: float) -> float:
    """Return the standard deviation of the logarithm of a count.

    For a count below 10, return the value for 10. The value for a smaller count would be so large that it would hide a
    drop to almost zero.
    """
    return max(1 / math.sqrt(max(count, _FEW) + 1), SMALLEST_RATIO)


def of_count(series: str, count: int) -> Point:
    """Return the measurement of a daily count."""
    return Point(series, count, rows=count, judged=math.log1p(count), noise=count_noise(count))


def of_share(series: str, count: int, rows: int, column: str = "") -> Point:
    """Return the measurement of the share `count / rows`."""
    share = count / rows if rows else math.nan
    judged = arcsine(share) if rows else math.nan
    return Point(series, share, column, rows=rows, judged=judged, noise=share_noise(rows))


def of_duration(series: str, value: float, rows: int = 0) -> Point:
    """Return the measurement of a duration."""
    judged = math.log(value) if value > 0 else math.nan
    return Point(series, value, rows=rows, judged=judged, noise=SMALLEST_DURATION_RATIO)
