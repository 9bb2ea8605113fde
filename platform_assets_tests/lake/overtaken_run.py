"""A process that materialises the shop's totals. After it has read the sales, it waits for a line on standard input."""

import sys
from pathlib import Path

import dagster as dg
from pydantic import SecretStr

from platform_assets.base.frames import Expression
from platform_assets.definitions import resources
from platform_assets.lake.assets import table_asset
from platform_assets.services import Services
from platform_assets.settings import Settings
from platform_assets_tests.lake.shop import INDEPENDENT, OWNERS, sales


def main(home: str, database_url: str) -> None:
    """Print `read` after reading the sales; at the end, print the error, or `published`."""

    @table_asset(INDEPENDENT, owners=OWNERS)
    def independent(sales: Expression) -> Expression:
        """Sum of the prices per item."""
        _say("read")
        sys.stdin.readline()
        return sales.group_by("item").agg(total_eur=sales.price_eur.sum())

    services = Services(Settings(home=Path(home), database_url=SecretStr(database_url)))
    given = {**resources(lambda: services), "delivery": None}
    result = dg.materialize([sales, independent], selection=[independent], resources=given, raise_on_error=False)
    failures = [event.step_failure_data.error for event in result.all_events if event.is_step_failure]
    _say(str(failures[0]).splitlines()[0] if failures else "published")
    services.close()


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
