"""The hourly errors of issued forecasts, their summaries and their checks."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

import ibis
import pandas as pd
import pyarrow as pa
import pytest

from platform_assets.domains.esios_demand.features import demand_features
from platform_assets.domains.esios_demand.forecast_errors import (
    CHECKS,
    RECENT,
    errors_by_hour,
    faults,
    recent,
    summary,
)
from platform_assets.domains.esios_demand.metadata import of_errors
from platform_assets.domains.esios_demand.months import HOUR, MADRID, start_of
from platform_assets.domains.esios_demand.schemas import FORECAST_ERRORS, FORECASTS
from platform_assets.engine.query_engine import as_frame
from platform_assets_tests.domains.esios_demand.series_rows import by_clock, hours_of, morning_of, period, series

if TYPE_CHECKING:
    from platform_assets.base.frames import Frame

DAY = timedelta(days=1)


def issued(*days: date, error: float = 100.0) -> list[dict[str, Any]]:
    """Return forecasts that are too high by `error`, with intervals that extend 500 MW to each side."""
    return [
        {
            "datetime_utc": at.replace(tzinfo=None),
            "local_day": day,
            "model_version": 3,
            "approval_id": 7,
            "issued_at": datetime(2017, 3, 1),
            "demand_mw": by_clock(at) + error,
            "lower_mw": by_clock(at) + error - 500,
            "upper_mw": by_clock(at) + error + 500,
            "interval_factor": 1.0,
            "naive_d7_mw": by_clock(at) - 700,
            "naive_d1_mw": None,
        }
        for day in days
        for at in hours_of(day, day)
    ]


def errors_of(rows: list[dict[str, Any]], today: date) -> Frame:
    """Return the errors that are known on the morning of `today`."""
    schema = ibis.schema({column.name: column.type for column in FORECASTS.columns}).to_pyarrow()
    forecasts = ibis.memtable(pa.Table.from_pylist(rows, schema=schema))
    features = demand_features(series(period(date(2017, 3, 1), today + 7 * DAY), morning_of(today)))
    return as_frame(errors_by_hour(forecasts, features).order_by("datetime_utc"))


def many(days: int, *, error: float = 100.0, naive: float = 700.0, covered: float = 0.9) -> Frame:
    """Return the forecast errors of `days` days, each with 20 hours."""
    rows = [
        {
            "datetime_utc": pd.Timestamp("2017-03-01") + number * DAY + hour * HOUR,
            "local_day": pd.Timestamp("2017-03-01") + number * DAY,
            "model_version": 3,
            "local_hour": hour,
            "is_holiday": 0,
            "horizon_hours": 14 + hour,
            "forecast_mw": 20_000.0 + error,
            # The interval ends below the demand in the hours that are not covered.
            "lower_mw": 19_000.0,
            "upper_mw": 21_000.0 if hour < 20 * covered else 19_500.0,
            "demand_mw": 20_000.0,
            "naive_d7_mw": 20_000.0 - naive,
            "naive_d1_mw": float("nan"),
        }
        for number in range(days)
        for hour in range(20)
    ]
    return pd.DataFrame(rows)


@pytest.mark.requirement("ESI-7")
def test_each_past_hour_gets_a_forecast_error() -> None:
    day = date(2017, 3, 25)
    found = errors_of(issued(day, day + DAY), day + DAY)
    assert list(found.columns) == [column.name for column in FORECAST_ERRORS.columns]
    # On the morning of the 26th, the hours of that day until 07:00 are over. The day has no hour 2.
    assert found["local_hour"].tolist() == [*range(24), 0, 1, 3, 4, 5, 6]
    assert found["horizon_hours"].tolist() == [*range(14, 38), *range(14, 20)]
    assert set(found["error_mw"]) == {100.0}
    assert found["demand_mw"].tolist() == [by_clock(at.replace(tzinfo=UTC)) for at in found["datetime_utc"]]
    assert found["is_covered"].all()


@pytest.mark.requirement("ESI-7", "ESI-5")
def test_the_horizon_counts_elapsed_hours_when_the_clock_goes_back() -> None:
    found = issued(date(2017, 10, 29))
    assert len(found) == 25
    schema = ibis.schema({column.name: column.type for column in FORECASTS.columns}).to_pyarrow()
    features = demand_features(series(period(date(2017, 10, 1), date(2017, 11, 6)), morning_of(date(2017, 10, 30))))
    forecasts = ibis.memtable(pa.Table.from_pylist(found, schema=schema))
    errors = as_frame(errors_by_hour(forecasts, features).order_by("datetime_utc"))
    cut_off = start_of(date(2017, 10, 28)) + 10 * HOUR
    expected = [(at.replace(tzinfo=UTC) - cut_off) // HOUR for at in errors["datetime_utc"].dt.to_pydatetime()]
    assert errors["horizon_hours"].tolist() == expected == list(range(14, 39))
    assert errors["local_hour"].tolist() == [at.astimezone(MADRID).hour for at in hours_of(*[date(2017, 10, 29)] * 2)]


@pytest.mark.requirement("ESI-7")
def test_the_summary_compares_the_forecasts_with_the_naive_ones() -> None:
    found = summary(many(10))
    assert found["mae"] == found["bias"] == pytest.approx(100)
    assert found["mape"] == pytest.approx(0.005)
    assert found["skill_over_naive_d7_mw"] == pytest.approx(1 - 100 / 700)
    assert found["interval_coverage"] == pytest.approx(0.9)
    assert recent(many(40))["local_day"].nunique() == RECENT.days


@pytest.mark.requirement("ESI-7")
@pytest.mark.parametrize(
    ("errors", "failed"),
    [
        pytest.param(many(10), set(), id="good forecasts"),
        pytest.param(many(10, error=-800), {"forecasts_are_better_than_naive", "bias_is_small"}, id="worse than naive"),
        pytest.param(many(10, covered=0.7), {"demand_is_within_intervals"}, id="intervals too narrow"),
        pytest.param(many(10, covered=1.0), {"demand_is_within_intervals"}, id="intervals too wide"),
        pytest.param(many(6, error=-800), set(), id="too few days to judge"),
        pytest.param(many(1).iloc[:0], set(), id="no forecasts"),
    ],
)
def test_each_kind_of_bad_forecast_fails_its_check(errors: Frame, failed: set[str]) -> None:
    found = faults(errors)
    assert set(found) == set(CHECKS)
    assert {name for name, fault in found.items() if fault} == failed


@pytest.mark.requirement("ESI-7")
def test_the_metadata_contain_metrics_breakdowns_and_plots() -> None:
    facts = of_errors(many(10))
    assert facts["recent mae"] == pytest.approx(100)
    assert "recent skill_over_naive_d1_mw" not in facts
    assert facts["recent errors by horizon_hours"].value.count("\n") == 21
    assert {"plot_last_week", "plot_error_by_group", "plot_coverage_by_group"} <= set(facts)
    assert of_errors(many(1).iloc[:0]) == {}
