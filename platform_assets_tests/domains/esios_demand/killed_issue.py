"""Kill the step that issues forecasts, before or after the database commits; the next run must store every hour.

`main` forks a child process for each run, so that the child can be killed. Run this module in a new process: in a
process whose libraries have already started threads, the children would lack those threads.
"""

from __future__ import annotations

import os
import signal
import sys
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
import psycopg
from pydantic import SecretStr

from platform_assets.definitions import resources
from platform_assets.domains.esios_demand import defs
from platform_assets.domains.esios_demand.features import demand_features
from platform_assets.domains.esios_demand.issued_forecasts import IssuedForecasts
from platform_assets.domains.esios_demand.months import today
from platform_assets.domains.esios_demand.schemas import DEMAND_FEATURES, FORECASTS
from platform_assets.services import Services
from platform_assets.settings import Settings
from platform_assets_tests.domains.esios_demand.series_rows import hours_of, morning_of, period, series
from platform_assets_tests.domains.esios_demand.steady import Steady
from platform_assets_tests.instances import empty_instance

if TYPE_CHECKING:
    from collections.abc import Callable

DAY = timedelta(days=1)
ADD = IssuedForecasts.add


def die(*_: object, **__: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def before_the_commit(issued: IssuedForecasts, rows: Any, inputs: Any) -> int:
    psycopg.Transaction.__exit__ = die  # type: ignore[assignment,method-assign]  # the process ends there
    return ADD(issued, rows, inputs)


def after_the_commit(issued: IssuedForecasts, rows: Any, inputs: Any) -> int:
    added = ADD(issued, rows, inputs)
    die()
    return added


def publish(services: Services, day: date) -> None:
    """Publish the features computed from the harvest of `day`."""
    with services.engine.stage(
        demand_features(series(period(day - 21 * DAY, day + 7 * DAY), morning_of(day)))
    ) as staged:
        services.tables.publish(DEMAND_FEATURES.name, staged)


def run(url: str, home: Path, day: date, add: Callable[..., int], version: int) -> None:
    """Materialise the forecasts with a champion whose version is `version`.

    Print whether every hour is stored, and which model versions the rows in PostgreSQL and in the lake have.
    """
    services = Services(Settings(home=home, database_url=SecretStr(url)))
    IssuedForecasts.add = add  # type: ignore[method-assign]  # a separate process
    if not services.tables.exists(DEMAND_FEATURES.name):
        publish(services, day)
    champion = dg.ResourceDefinition.hardcoded_resource(Steady(version))
    with empty_instance() as instance:
        dg.materialize(
            [defs.demand_forecast, defs.demand_features, defs.forecasts],
            selection=[defs.forecasts],
            resources=resources(lambda: services) | {"current_champions": champion},
            instance=instance,
        )
    expected = len(hours_of(day + DAY, day + DAY))
    stored = IssuedForecasts(lambda: services.database).of_day(day + DAY)
    lake = services.tables.read(FORECASTS.name)
    versions = [sorted({row["model_version"] for row in stored}), sorted(set(lake["model_version"]))]
    sys.stdout.write(f"{len(stored) == len(lake) == expected} {versions}\n")
    sys.stdout.flush()


def main(url: str, path: str) -> None:
    day = today(datetime.now(UTC))
    for version, add in enumerate((before_the_commit, after_the_commit, ADD, ADD), 1):
        process = os.fork()
        if process == 0:
            run(url, Path(path), day, add, version)
            os._exit(0)
        _, status = os.waitpid(process, 0)
        if os.WIFSIGNALED(status):
            sys.stdout.write(f"killed {add.__name__}\n")
            sys.stdout.flush()
