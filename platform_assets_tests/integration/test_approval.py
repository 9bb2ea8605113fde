"""From a training to a champion, as people see it: real PostgreSQL, MLflow and browser, on demo data."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import dagster as dg
import pytest

from platform_assets import definitions
from platform_assets.core.ledger import State
from platform_assets.core.registry import CHAMPION
from platform_assets.domains.credit_risk.model import MODEL
from platform_assets.orchestration.promotion import REQUEST_TAG
from platform_assets.services import open_services
from platform_assets.serving.app import application
from platform_assets.settings import load_settings
from platform_assets_tests.command_line import Done, platform_assets
from platform_assets_tests.serving.conftest import served
from platform_assets_tests.serving.test_browser import DESK, page_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from mlflow import MlflowClient
    from playwright.sync_api import Browser, Page

    from platform_assets.core.ledger import Request

# With fewer, the gate fails by chance now and then.
FIRST, SECOND, THIRD = 20_000, 22_000, 24_000
KEY = dg.AssetKey(MODEL.key.split("/"))
CHECK = dg.AssetCheckKey(KEY, "registry_equals_ledger")


class Platform:
    """A platform of its own, and what Dagster does on it."""

    def __init__(self, instance: dg.DagsterInstance) -> None:
        self.services = open_services(load_settings())
        self.instance = instance
        self.definitions = definitions.defs()
        self.cursor: str | None = None

    def command(self, *arguments: str, **variables: str) -> Done:
        """What `platform-assets` says."""
        return platform_assets(*arguments, **variables)

    def train(self, rows: int) -> Request:
        """Train on that many rows; the request that came of it."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("PLATFORM_DEMO_ROWS", str(rows))
            result = self.run(f"train_{MODEL.name}")
        assert result.success
        return self.services.ledger.requests(MODEL.name)[0]

    def promote(self, number: int) -> dg.ExecuteInProcessResult:
        """Launch the promotion of a request, as anybody can."""
        return self.run("promote_model", run_config={"ops": {"load_request": {"config": {"request": number}}}})

    def follow_decisions(self) -> list[tuple[str, list[str]]]:
        """Do what the sensor asks for: of each run, the request and the ops that ran."""
        context = dg.build_sensor_context(
            instance=self.instance, cursor=self.cursor, resources={"ledger": self.services.ledger}
        )
        tick = self.definitions.get_repository_def().get_sensor_def("model_decided").evaluate_tick(context)
        self.cursor = tick.cursor
        ran = []
        for wanted in tick.run_requests or ():
            result = self.run("promote_model", run_config=wanted.run_config, tags=wanted.tags)
            assert result.success
            steps = [event.step_key for event in result.all_events if event.is_step_success and event.step_key]
            ran.append((wanted.tags[REQUEST_TAG], steps))
        return ran

    def registry_equals_ledger(self) -> bool:
        """What the check says."""
        job = self.definitions.resolve_implicit_global_asset_job_def()
        result = self.execute(job.get_subset(asset_selection=set(), asset_check_selection={CHECK}))
        [check] = result.get_asset_check_evaluations()
        return check.passed

    def champion(self) -> int | None:
        """The version to which MLflow's alias points."""
        aliases = self.mlflow().get_registered_model(MODEL.name).aliases
        return int(aliases[CHAMPION]) if CHAMPION in aliases else None

    def mlflow(self) -> MlflowClient:
        """MLflow itself, past the platform."""
        from mlflow import MlflowClient

        uri = self.services.mlflow_tracking_uri
        return MlflowClient(uri, uri)

    def run(self, job: str, **options: Any) -> dg.ExecuteInProcessResult:
        """Execute a job by its name."""
        return self.execute(self.definitions.resolve_job_def(job), **options)

    def execute(self, job: dg.JobDefinition, **options: Any) -> dg.ExecuteInProcessResult:
        """Execute a job, in a thread of its own: the browser's event loop holds this one, and Dagster needs one too."""

        def work() -> dg.ExecuteInProcessResult:
            return job.execute_in_process(instance=self.instance, raise_on_error=False, **options)

        with _services(), ThreadPoolExecutor(1) as thread:
            return thread.submit(work).result()


