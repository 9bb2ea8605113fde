"""Take the screenshots in `docs/images` from a running platform: `make pictures`.

Before that, prepare a new home, so that every picture shows some content:

1. Run `make run`, then `make up`, and `platform-assets keys add anna-laptop --owner anna --scope read --scope approve`.
   Put the key in `PLATFORM_API_KEY`.
2. Approve version 1 of the credit risk model, and wait until it is promoted.
3. Train version 2 with `PLATFORM_DEMO_ROWS=21000 .venv/bin/dg launch --job train_credit_risk_model`, and reject it.
4. Train version 3 with `PLATFORM_DEMO_ROWS=30000`.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from platform_assets.settings import Settings, load_settings
from platform_assets_tests.conftest import started_browser

if TYPE_CHECKING:
    from playwright.sync_api import Page, ViewportSize

IMAGES = Path(__file__).parents[1] / "docs" / "images"
DAGSTER_SIZE: ViewportSize = {"width": 1280, "height": 640}
APPROVALS_SIZE: ViewportSize = {"width": 1000, "height": 960}
MODEL = "credit_risk_model"
REASON = "ROC AUC holds on ten thousand more loans, and the calibration error stays within its bound."
COLOURS = 256
"""Size of the palette of the pictures. A palette halves the size of the files."""


def take_dagster(page: Page, address: str) -> None:
    """Take pictures of the credit risk asset graph, and of the checks of its model."""
    page.goto(f"{address}/locations/platform_assets/asset-groups/credit_risk")
    page.get_by_text("client_features").first.wait_for()
    page.get_by_text("Materialized").nth(3).wait_for()
    page.screenshot(path=IMAGES / "asset_graph.png")

    page.goto(f"{address}/assets/credit_risk/{MODEL}?view=checks&checkDetail=roc_auc_is_at_least_0_65")
    page.get_by_text(re.compile("ROC AUC is")).first.wait_for()
    page.screenshot(path=IMAGES / "model_asset.png")


def take_approvals(page: Page, address: str, key: str) -> None:
    """Take pictures of the list of approval requests, of the newest request of the model, and of its form."""
    page.goto(f"{address}/sign-in?next=/approvals")
    page.get_by_label("Key").fill(key)
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("heading", name="Approvals").wait_for()
    page.screenshot(path=IMAGES / "approval_list.png")

    page.get_by_role("link", name=re.compile(f"^{MODEL} version")).first.click()
    page.get_by_role("heading", name=re.compile(f"^{MODEL} version")).wait_for()
    page.screenshot(path=IMAGES / "approval_page.png")

    page.get_by_label("Approve", exact=True).check()
    page.get_by_label("Reason").fill(REASON)
    page.locator("section", has=page.get_by_label("Reason")).screenshot(path=IMAGES / "approval_form.png")


def take_all(settings: Settings) -> None:
    """Take all pictures from the servers on the configured ports, and reduce their colours."""
    with started_browser() as browser:
        take_dagster(browser.new_page(viewport=DAGSTER_SIZE), f"http://127.0.0.1:{settings.dagster_port}")
        address = f"http://127.0.0.1:{settings.service_port}"
        take_approvals(browser.new_page(viewport=APPROVALS_SIZE), address, settings.api_key.get_secret_value())
    for picture in IMAGES.glob("*.png"):
        Image.open(picture).convert("RGB").quantize(COLOURS, Image.Quantize.MAXCOVERAGE).save(picture, optimize=True)


if __name__ == "__main__":
    take_all(load_settings())
