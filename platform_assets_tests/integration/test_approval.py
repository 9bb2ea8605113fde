"""Models are trained on demo data and approved in a real browser, with real PostgreSQL and MLflow."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from platform_assets.app import application
from platform_assets.approval.requests import State
from platform_assets.domains.credit_risk.model import MODEL
from platform_assets.models.registry import CHAMPION
from platform_assets_tests.approval.test_browser import DESK, page_of
from platform_assets_tests.integration.platform import Platform, platform_of
from platform_assets_tests.postgres import owner_of
from platform_assets_tests.service import served

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import dagster as dg
    from playwright.sync_api import Browser, Page

    from platform_assets.approval.requests import Request

# Numbers of demo rows for the versions that are approved. With fewer rows, the gate sometimes fails by chance.
FIRST, THIRD = 20_000, 22_000
# Number of demo rows for the version that is rejected. The quality of this version does not matter.
SECOND = 4_000


@pytest.fixture
def platform(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Platform]:
    monkeypatch.setenv("PLATFORM_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PLATFORM_DATABASE_URL", database_url)
    monkeypatch.setenv("PLATFORM_MIGRATION_DATABASE_URL", owner_of(database_url))
    # Require an authenticated person for decisions, as in production.
    monkeypatch.setenv("PLATFORM_APPROVALS_REQUIRE_IDENTITY", "on")
    with platform_of(MODEL) as platform:
        yield platform


def train(platform: Platform, rows: int) -> Request:
    return platform.train(PLATFORM_DEMO_ROWS=str(rows))


def sign_in(page: Page, address: str, key: str) -> None:
    page.goto(f"{address}/approvals")
    page.get_by_label("Your key").fill(key)
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("heading", name="Approvals").wait_for()


def decide(page: Page, request: Request, decision: str, reason: str) -> None:
    """Open a request from the list, and record a decision about it."""
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
def test_approvals_on_the_page_change_the_champion_and_a_rejection_does_not(
    platform: Platform, browser: Browser
) -> None:
    key = platform.command("keys", "add", "anna-laptop", "--owner", "anna", "--scope", "approve").out.strip()
    first = train(platform, FIRST)
    assert (first.state, first.passed, first.champion) == (State.PENDING, True, None)

    [told] = failures(platform.promote(first.id))
    assert f"request {first.id} (credit_risk_model version 1) cannot be promoted: it is PENDING" in told
    assert f"a person must approve it with `platform-assets decide approve {first.id}` or on the approval page" in told
    nameless = platform.command("decide", "approve", str(first.id), "--reason", "fine")
    assert (nameless.code, "is not authenticated" in nameless.err) == (1, True)
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

        second = train(platform, SECOND)
        assert (second.state, second.champion) == (State.PENDING, (first.version, first.digest))
        decide(page, second, "Reject", "Not worth the change.")
        assert platform.follow_decisions() == [(str(second.id), ["load_request", "manual_approval", "reject"])]
        assert platform.champion() == first.version

        third = train(platform, THIRD)
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
