"""The champion issues one forecast for the next day, and an issued forecast is never changed."""

from __future__ import annotations

from contextlib import closing
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING

import psycopg
import pytest
from pydantic import SecretStr

from platform_assets.base.errors import TableError
from platform_assets.domains.esios_demand.features import demand_features
from platform_assets.domains.esios_demand.issued_forecasts import IssuedForecasts
from platform_assets.domains.esios_demand.issuing import Issue, interval_factor, issue
from platform_assets.domains.esios_demand.months import HOUR, start_of
from platform_assets.services import Services
from platform_assets.settings import Settings
from platform_assets_tests.domains.esios_demand import killed_issue
from platform_assets_tests.domains.esios_demand.series_rows import by_clock, hours_of, morning_of, period, series
from platform_assets_tests.domains.esios_demand.steady import Steady

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from platform_assets_tests.warm import WarmParent

DAY = timedelta(days=1)
TODAY = date(2017, 3, 29)
TOMORROW = TODAY + DAY


@pytest.fixture
def issued(tmp_path: Path, database_url: str) -> Iterator[IssuedForecasts]:
    settings = Settings(home=tmp_path, database_url=SecretStr(database_url))
    with closing(Services(settings)) as services:
        yield IssuedForecasts(lambda: services.database)


def series_until(today: date) -> dict[datetime, float]:
    """Return a value for each hour from three weeks before `today` to a week after it."""
    return period(today - 21 * DAY, today + 7 * DAY)


def at_ten(today: date) -> datetime:
    return morning_of(today) + timedelta(hours=2, minutes=23)


def issue_on(
    today: date,
    issued: IssuedForecasts,
    champion: Steady,
    values: Mapping[datetime, float] | None = None,
    now: datetime | None = None,
) -> Issue:
    features = demand_features(series(values or series_until(today), morning_of(today)))
    return issue(features, {}, champion, issued, now or at_ten(today))


@pytest.mark.requirement("ESI-7")
def test_the_forecast_of_the_next_day_is_issued_once_and_never_changed(
    issued: IssuedForecasts, database_url: str
) -> None:
    first = issue_on(TODAY, issued, Steady(3))
    rows = issued.of_day(TOMORROW)
    assert (first.day, first.hours, first.reason, first.factor) == (TOMORROW, 24, "", 1.0)
    assert [row["datetime_utc"].replace(tzinfo=UTC) for row in rows] == hours_of(TOMORROW, TOMORROW)
    assert rows[5] == {
        "datetime_utc": datetime(2017, 3, 30, 3),
        "local_day": TOMORROW,
        "model_version": 3,
        "approval_id": 7,
        "issued_at": at_ten(TODAY).replace(tzinfo=None),
        "demand_mw": by_clock(hours_of(TOMORROW, TOMORROW)[5]) - 700,
        "lower_mw": by_clock(hours_of(TOMORROW, TOMORROW)[5]) - 1_700,
        "upper_mw": by_clock(hours_of(TOMORROW, TOMORROW)[5]) + 300,
        "interval_factor": 1.0,
        "naive_d7_mw": by_clock(hours_of(TOMORROW, TOMORROW)[5]) - 700,
        "naive_d1_mw": by_clock(hours_of(TOMORROW, TOMORROW)[5]),
    }
    again = issue_on(TODAY, issued, Steady(4, plus=500), now=at_ten(TODAY) + HOUR)
    assert (again.hours, again.reason) == (0, "")
    # Simulate another run that started at the same time, before the forecast was stored.
    assert issued.add([{**row, "demand_mw": row["demand_mw"] + 1} for row in rows], {}) == 0
    assert issued.of_day(TOMORROW) == rows
    with psycopg.connect(database_url) as connection, pytest.raises(psycopg.Error, match=r"append-only|permission"):
        connection.execute("update esios_demand.forecasts set demand_mw = 1")


