"""Tests of the endpoint that returns issued forecasts."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING

import pytest
from pydantic import SecretStr

from platform_assets.domains.esios_demand.issued_forecasts import IssuedForecasts
from platform_assets.services import Services
from platform_assets.settings import Settings
from platform_assets_tests.domains.esios_demand.test_forecast_errors import issued
from platform_assets_tests.postgres import empty_databases, owner_of
from platform_assets_tests.service import api
from platform_assets_tests.test_app import problem

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fastapi import FastAPI

    from platform_assets.database.connections import Database
    from platform_assets_tests.service import People

PATH = "/forecasts/demand"


@pytest.fixture(scope="module")
def services(postgres_server: Database, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    """Services with stored forecasts for three days, shared by all tests in the module."""
    with empty_databases(postgres_server) as url:
        home, owner = tmp_path_factory.mktemp("home"), SecretStr(owner_of(url))
        services = Services(
            Settings(home=home, database_url=SecretStr(url), migration_database_url=owner, rate_limit="off")
        )
        IssuedForecasts(lambda: services.database).add(
            issued(date(2017, 3, 25), date(2017, 3, 26), date(2017, 10, 29)), {}
        )
        yield services
        services.close()


@pytest.mark.requirement("ESI-7", "ESI-5")
@pytest.mark.parametrize(
    ("day", "hours", "first", "last"),
    [
        ("2017-03-25", 24, "2017-03-24T23:00:00Z", "2017-03-25T22:00:00Z"),
        ("2017-03-26", 23, "2017-03-25T23:00:00Z", "2017-03-26T21:00:00Z"),
        ("2017-10-29", 25, "2017-10-28T22:00:00Z", "2017-10-29T22:00:00Z"),
    ],
)
def test_a_response_has_every_hour_of_the_local_day(
    app: FastAPI, people: People, day: str, hours: int, first: str, last: str
) -> None:
    with api(app, people.rita) as client:
        answer = client.get(PATH, params={"date": day})
    assert answer.status_code == 200
    body = answer.json()
    assert {name: body[name] for name in body if name != "hours"} == {
        "date": day,
        "model_version": "3",
        "approval_id": 7,
        "issued_at": "2017-03-01T00:00:00Z",
    }
    assert len(body["hours"]) == hours
    assert [body["hours"][place]["datetime_utc"] for place in (0, -1)] == [first, last]
    stored = issued(date.fromisoformat(day))[0]
    assert body["hours"][0] == {
        "datetime_utc": first,
        **{name: stored[name] for name in ("demand_mw", "lower_mw", "upper_mw")},
    }


@pytest.mark.requirement("ESI-7")
def test_a_day_without_a_forecast_returns_404(app: FastAPI, people: People) -> None:
    with api(app, people.rita) as client:
        answer = client.get(PATH, params={"date": "2018-01-15"})
    assert answer.status_code == 404
    assert problem(answer)["detail"].startswith(
        "There is no forecast for 2018-01-15; the newest forecast is for 2017-10-29."
    )


@pytest.mark.requirement("ESI-7")
@pytest.mark.parametrize("day", ["2018-02-30", "2018-1-5", "15.01.2018", "0", "1515974400", "", "2018-01-15T00:00:00"])
def test_text_that_is_not_a_date_is_refused(app: FastAPI, people: People, day: str) -> None:
    with api(app, people.rita) as client:
        answer = client.get(PATH, params={"date": day})
    assert answer.status_code == 422
    assert [error["field"] for error in problem(answer)["errors"]] == ["date"]
