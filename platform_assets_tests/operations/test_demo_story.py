"""`demo story`: its preconditions and its results."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from pydantic import SecretStr

from platform_assets.approval.requests import State
from platform_assets.base.errors import PlatformError
from platform_assets.definitions import defs
from platform_assets.operations.demo_story import tell_story
from platform_assets.orchestration.in_process_runs import run_in_process
from platform_assets.orchestration.storage import dagster_instance
from platform_assets.services import Services
from platform_assets.settings import Settings, load_settings
from platform_assets_tests.approval.proposals import MODEL, SOMEBODY, proposal
from platform_assets_tests.command_line import platform_assets

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def services(database_url: str, tmp_path: Path) -> Iterator[Services]:
    with closing(Services(Settings(home=tmp_path / "home", database_url=SecretStr(database_url)))) as services:
        yield services


def refusal(services: Services) -> str:
    with pytest.raises(PlatformError) as error:
        tell_story(services, MODEL, SOMEBODY, lambda _: None)
    return str(error.value)


def test_demo_story_refuses_live_sources_and_platforms_that_are_not_new(services: Services) -> None:
    live = Services(services.settings.model_copy(update={"sources": "live"}))
    assert "works only with PLATFORM_ENV=development and PLATFORM_SOURCES=demo" in refusal(live)
    assert "has no pending request that passed its gate; run `platform-assets run` first" in refusal(services)
    request = services.ledger.open_request(proposal())
    services.ledger.decide(request.id, "approve", SOMEBODY, "better")
    services.ledger.promoted(request.id)
    assert "credit_risk_model has a champion already" in refusal(services)
    assert len(services.ledger.requests()) == 1


@pytest.mark.nightly
@pytest.mark.slow
@pytest.mark.requirement("OPS-4")
def test_a_new_platform_gets_a_champion_a_rejected_version_and_a_better_version(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLATFORM_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PLATFORM_DATABASE_URL", database_url)
    with dagster_instance() as instance:
        assert run_in_process(defs().resolve_job_def(f"train_{MODEL}"), instance).success
    done = platform_assets("demo", "story", MODEL)
    assert done.code == 0, done.printed
    with closing(Services(load_settings())) as services:
        requests = {request.version: request for request in services.ledger.requests(MODEL)}
        assert {version: request.state for version, request in requests.items()} == {
            1: State.PROMOTED,
            2: State.REJECTED,
            3: State.PENDING,
        }
        assert requests[3].passed
        difference = requests[3].evidence["difference"]["roc_auc"]
        assert difference["value"] > 0, difference
    again = platform_assets("demo", "story", MODEL)
    assert again.code == 1
    assert "has a champion already" in again.err