@contextmanager
def _services() -> Iterator[None]:
    """Of this process, as the environment says now."""
    definitions.services.cache_clear()
    try:
        yield
    finally:
        definitions.services().close()
        definitions.services.cache_clear()


@pytest.fixture
def platform(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Platform]:
    monkeypatch.setenv("PLATFORM_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PLATFORM_DATABASE_URL", database_url)
    # As in production: a name alone is not believed.
    monkeypatch.setenv("PLATFORM_APPROVALS_REQUIRE_IDENTITY", "on")
    # Its history is proven elsewhere; the decisions' is in the ledger.
    with dg.DagsterInstance.ephemeral() as instance:
        platform = Platform(instance)
        yield platform
        platform.services.close()


def sign_in(page: Page, address: str, key: str) -> None:
    page.goto(f"{address}/approvals")
    page.get_by_label("Your key").fill(key)
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("heading", name="Approvals").wait_for()


def decide(page: Page, request: Request, decision: str, reason: str) -> None:
    """Find a request in the list, read it, and decide."""
    page.get_by_role("link", name="Approvals").click()
    page.get_by_role("link", name=f"{request.model} version {request.version}", exact=True).click()
    page.get_by_label(decision, exact=True).check()
    page.get_by_label("Reason").fill(reason)
    page.get_by_role("button", name="Record my decision").click()
    page.get_by_text(reason).first.wait_for()


def failures(result: dg.ExecuteInProcessResult) -> Sequence[str]:
    events = [event for event in result.all_events if event.is_step_failure]
    return [str(event.step_failure_data.error and event.step_failure_data.error.message) for event in events]


@pytest.mark.slow
@pytest.mark.requirement("PRO-2", "PRO-3", "PRO-4", "PRO-5", "PRO-7")
def test_a_person_decides_on_the_page_and_the_champion_follows(platform: Platform, browser: Browser) -> None:
    key = platform.command("keys", "add", "anna-laptop", "--owner", "anna", "--scope", "approve").out.strip()
    first = platform.train(FIRST)
    assert (first.state, first.passed, first.champion) == (State.PENDING, True, None)

    [told] = failures(platform.promote(first.id))
    assert f"request {first.id} (credit_risk_model version 1) is not promoted: it is PENDING" in told
    assert f"a person must approve it: `platform-assets decide approve {first.id}`, or on the page" in told
    nameless = platform.command("decide", "approve", str(first.id), "--reason", "fine")
    assert (nameless.code, "with a key" in nameless.err) == (1, True)
    assert platform.follow_decisions() == []
    assert platform.champion() is None

    with served(application(platform.services)) as address, page_of(browser, DESK) as page:
        sign_in(page, address, key)
        decide(page, first, "Approve", "Finds the bad loans, and is calibrated.")
        assert platform.champion() is None
        assert platform.follow_decisions() == [(str(first.id), ["load_request", "manual_approval", "promote"])]
        assert platform.champion() == first.version
        assert platform.registry_equals_ledger()
        assert platform.follow_decisions() == []

        second = platform.train(SECOND)
        assert (second.state, second.champion) == (State.PENDING, (first.version, first.digest))
        decide(page, second, "Reject", "Not worth the change.")
        assert platform.follow_decisions() == [(str(second.id), ["load_request", "manual_approval", "reject"])]
        assert platform.champion() == first.version

        third = platform.train(THIRD)
        decide(page, third, "Approve", "Two thousand loans more.")
        platform.follow_decisions()
        assert platform.champion() == third.version
        page.reload()
        page.get_by_text("Promoted").first.wait_for()

    back = platform.command("rollback", MODEL.name, "--reason", "Too many refused.", PLATFORM_API_KEY=key)
    assert (back.code, back.out) == (0, f"credit_risk_model version {first.version} is the champion again\n")
    assert platform.champion() == first.version
    assert platform.registry_equals_ledger()

    states = {request.version: request.state for request in platform.services.ledger.requests(MODEL.name)}
    assert states == {1: State.PROMOTED, 2: State.REJECTED, 3: State.ROLLED_BACK}
    assert platform.command("audit").out.startswith("nothing was altered")

    platform.mlflow().set_registered_model_alias(MODEL.name, CHAMPION, str(third.version))
    assert not platform.registry_equals_ledger()
    assert platform.command("audit").code == 1
