"""Take the screenshots in `docs/images` from a running platform: `make pictures`.

Before that, prepare a new home, so that every picture shows some content:

1. Run `make run`, then `platform-assets demo story credit_risk_model`.
2. Run `make up`. Its schedules and sensors do not change what the pictures show.
3. Run `platform-assets keys add anna-laptop --owner anna --scope read --scope approve`, and put the key in
   `PLATFORM_API_KEY`.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from platform_assets.settings import Settings, load_settings
from platform_assets_tests.conftest import started_browser

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page, ViewportSize

IMAGES = Path(__file__).parents[1] / "docs" / "images"
DAGSTER_SIZE: ViewportSize = {"width": 1280, "height": 640}
APPROVALS_SIZE: ViewportSize = {"width": 1000, "height": 960}
MODEL = "credit_risk_model"
REASON = "ROC AUC is stable on twice as many loans, and the calibration error is within its limit."
COLOURS = 256
"""Number of colours in the palette of the screenshots. With a palette, the files are half as large."""


def take_dagster(page: Page, address: str) -> None:
    """Take pictures of the credit risk asset graph and of the model's checks."""
    page.goto(f"{address}/locations/platform_assets/asset-groups/credit_risk")
    page.get_by_text("client_features").first.wait_for()
    page.get_by_text("Materialized").nth(3).wait_for()
    _take(page, "asset_graph.png")

    page.goto(f"{address}/assets/credit_risk/{MODEL}?view=checks&checkDetail=roc_auc_is_at_least_0_65")
    page.get_by_text(re.compile("ROC AUC is")).first.wait_for()
    _take(page, "model_asset.png")


def take_approvals(page: Page, address: str, key: str) -> None:
    """Take pictures of the list of approval requests, of the model's newest request, and of the decision form."""
    page.goto(f"{address}/sign-in?next=/approvals")
    page.get_by_label("Key").fill(key)
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("heading", name="Approvals").wait_for()
    _take(page, "approval_list.png")

    page.get_by_role("link", name=re.compile(f"^{MODEL} version")).first.click()
    page.get_by_role("heading", name=re.compile(f"^{MODEL} version")).wait_for()
    _take(page, "approval_page.png")

    page.get_by_label("Approve", exact=True).check()
    page.get_by_label("Reason").fill(REASON)
    _take(page.locator("section", has=page.get_by_label("Reason")), "approval_form.png")


def _take(shown: Page | Locator, name: str) -> None:
    """Take a picture and reduce its colours."""
    picture = IMAGES / name
    shown.screenshot(path=picture)
    Image.open(picture).convert("RGB").quantize(COLOURS, Image.Quantize.MAXCOVERAGE).save(picture, optimize=True)


def take_all(settings: Settings) -> None:
    """Take all pictures from the servers on the configured ports."""
    with started_browser() as browser:
        take_dagster(browser.new_page(viewport=DAGSTER_SIZE), f"http://127.0.0.1:{settings.dagster_port}")
        address = f"http://127.0.0.1:{settings.service_port}"
        take_approvals(browser.new_page(viewport=APPROVALS_SIZE), address, settings.api_key.get_secret_value())


if __name__ == "__main__":
    take_all(load_settings())
