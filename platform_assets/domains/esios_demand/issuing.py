"""Issue the forecast of the next local day, with the champion.

The interval of a forecast is the interval of the model, multiplied by a factor that adapts to the coverage of the last
forecasts. The factor grows after a day on which more than 10 % of the hours were outside their interval, and shrinks
after all other days. This is the quantile tracker of Angelopoulos, Candès and Tibshirani, "Conformal PID Control for
Time Series Prediction" (2023), on a log scale.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

from platform_assets.base.errors import NoChampion, TableError
from platform_assets.domains.esios_demand.model import INTERVALS, MODEL
from platform_assets.domains.esios_demand.months import start_of
from platform_assets.domains.esios_demand.schemas import FEATURES, FORECASTS, LEVEL
from platform_assets.engine.query_engine import as_frame

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import pyarrow as pa

    from platform_assets.base.frames import Expression, Frame
    from platform_assets.domains.esios_demand.issued_forecasts import IssuedForecasts
    from platform_assets.lake.delta_tables import TableStore
    from platform_assets.serving.current_champions import CurrentChampions
    from platform_assets.serving.live_models import LiveModel

RATE = 0.6
"""Learning rate of the factor that adapts the intervals to the coverage."""
NARROWEST, WIDEST = 0.4, 3.0
"""Bounds of the factor."""
BEGINNING = date(1970, 1, 1)
"""A date that is earlier than all forecasts."""
FEATURE_NAMES = [column.name for column in FEATURES]


@dataclass(frozen=True)
class Issue:
    """Result of an attempt to issue a forecast.

    Attributes
    ----------
    day
        The local day after the newest harvest.
    hours
        Number of hours that were added; 0 if the day has a forecast already.
    reason
        Why the day has no forecast; empty if it has one.
    live
        Model version that made the forecast; None if nothing was added.
    factor
        Factor of the intervals.
    incomplete
        Features that are missing in some hours of the day. The model fills them with their means.
    """

    day: date
    hours: int = 0
    reason: str = ""
    live: LiveModel | None = None
    factor: float = 1.0
    incomplete: tuple[str, ...] = ()


def issue(
    demand_features: Expression,
    inputs: Mapping[str, int],
    champions: CurrentChampions,
    issued: IssuedForecasts,
    now: datetime,
) -> Issue:
    """Issue the forecast of the day after the newest harvest, unless that day has a forecast or has already begun.

    Parameters
    ----------
    demand_features
        One row per hour, with the columns of `schemas.DEMAND_FEATURES`.
    inputs
        Version of each table that these rows were read from, by name of the table. Stored with the forecast.
    champions
        Loads the champion.
    issued
        Store of the issued forecasts.
    now
        Current time, with time zone.

    Raises
    ------
    TableError
        Too many of the hours before the cut-off are missing.
    ArtefactError
        The champion cannot be loaded.
    DatabaseError
        The database does not respond. Nothing was issued.
    """
    rows = next_day(demand_features)
    day: date = rows["local_day"].iloc[0].date()
    if issued.of_day(day):
        return Issue(day)
    if start_of(day) <= now:
        reason = f"the stored hours are too old to forecast a future day: {day} has already begun"
        return Issue(day, reason=f"{reason}; run the job load_esios_demand")
    try:
        live = champions.load(MODEL.name)
    except NoChampion as error:
        return Issue(day, reason=str(error))
    missing = int(rows[LEVEL.name].isna().sum())
    if missing:
        raise TableError(
            f"{LEVEL.name} cannot be computed for {day}, because too many of the 24 hours before 10:00 on "
            f"{day - timedelta(days=1)} are missing; run the job load_esios_demand, and see its check "
            "every_hour_is_present"
        )
    factor = interval_factor(missed_shares(issued.after(BEGINNING).to_pandas(), demand_features))
    added = issued.add(forecast_rows(rows, live, factor, now), inputs)
    incomplete = tuple(name for name in FEATURE_NAMES if rows[name].isna().any())
    # Nothing is added if another run issued the forecast in the meantime.
    return Issue(day, added, live=live, factor=factor, incomplete=incomplete) if added else Issue(day)


def adopt_lost(issued: IssuedForecasts, tables: TableStore) -> None:
    """Copy forecasts from the lake to a database that lacks them after a restore from an older backup.

    Without them, a day could be forecast again, perhaps by another model version.

    Raises
    ------
    TableError, DatabaseError
        The lake or the database cannot be read.
    """
    in_database = issued.last_day() or BEGINNING
    if tables.last_batch(FORECASTS.name) > in_database.toordinal():
        lake = tables.scan(FORECASTS.name)
        issued.add(lake.filter(lake.local_day > in_database).to_pyarrow().to_pylist(), {})


def batch_number(forecasts: pa.Table) -> int:
    """Return the batch number of forecasts: `date.toordinal` of their newest day; 0 if there are no forecasts."""
    import pyarrow.compute as pc

    newest: date | None = pc.max(forecasts["local_day"]).as_py()
    return newest.toordinal() if newest else 0


def next_day(demand_features: Expression) -> Frame:
    """Return the rows of the newest local day, ordered by time."""
    newest = demand_features.filter(demand_features.local_day == demand_features.local_day.max())
    return as_frame(newest.order_by("datetime_utc"))


def forecast_rows(rows: Frame, live: LiveModel, factor: float, now: datetime) -> list[dict[str, Any]]:
    """Return the forecasts of the given hours, with the columns of `schemas.FORECASTS`.

    Parameters
    ----------
    rows
        Rows of `schemas.DEMAND_FEATURES`.
    live
        The model version that makes the forecast.
    factor
        Factor of the intervals.
    now
        Time of the forecast, with time zone.
    """
    import pandas as pd

    found = live.predict(rows)
    value = found["value"]
    frame = pd.DataFrame(
        {
            "datetime_utc": rows["datetime_utc"],
            "local_day": rows["local_day"].dt.date,
            "model_version": live.version,
            "approval_id": live.approval_id,
            "issued_at": now.astimezone(UTC).replace(tzinfo=None),
            "demand_mw": value,
            "lower_mw": value - factor * (value - found["lower"]),
            "upper_mw": value + factor * (found["upper"] - value),
            "interval_factor": factor,
            "naive_d7_mw": rows["lag_7d_mw"],
            "naive_d1_mw": rows["naive_d1_mw"],
        }
    )
    plain = frame.astype(object).where(frame.notna(), None)
    return [dict(zip(plain.columns, row, strict=True)) for row in plain.itertuples(index=False)]


def missed_shares(issued: Frame, demand_features: Expression) -> list[float]:
    """Return the share of the hours outside their interval, for each day whose demand is known, in order of the days.

    Parameters
    ----------
    issued
        Rows of `schemas.FORECASTS`.
    demand_features
        Rows of `schemas.DEMAND_FEATURES`, which contain the demand.
    """
    truth = as_frame(demand_features.select("datetime_utc", truth_mw="demand_mw"))
    both = issued.merge(truth, on="datetime_utc")
    both["missed"] = ~both["truth_mw"].between(both["lower_mw"], both["upper_mw"])
    both["known"] = both["truth_mw"].notna()
    days = both.groupby("local_day").agg(missed=("missed", "mean"), known=("known", "all"))
    shares: list[float] = days.loc[days["known"], "missed"].tolist()
    return shares


def interval_factor(missed: Iterable[float]) -> float:
    """Return the factor of the next interval.

    Parameters
    ----------
    missed
        Share of the hours outside the interval, for each earlier day.
    """
    factor = 1.0
    for share in missed:
        factor *= math.exp(RATE * (share - (1 - INTERVALS.level)))
        factor = min(max(factor, NARROWEST), WIDEST)
    return factor
