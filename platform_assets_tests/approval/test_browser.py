"""The approval pages, opened in a real browser and served by a real server."""

from __future__ import annotations

from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

import pytest
from pydantic import SecretStr

from platform_assets.app import application
from platform_assets.services import Services
from platform_assets.settings import Settings
from platform_assets_tests.approval.evidence_proposals import digest, evidence, proposal
from platform_assets_tests.conftest import started_browser
from platform_assets_tests.openid_provider import CLIENT, SECRET, openid_provider
from platform_assets_tests.postgres import wait_until
from platform_assets_tests.service import keys_of, listening, served

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from fastapi import FastAPI
    from playwright.sync_api import Browser, Page

    from platform_assets_tests.service import People

PHONE, DESK = {"width": 360, "height": 740}, {"width": 1200, "height": 900}
PATIENCE_MS = 120_000
# Minimum contrast ratio of text (WCAG 2.2, criterion 1.4.3).
CONTRAST = 4.5
FAINT_TEXTS = """
(enough) => {
  const channels = (css) => css.match(/[\\d.]+/g).map(Number);
  const luminance = ([r, g, b]) => [r, g, b]
    .map((c) => c / 255).map((c) => c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const background = (element) => {
    for (let e = element; e; e = e.parentElement) {
      const found = channels(getComputedStyle(e).backgroundColor);
      if (found.length < 4 || found[3] > 0) return found;
    }
    return [255, 255, 255];
  };
  const faint = [];
  for (const element of document.querySelectorAll('body *')) {
    if (element.closest('svg')) continue;
    if (![...element.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim())) continue;
    const [a, b] = [channels(getComputedStyle(element).color), background(element)].map(luminance);
    const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (contrast < enough) faint.push(`${contrast.toFixed(2)}: ${element.textContent.trim()}`);
  }
  return faint;
}
"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with started_browser() as browser:
        yield browser


@contextmanager
def page_of(browser: Browser, width: dict[str, int], scheme: str = "light") -> Iterator[Page]:
    context = browser.new_context(viewport=width, color_scheme=scheme)  # type: ignore[arg-type]
    page = context.new_page()
    page.set_default_timeout(PATIENCE_MS)
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    yield page
    context.close()
    assert not [text for text in complaints if "Content Security Policy" in text]


def focused(page: Page) -> str:
    """Return the id of the focused element, or its text if it has no id."""
    told = page.evaluate("() => document.activeElement.id || document.activeElement.textContent.trim()")
    return str(told)


def tab_to(page: Page, wanted: str) -> None:
    """Press Tab until the element with this id or text has the focus; check that its focus outline is visible."""
    for _ in range(80):
        page.keyboard.press("Tab")
        if focused(page) == wanted:
            outline = page.evaluate("() => getComputedStyle(document.activeElement).outlineStyle")
            assert outline == "solid"
            return
    pytest.fail(f"{wanted} cannot be reached by keyboard")


@pytest.fixture
def challenger(services: Services) -> int:
    """A request for a version that failed the gate. The version was compared with a champion."""
    champion = proposal(1)
    services.ledger.open_request(champion)
    changes = {"model": champion.model, "evidence": evidence(passed=False), "champion": (1, digest(1))}
    return services.ledger.open_request(proposal(2, **changes)).id


@pytest.mark.requirement("PRO-4")
def test_a_person_can_decide_using_only_the_keyboard(
    browser: Browser, app: FastAPI, services: Services, people: People, pending: int
) -> None:
    with served(app) as address, page_of(browser, DESK) as page:
        page.goto(f"{address}/approvals/{pending}")
        assert focused(page) == "key"
        page.keyboard.type(people.anna)
        page.keyboard.press("Enter")
        page.wait_for_url(f"**/approvals/{pending}")

        page.keyboard.press("Tab")
        assert focused(page) == "Skip to the content"
        page.keyboard.press("Enter")
        tab_to(page, "Decide")
        page.keyboard.press("Enter")
        tab_to(page, "decision-approve")
        page.keyboard.press("ArrowDown")
        assert focused(page) == "decision-reject"
        tab_to(page, "Record my decision")
        page.keyboard.press("Enter")

        # A screen reader announces the error at once, and the error links to the field.
        page.get_by_role("alert").wait_for()
        assert page.title().startswith("Error: ")
        assert focused(page).startswith("Your decision was not recorded")
        page.keyboard.press("Tab")
        assert focused(page) == "Give a reason."
        page.keyboard.press("Enter")
        wait_until(lambda: focused(page) == "reason", "the link led to the field")
        assert page.locator("#decision-reject").is_checked()
        page.keyboard.press("Shift+Tab")
        page.keyboard.press("ArrowUp")
        assert focused(page) == "decision-approve"
        page.keyboard.press("Tab")
        page.keyboard.type("Recall is better.\nAnd <b>calibrated</b>.")
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")

        page.get_by_text("Approved by anna").first.wait_for()
        assert page.get_by_text("And <b>calibrated</b>.").first.is_visible()
        assert not page.get_by_role("button", name="Record my decision").count()
        event = services.ledger.history(pending)[-1]
        assert (event.kind, event.actor, event.reason) == (
            "approve",
            "anna",
            "Recall is better.\nAnd <b>calibrated</b>.",
        )
        page.get_by_role("button", name="Sign out").press("Enter")
        page.wait_for_url("**/sign-in")


@pytest.mark.requirement("PRO-4")
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [PHONE, DESK], ids=["phone", "desk"])
def test_pages_fit_the_screen_and_have_enough_contrast(  # noqa: PLR0917 - fixtures
    browser: Browser,
    app: FastAPI,
    people: People,
    challenger: int,
    tmp_path: Path,
    width: dict[str, int],
    scheme: str,
) -> None:
    def look(name: str) -> None:
        page.screenshot(path=tmp_path / f"{name}.png", full_page=True)
        assert page.evaluate("document.documentElement.scrollWidth") <= width["width"], name
        assert page.evaluate(FAINT_TEXTS, CONTRAST) == [], name
        if width is PHONE:
            # WCAG 2.2, 2.5.8: minimum size of touch targets. Links within sentences are exempt.
            for control in page.locator("button, input:not([type=hidden]), textarea, nav a, summary").all():
                box = control.bounding_box()
                assert box is None or (box["height"] >= 18 and box["width"] >= 18), f"{name}: {control}"

    with served(app) as address, page_of(browser, width, scheme) as page:
        page.goto(f"{address}/approvals")
        page.get_by_role("button", name="Sign in").click()
        look("sign_in")
        page.get_by_label("Your key").fill(people.anna)
        page.keyboard.press("Enter")
        page.get_by_role("heading", name="Approvals").wait_for()
        look("list")
        page.goto(f"{address}/approvals/{challenger}")
        look("request")
        figures = page.locator("details.wide .figure").all()
        assert figures
        for figure in figures:
            box = figure.bounding_box()
            assert box is not None, "the table of subgroups is collapsed"
            assert width is DESK or box["x"] + box["width"] <= width["width"], figure.inner_text()
        page.get_by_role("button", name="Record my decision").click()
        page.get_by_role("alert").wait_for()
        look("error")
        page.goto(f"{address}/docs")
        look("api")


@pytest.mark.requirement("PRO-4", "PRO-5")
def test_a_person_signs_in_at_the_provider_and_approves(browser: Browser, services: Services, pending: int) -> None:
    keys = keys_of(services)
    keys.enrol("anna@example.com", "anna", {"read", "approve"})
    with openid_provider() as provider, listening() as socket:
        address = f"http://localhost:{socket.getsockname()[1]}"
        changes = {
            "oidc_issuer": provider.issuer,
            "oidc_client_id": CLIENT,
            "oidc_client_secret": SecretStr(SECRET),
            "sign_in_key": SecretStr(keys.add("sign-in", "the service", {"identify"})),
            "service_url": address,
        }
        others = Services(Settings(**services.settings.model_dump() | changes))
        with closing(others), served(application(others), on=socket), page_of(browser, DESK) as page:
            page.goto(f"{address}/approvals/{pending}")
            page.get_by_role("link", name="Sign in with your organisation").click()
            # The browser is now on the page of the identity provider, which is a different site.
            page.get_by_role("link", name="Continue").click()
            page.wait_for_url(f"{address}/approvals/{pending}")
            page.get_by_text("Signed in as anna by OpenID Connect").wait_for()
            page.get_by_label("Approve").check()
            page.get_by_label("Reason").fill("Recall is better.")
            page.get_by_role("button", name="Record my decision").click()
            page.get_by_text("signed in by OpenID Connect as anna@example.com").first.wait_for()
            page.get_by_role("button", name="Sign out").click()
            page.wait_for_url("**/sign-in")
            page.goto(f"{address}/approvals")
            page.get_by_role("link", name="Sign in with your organisation").wait_for()
    event = services.ledger.history(pending)[-1]
    assert (event.kind, event.actor, event.authenticated, event.details["identity"]) == (
        *("approve", "anna", True, "anna@example.com"),
    )


def test_user_stays_signed_in_after_following_a_link_from_another_site(
    browser: Browser, app: FastAPI, people: People, pending: int
) -> None:
    with served(app) as address, page_of(browser, DESK) as page:
        page.goto(f"{address}/sign-in")
        page.get_by_label("Your key").fill(people.rita)
        page.keyboard.press("Enter")
        page.wait_for_url("**/approvals")
        path = f"{address}/approvals/{pending}"
        page.route(
            "http://mail.example/",
            lambda route: route.fulfill(content_type="text/html", body=f"<a href={path}>see</a>"),
        )
        page.goto("http://mail.example/")
        page.get_by_text("see").click()
        page.get_by_text("Awaiting a decision").wait_for()
        page.get_by_text("Signed in as rita").wait_for()