@pytest.mark.requirement("ESI-7")
@pytest.mark.parametrize(
    ("champion", "late", "told"),
    [
        pytest.param(Steady(0), timedelta(0), "demand_model has no champion", id="no champion"),
        pytest.param(
            Steady(3),
            timedelta(hours=14),
            "the stored hours are too old to forecast a future day: 2017-03-30 has already begun; run the job "
            "load_esios_demand",
            id="the day has begun",
        ),
    ],
)
def test_the_reason_is_given_if_no_forecast_is_issued(
    issued: IssuedForecasts, champion: Steady, late: timedelta, told: str
) -> None:
    assert issue_on(TODAY, issued, champion, now=at_ten(TODAY) + late) == Issue(TOMORROW, reason=told)
    assert issued.last_day() is None


@pytest.mark.requirement("ESI-7", "ESI-5")
@pytest.mark.parametrize(("today", "hours"), [(date(2017, 3, 25), 23), (date(2017, 10, 28), 25)])
def test_a_day_with_a_clock_change_has_23_or_25_hours(issued: IssuedForecasts, today: date, hours: int) -> None:
    assert issue_on(today, issued, Steady()).hours == hours
    found = [row["datetime_utc"].replace(tzinfo=UTC) for row in issued.of_day(today + DAY)]
    assert found == [start_of(today + DAY) + number * HOUR for number in range(hours)]


@pytest.mark.requirement("ESI-7")
def test_incomplete_features_are_listed_but_a_missing_24_hour_mean_is_an_error(issued: IssuedForecasts) -> None:
    values = series_until(TODAY)
    day = hours_of(TODAY - DAY, TODAY - DAY)
    old = {at: value for at, value in values.items() if at < day[12]}
    with pytest.raises(
        TableError, match=r"mean_24h_mw cannot be computed for 2017-03-30.*run the job load_esios_demand"
    ):
        issue_on(TODAY, issued, Steady(), old | {at: values[at] for at in hours_of(TOMORROW, TOMORROW)})
    found = issue_on(TODAY, issued, Steady(), {at: value for at, value in values.items() if at not in day[12:15]})
    assert (found.hours, "lag_2d_mw" in found.incomplete) == (24, True)


@pytest.mark.requirement("ESI-7")
def test_intervals_become_wider_after_days_with_low_coverage(issued: IssuedForecasts) -> None:
    widths = []
    for number in range(4):
        today = TODAY + number * DAY
        # The demand is 700 MW above the forecast, but the interval extends only 500 MW to each side.
        issue_on(today, issued, Steady(width=500))
        rows = issued.of_day(today + DAY)
        widths.append((rows[0]["upper_mw"] - rows[0]["demand_mw"]) / 500)
    # On the second day, the factor is still 1, because the day of the first forecast is not over.
    assert widths == pytest.approx([1, 1, interval_factor([1.0]), interval_factor([1.0, 1.0])])


@pytest.mark.requirement("ESI-7")
@pytest.mark.parametrize(
    ("missed", "expected"),
    [([], 1.0), ([0.1, 0.1], 1.0), ([1.0], 1.716), ([0.0], 0.942), ([1.0] * 9, 3.0), ([0.0] * 99, 0.4)],
)
def test_the_interval_factor_grows_with_missed_hours_and_stays_within_bounds(
    missed: list[float], expected: float
) -> None:
    assert interval_factor(missed) == pytest.approx(expected, abs=0.001)


@pytest.mark.requirement("ESI-7")
def test_the_run_after_a_killed_run_stores_each_forecast_exactly_once(
    warm: WarmParent, database_url: str, tmp_path: Path
) -> None:
    with warm.start(killed_issue.main, database_url, tmp_path) as process:
        told = [line.rstrip() for line in process.stdout]
        assert process.wait() == 0
    # The first run was killed before it stored anything, so the forecast of version 2 from the second run is kept.
    assert told == [
        "killed before_the_commit",
        "killed after_the_commit",
        "True [[2], [2]]",
        "True [[2], [2]]",
    ]
