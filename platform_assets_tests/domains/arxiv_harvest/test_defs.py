"""The assets, checks and schedule of the harvest in Dagster."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any

import dagster as dg
import pytest
from pydantic import SecretStr

from platform_assets.definitions import resources
from platform_assets.domains.arxiv_harvest import defs, demo
from platform_assets.domains.arxiv_harvest.settings import ArxivSettings
from platform_assets.landing.demo_server import status
from platform_assets.services import Services
from platform_assets.settings import Settings
from platform_assets_tests.instances import empty_instance

if TYPE_CHECKING:
    from pathlib import Path

SEARCHES = 4
ALL = [defs.queries, defs.papers, defs.every_query_has_its_results]


def harvested(services: Services, *assets: Any) -> tuple[dg.ExecuteInProcessResult, dict[str, Any]]:
    """Materialise assets. Return the result of the run, and the metadata of all assets by name."""
    with empty_instance() as instance:
        given = resources(lambda: services)
        result = dg.materialize(list(assets), resources=given, instance=instance, raise_on_error=False)
        events = [event for event in result.all_events if event.is_step_materialization]
        return result, {name: value.value for event in events for name, value in event.materialization.metadata.items()}


@pytest.mark.requirement("ARX-5")
def test_a_harvest_publishes_counts_and_plots_and_passes_its_checks(database_url: str, tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, database_url=SecretStr(database_url))
    with closing(Services(settings, (ArxivSettings(),))) as services:
        result, metadata = harvested(services, *ALL)
        assert result.success
        checks = {one.check_name: one.passed for one in result.get_asset_check_evaluations()}
        assert checks["every_saved_search_was_answered"]
        assert checks["every_query_has_its_results"]
        assert set(checks.values()) == {True}
        assert (metadata["searches"], metadata["failed_searches"], metadata["server"]) == (SEARCHES, 0, "demo")
        table = services.tables.read("arxiv_harvest/papers")
        assert len(table) == metadata["new_papers"] > 100
        assert metadata["sample_papers"] == len(table)
        assert table["arxiv_id"].is_unique
        assert metadata["papers_per_search"].startswith("![Papers per saved search](data:image/png;base64,")
        assert metadata["papers_per_month"].startswith("![Papers per month](data:image/png;base64,")
        _, again = harvested(services, defs.queries)
        assert (again["new_results"], again["new_papers"], again["dagster/row_count"]) == (0, 0, 2 * SEARCHES)


@pytest.mark.requirement("ARX-2", "ARX-5")
def test_the_check_of_a_harvest_fails_if_all_searches_fail(database_url: str, tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, database_url=SecretStr(database_url))
    with demo.server() as server:
        server.constant_fault = status(404)
        arxiv = ArxivSettings(arxiv_base_url=server.url, arxiv_interval_seconds=0)
        with closing(Services(settings, (arxiv,))) as services:
            result, metadata = harvested(services, defs.queries)
    assert result.success
    [check] = result.get_asset_check_evaluations()
    assert (check.passed, check.severity) == (False, dg.AssetCheckSeverity.ERROR)
    assert metadata["failed_searches"] == SEARCHES
    assert len(metadata["failures"]) == SEARCHES
    assert all("arXiv returned HTTP 404" in reason for reason in metadata["failures"].values())


@pytest.mark.requirement("ARX-5")
def test_a_missing_contact_setting_fails_the_step_with_a_clear_error(database_url: str, tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, database_url=SecretStr(database_url), sources="live")
    with closing(Services(settings, (ArxivSettings(),))) as services:
        result, _ = harvested(services, defs.queries)
    [failed] = [event for event in result.all_events if event.is_step_failure]
    assert "PLATFORM_ARXIV_CONTACT is not set" in str(failed.step_failure_data.error)


def test_the_schedule_runs_the_job_every_day() -> None:
    assert defs.harvest_arxiv_daily.cron_schedule == "0 6 * * *"
    assert defs.harvest_arxiv_daily.job_name == defs.harvest_arxiv.name == "harvest_arxiv"
