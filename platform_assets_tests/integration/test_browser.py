"""What a person sees in Dagster's UI, and that a click materialises."""

from __future__ import annotations

import re
import shutil
from typing import TYPE_CHECKING

import pytest

from platform_assets.demo.loans import generate
from platform_assets.orchestration.storage import PROJECT
from platform_assets_tests.command_line import platform_assets
from platform_assets_tests.integration.test_commands import DAGSTER, Project, asked, processes_of_environment, served
from platform_assets_tests.postgres import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from playwright.sync_api import Browser, Page

ROWS = 100
NEGATIVE = "-4321.5"
PATIENCE_MS = 60_000
RUNS = "{ runsOrError { ... on Runs { results { status assetSelection { path } } } } }"


@pytest.fixture
def project(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A project whose assets were materialised once, from loans of which one is negative."""
    source = generate(tmp_path / "loans.csv", ROWS)
    lines = source.read_text().splitlines()
    column = lines[0].split(",").index("loan_amount")
    fields = lines[1].split(",")
    fields[column] = NEGATIVE
    source.write_text("\n".join([lines[0], ",".join(fields), *lines[2:]]) + "\n")
    monkeypatch.setenv("PLATFORM_DATABASE_URL", database_url)
    monkeypatch.setenv("PLATFORM_CREDIT_LOANS_URI", str(source))
    root = tmp_path / "root"
    root.mkdir()
    for name in ("pyproject.toml", "dagster.yaml", "workspace.yaml"):
        shutil.copy(PROJECT / name, root)
    (root / "platform_assets").symlink_to(PROJECT / "platform_assets")
    project = Project(root, tmp_path / "home")
    done = platform_assets("run", PLATFORM_HOME=project.home, PLATFORM_MAX_BAD_ROWS=1)
    assert done.code == 0, done.printed
    return project


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    page = browser.new_page(viewport={"width": 1400, "height": 1400})
    page.set_default_timeout(PATIENCE_MS)
    yield page
    page.close()


def sees(page: Page, *texts: str | re.Pattern[str]) -> None:
    """Wait until each text is visible."""
    for text in texts:
        page.get_by_text(text).locator("visible=true").first.wait_for()


@pytest.mark.slow
@pytest.mark.requirement("PLT-1", "PLT-5")
def test_a_person_sees_assets_and_checks_and_materialises_with_a_click(
    page: Page, project: Project, tmp_path: Path
) -> None:
    with served(project, DAGSTER, "dev") as graphql:
        address = graphql.removesuffix("/graphql")

        page.goto(f"{address}/asset-groups")
        sees(page, "loans", "loan_features", "client_features", "Delta Lake", "Postgres")
        page.screenshot(path=tmp_path / "graph.png")

        page.goto(f"{address}/assets/credit_risk/loans")
        sees(page, "One row per loan, as the source delivers them", "credit-risk", "Row count")
        sees(page, re.compile(rf"^{ROWS - 1}$"), "Yearly income of the client. Unit: currency units per year.")
        page.screenshot(path=tmp_path / "loans.png")

        page.goto(f"{address}/assets/credit_risk/loans?view=checks&checkDetail=loan_amount_is_positive")
        sees(page, "non-blocking", f"loan_amount_is_positive does not hold: 1 of {ROWS} rows break it")
        page.get_by_text("[Show JSON]").click()
        sees(page, re.compile(rf'"loan_amount": {NEGATIVE},\s+"source_line": 2'))
        page.screenshot(path=tmp_path / "checks.png")

        page.goto(f"{address}/assets/credit_risk/client_features")
        page.get_by_role("button", name="Materialize").first.click()
        # The page learns of the success seconds later than whoever asks the server.
        wait_until(lambda: len(runs(graphql)) > 1 and runs(graphql)[0][0] in {"SUCCESS", "FAILURE"}, "the run ended")
        assert runs(graphql)[0] == ("SUCCESS", ["credit_risk/client_features"])
        page.goto(f"{address}/runs")
        sees(page, "client_features", "Success")
        page.screenshot(path=tmp_path / "runs.png")
    wait_until(lambda: not processes_of_environment(project.home), "nothing was left")


def runs(graphql: str) -> list[tuple[str, list[str]]]:
    """Status and assets of each run, the newest first."""
    found = asked(graphql, RUNS)["runsOrError"]["results"]
    return [(run["status"], ["/".join(key["path"]) for key in run["assetSelection"] or ()]) for run in found]
