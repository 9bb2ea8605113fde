"""The table `demand_forecast_esios` of an SQL database, for other programs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from platform_assets.domains.esios_demand.schemas import DEMAND_FORECAST_ESIOS
from platform_assets.lake.sql_loader import CHUNK_ROWS, Loaded, SqlLoader

if TYPE_CHECKING:
    from collections.abc import Callable

    from platform_assets.base.frames import Expression
    from platform_assets.engine.query_engine import Engine
    from platform_assets.lake.sql_target import SqlTarget


def load(
    forecast: Expression, engine: Engine, target: SqlTarget, report: Callable[[str], None], *, demo: bool
) -> Loaded:
    """Load all hours of the forecast. Hours that the table already has with the same values are not written again.

    Parameters
    ----------
    forecast
        The table `demand_forecast`.
    engine
        The query engine.
    target
        The database. In a database other than the platform's own, the table is in the default schema of the user.
    report
        Callback that receives a progress message after each chunk.
    demo
        Whether the forecast is sample data.

    Raises
    ------
    SqlTargetError
        See `SqlLoader.load`. The table is unchanged.
    """
    domain, table = DEMAND_FORECAST_ESIOS.name.split("/")
    loader = SqlLoader(target, table, DEMAND_FORECAST_ESIOS.key, domain if target.is_own else None)
    # Stage the rows first. Otherwise the load would read the query result slowly, and thereby block all other queries
    # of the engine.
    with engine.stage(forecast) as staged:
        return loader.load(staged.read(CHUNK_ROWS), report, demo=demo)
