"""Tests of the demand model on the real series of 2017. A model trained on earlier months forecasts each month."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import ibis
import numpy as np
import pandas as pd
import pytest

from platform_assets.domains.esios_demand.features import demand_features
from platform_assets.domains.esios_demand.issuing import interval_factor
from platform_assets.domains.esios_demand.model import INTERVALS, MODEL, examples
from platform_assets.engine.query_engine import as_frame
from platform_assets.evaluation.conformal import widths
from platform_assets_tests.domains.esios_demand.series_rows import SCHEMA

if TYPE_CHECKING:
    from pathlib import Path

    from platform_assets.base.frames import Frame

FIRST_MONTH, LAST_MONTH = 5, 12
DAYS_UNTIL_KNOWN = 2
"""Days between a forecast day and the newest day whose demand is fully known at the cut-off."""


@pytest.fixture(scope="module")
def year(real_data: Path) -> Frame:
    """Return the examples of 2017."""
    given = pd.read_csv(real_data / "esios" / "esios_460_hourly_2017.csv", parse_dates=["datetime", "update timestamp"])
    rows = given.set_axis(["datetime", "demand_forecast", "id", "name", "update_timestamp"], axis=1)
    table = rows.astype({"datetime": "datetime64[us]", "update_timestamp": "datetime64[us]"})[list(SCHEMA.names)]
    return as_frame(examples(demand_features(ibis.memtable(table))).order_by("datetime_utc"))


def forecast(year: Frame) -> Frame:
    """Forecast each month from May with the first candidate, trained on all earlier months."""
    month, day = pd.to_datetime(year["local_day"]).dt.month, pd.to_datetime(year["local_day"]).dt.day_of_year
    parts = []
    for number in range(FIRST_MONTH, LAST_MONTH + 1):
        known, here = year[month < number], year[month == number]
        split = MODEL.split.split(known, known[MODEL.label].to_numpy())
        training = known.iloc[split.train]
        model = _fit(training)
        residuals, hours = [], []
        for fitted, tested in MODEL.split.folds(training, training[MODEL.label].to_numpy(), MODEL.folds):
            test = training.iloc[tested]
            residuals.append(test["demand_mw"] - _fit(training.iloc[fitted]).predict(test[MODEL.feature_names]))
            hours.append(test["local_hour"])
        half = widths(np.concatenate(residuals), np.concatenate(hours), INTERVALS).of(here["local_hour"], len(here))
        parts.append(here.assign(month=number, day=day, value=model.predict(here[MODEL.feature_names]), half=half))
    return pd.concat(parts)


def _fit(rows: Frame) -> Any:
    candidate = MODEL.candidates[0]
    return candidate.build(MODEL.seed).fit(rows[MODEL.feature_names], rows[MODEL.label])


def covered(found: Frame) -> pd.Series[bool]:
    """Return whether each hour is inside its interval, whose width depends on the coverage of earlier days."""
    missed: dict[int, float] = {}
    inside = []
    for day, rows in found.groupby("day"):
        factor = interval_factor(missed[one] for one in sorted(missed) if one <= int(str(day)) - DAYS_UNTIL_KNOWN)
        inside.append((rows["demand_mw"] - rows["value"]).abs() <= factor * rows["half"])
        missed[int(str(day))] = 1 - inside[-1].mean()
    return pd.concat(inside)


@pytest.mark.requirement("ESI-7")
def test_forecasts_of_2017_halve_the_naive_error_and_intervals_have_the_declared_coverage(year: Frame) -> None:
    found = forecast(year)
    shares = {
        name: (found[name] - found["demand_mw"]).abs() / found["demand_mw"]
        for name in ("value", "naive_d7_mw", "naive_d1_mw")
    }
    assert shares["value"].mean() < 0.5 * shares["naive_d7_mw"].mean()
    assert shares["value"].mean() < 0.6 * shares["naive_d1_mw"].mean()
    inside = covered(found)
    assert inside.mean() == pytest.approx(0.9, abs=0.02)
    by_month = inside.groupby(found["month"]).mean()
    assert 0.85 < by_month.min() < by_month.max() < 0.95
