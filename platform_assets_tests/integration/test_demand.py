"""End-to-end test of demand forecasts: fetch sample values from a server, issue a forecast, calculate its errors."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import dagster as dg
import pytest
from pydantic import SecretStr

from platform_assets.app import application
from platform_assets.approval.requests import request_approval
from platform_assets.definitions import resources
from platform_assets.domains import traced_answers
from platform_assets.domains.esios_demand import defs, demo
from platform_assets.domains.esios_demand.issued_forecasts import IssuedForecasts
from platform_assets.domains.esios_demand.issuing import issue
from platform_assets.domains.esios_demand.model import MODEL
from platform_assets.domains.esios_demand.months import MADRID, months_around, today
from platform_assets.domains.esios_demand.schemas import DEMAND_FEATURES, DEMAND_FORECAST, FORECAST_ERRORS, FORECASTS
from platform_assets.domains.esios_demand.settings import EsiosSettings
from platform_assets.monitoring.real_performance import real_performance
from platform_assets.orchestration.in_process_runs import partition_tags
from platform_assets.services import Services
from platform_assets.settings import Settings
from platform_assets.training.proposal import proposal_of
from platform_assets_tests.approval.proposals import SOMEBODY
from platform_assets_tests.domains.esios_demand.series_rows import hours_of
from platform_assets_tests.instances import empty_instance
from platform_assets_tests.postgres import owner_of
from platform_assets_tests.service import api, keys_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import date
    from pathlib import Path

DAY = timedelta(days=1)
HARVEST = (defs.demand_forecast, defs.demand_features)
ISSUE = (defs.demand_features, defs.forecasts, defs.forecast_errors, defs.recent_forecasts_are_good)


class Team:
    """Runs the energy domain's assets on sample values from a fake server of the grid operator."""

    def __init__(self, series: demo.DemoSeries, services: Services) -> None:
        self.series, self.services = series, services

    def run(self, *assets: Any, days_back: int = 2) -> dg.ExecuteInProcessResult:
        """Materialise the given assets for the months that contain the last `days_back` days and the week ahead."""
        months = months_around(self.series.now(), days_back, demo.DAYS_AHEAD)
        with empty_instance() as instance:
            return dg.materialize(
                [*HARVEST, *ISSUE[1:]],
                selection=[*assets],
                resources=resources(lambda: self.services),
                instance=instance,
                tags=partition_tags(months[0].key, months[-1].key),
            )

    def promote(self) -> int:
        """Train the model with one candidate, approve and promote the version; return the approval request's number."""
        spec = replace(MODEL, candidates=MODEL.candidates[:1], explanations=(), resamples=20)
        ledger = self.services.ledger
        ledger.settle_policy(MODEL.name, MODEL.approval)
        request = request_approval(ledger, proposal_of(spec, self.services.trainer.train(spec, "user", lambda _: None)))
        assert request is not None
        assert request.passed
        ledger.decide(request.id, "approve", SOMEBODY, "better than the week before")
        self.services.promoter.promote(request.id)
        return request.id


@pytest.fixture
def team(tmp_path: Path, database_url: str) -> Iterator[Team]:
    series = demo.DemoSeries(quarter_hourly=False)
    with demo.server(series) as server:
        own = EsiosSettings(esios_base_url=server.url, esios_token=SecretStr(demo.TOKEN))
        settings = Settings(
            home=tmp_path,
            database_url=SecretStr(database_url),
            migration_database_url=SecretStr(owner_of(database_url)),
            lake_uri="memory://",
            rate_limit="off",
        )
        with closing(Services(settings, (own,), traced_answers)) as services:
            yield Team(series, services)


@pytest.mark.slow
@pytest.mark.requirement("ESI-7", "PRO-1", "PRO-2", "MON-4")
def test_a_forecast_is_issued_before_its_day_and_its_error_is_known_afterwards(team: Team) -> None:
    # Set the clock to 10:00 two days ago, so that the forecast is for yesterday, whose demand is known today.
    then = datetime.combine(today(datetime.now(UTC)) - 2 * DAY, datetime.min.time(), MADRID).replace(hour=10)
    day = then.date() + DAY
    hours = len(hours_of(day, day))
    team.series.now = lambda: then
    team.run(*HARVEST, days_back=70)
    services, issued = team.services, IssuedForecasts(lambda: team.services.database)
    features = services.tables.scan(DEMAND_FEATURES.name)
    made_from = services.tables.current(DEMAND_FEATURES.name)
    assert made_from is not None
    inputs = {DEMAND_FEATURES.name: made_from.version}
    champions = services.current_champions
    assert "has no champion" in issue(features, inputs, champions, issued, then.astimezone(UTC)).reason
    approval = team.promote()
    found = issue(features, inputs, champions, issued, then.astimezone(UTC))
    assert (found.day, found.hours, found.incomplete) == (day, hours, ())
    assert services.tables.current(FORECASTS.name) is None

    # The forecast is not in the lake yet, as if the run that issued it had been killed. The next run copies it there.
    team.series.now = lambda: datetime.now(UTC)
    team.run(*HARVEST)
    result = team.run(*ISSUE)
    assert {one.check_name for one in result.get_asset_check_evaluations() if not one.passed} == set()
    errors = services.tables.read(FORECAST_ERRORS.name)
    of_day = errors[errors["local_day"].dt.date == day]
    assert (len(of_day), set(of_day["approval_id"])) == (hours, {approval})
    truth = [demo.megawatts(at.replace(tzinfo=UTC)) for at in of_day["datetime_utc"].dt.to_pydatetime()]
    assert of_day["demand_mw"].tolist() == pytest.approx(truth)
    assert (of_day["error_mw"].abs() / of_day["demand_mw"]).mean() < 0.1
    performance = real_performance(MODEL, services.ledger, services.labels)
    assert performance is not None
    assert len(performance.found.labels) == len(errors)

    key = keys_of(services).add("trader", "trader", {"read"})
    with api(application(services), key) as client:
        answer = client.get("/forecasts/demand", params={"date": str(day)}).json()
    assert (answer["approval_id"], answer["model_version"], len(answer["hours"])) == (approval, "1", hours)
    assert answer["issued_at"] == f"{then.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
    assert [one["demand_mw"] for one in answer["hours"]] == of_day.sort_values("datetime_utc")["forecast_mw"].tolist()

    demand_trace(services, day, inputs, (approval, answer["hours"][0]["demand_mw"]))


def demand_trace(services: Services, day: date, inputs: dict[str, int], answered: tuple[int, float]) -> None:
    """Check the trace of the day's first forecast: answer, features, and the demand rows behind the features."""
    trace = services.tracer.trace(str(day), 1)
    [traced] = trace.answers
    assert (traced.model, traced.version) == (MODEL.name, 1)
    assert (traced.approval_id, traced.answer["demand_mw"]) == answered
    of_features, of_demand = traced.rows
    version = inputs[DEMAND_FEATURES.name]
    assert (traced.inputs, of_features.version, traced.missing) == (inputs, version, [])
    assert traced.features["lag_7d_mw"] == traced.answer["naive_d7_mw"]
    lags = {row.values["demand_forecast"] for row in of_demand.rows}
    assert {traced.features["lag_2d_mw"], traced.features["lag_7d_mw"], traced.features["lag_14d_mw"]} <= lags
    assert {DEMAND_FEATURES.name, DEMAND_FORECAST.name} <= {table.name for table in trace.tables}
    assert version in services.pinned_tables()[DEMAND_FEATURES.name]
