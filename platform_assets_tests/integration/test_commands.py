"""Dagster's commands and UI share one run history, which contains no secrets.

The commands and the UI run in the project's root, without DAGSTER_HOME.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import uuid
from contextlib import chdir, closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import requests
from starlette.responses import HTMLResponse

from platform_assets.database.embedded.server import APP, OWNER, ServerFolder
from platform_assets.database.opening import open_database
from platform_assets.domains.credit_risk.demo import generate
from platform_assets.orchestration.storage import PROJECT
from platform_assets_tests.command_line import OTHER_ROWS, listening_to_interrupts
from platform_assets_tests.conftest import started_browser
from platform_assets_tests.ports import reserve_port
from platform_assets_tests.postgres import copy_home, wait_until, wait_until_stopped
from platform_assets_tests.service import served as served_page
from platform_assets_tests.warm import command, script

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from playwright.sync_api import Browser, BrowserContext, Page

    from platform_assets_tests.warm import WarmParent

# These tests share a run history. pytest-xdist runs them in one worker (`--dist loadscope`).
pytestmark = pytest.mark.slow

ROWS = 5_000
# The demo data have 25 bad lines (four of them with a negative amount) and three duplicates. The tests add one line
# with a negative amount.
GOOD = ROWS - 25 - 3 - 1
NEGATIVE_LOANS = 4 + 1
NEGATIVE = "-4321.5"
PATIENCE_MS = 180_000
DAGSTER = str(Path(sys.executable).with_name("dagster"))
DG = str(Path(sys.executable).with_name("dg"))
# How often the commands of the fixture `project` materialised each asset.
MADE = {"credit_risk/loans": 1, "credit_risk/loan_features": 1, "credit_risk/client_features": 0}
SOURCE_PASSWORD = "hunter2-of-the-source"
WEBHOOK = "https://alerts.invalid/services/hunter3-of-the-webhook"
RUNS = "{ runsOrError { ... on Runs { results { runId status assetSelection { path } } } } }"
ERRORS = """{ runsOrError { ... on Runs { results {
    eventConnection { events { ... on ExecutionStepFailureEvent { error { message } } } }
} } } }"""

LIMITS = "{ instance { concurrencyLimits { concurrencyKey } } }"
ATTACK = """async address => {
    const mutation = name => `mutation { setConcurrencyLimit(concurrencyKey: "${name}", limit: 1) }`
    const graphql = name => `${address}/graphql?query=${encodeURIComponent(mutation(name))}`
    const ended = (target, ...events) =>
        new Promise(resolve => events.forEach(name => target.addEventListener(name, () => resolve(name))))
    const image = new Image()
    image.src = graphql("image")
    await ended(image, "load", "error")
    await fetch(graphql("fetch"), {method: "POST", mode: "no-cors", body: "text"}).catch(() => null)
    const socket = new WebSocket(`${address.replace("http", "ws")}/graphql`, "graphql-ws")
    return ended(socket, "open", "error")
}"""
"""Script of a page that sends mutations to Dagster, and opens a websocket. It returns the websocket's event."""


@dataclass(frozen=True)
class Project:
    """A copy of the project's root folder, with its own `PLATFORM_HOME`."""

    root: Path
    home: Path
    source: Path
    warm: WarmParent
    printed: list[str] = field(default_factory=list)

    @property
    def environment(self) -> dict[str, str]:
        return os.environ | {
            "PLATFORM_HOME": str(self.home),
            "PLATFORM_CREDIT_LOANS_URI": str(self.source),
            "PLATFORM_DEMO_ROWS": str(OTHER_ROWS),
            "PLATFORM_MAX_BAD_ROWS": "1",
            "PLATFORM_ALERT_WEBHOOK_URL": WEBHOOK,
        }

    def run(self, function: Callable[..., None], *arguments: str, **variables: str) -> int:
        """Run a command and return its exit code."""
        with (
            self.root.with_name("run.txt").open("w+") as printed,
            chdir(self.root),
            self.warm.start(
                function, *arguments, stdout=printed, stderr=printed, variables=self.environment | variables
            ) as process,
        ):
            code = process.wait()
            printed.seek(0)
            self.printed.append(printed.read())
        return code


@pytest.fixture(scope="module")
def project(migrated_home: Path, warm: WarmParent, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A project in which three commands have run.

    The first command failed. The other two succeeded, although the source contains bad rows.
    """
    folder = tmp_path_factory.mktemp("commands")
    root = folder / "root"
    root.mkdir()
    for name in ("pyproject.toml", "dagster.yaml", "workspace.yaml"):
        shutil.copy(PROJECT / name, root)
    (root / "platform_assets").symlink_to(PROJECT / "platform_assets")
    copy_home(migrated_home, folder / "home")
    project = Project(root, folder / "home", with_a_negative_loan(generate(folder / "loans.csv", ROWS)), warm)
    assert fails_without_sources(project) == 1, project.printed
    select = ["--select", "credit_risk/loans", "-m", "platform_assets.definitions"]
    assert project.run(script, "dagster", "asset", "materialize", *select) == 0, project.printed
    assert project.run(script, "dg", "launch", "--assets", "credit_risk/loan_features") == 0, project.printed
    yield project
    wait_until_stopped(project.home)


def fails_without_sources(project: Project) -> int:
    """Run `platform-assets run` with an unreachable source; return the exit code."""
    return project.run(
        command,
        "run",
        PLATFORM_CREDIT_LOANS_URI=f"ftp://reader:{SOURCE_PASSWORD}@127.0.0.1:{reserve_port()}/loans.csv",
        # Use a missing file as sentence relevance's archive, so that this domain fails too and no model is trained.
        PLATFORM_SENTENCES_ARCHIVE_URI=str(project.home / "none"),
    )


@pytest.fixture(scope="module")
def dagster_dev(project: Project) -> Iterator[str]:
    """Address of a running `dagster dev`."""
    with served(project, DAGSTER, "dev") as address:
        yield address


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with started_browser() as browser:
        yield browser


@pytest.fixture(scope="module")
def context(browser: Browser) -> Iterator[BrowserContext]:
    """One browser context for all tests, so that Dagster's large scripts are loaded only once."""
    with browser.new_context(viewport={"width": 1400, "height": 1400}) as context:
        context.set_default_timeout(PATIENCE_MS)
        yield context


@pytest.fixture
def page(context: BrowserContext) -> Iterator[Page]:
    with context.new_page() as page:
        yield page


def with_a_negative_loan(source: Path) -> Path:
    lines = source.read_text().splitlines()
    fields = lines[1].split(",")
    fields[lines[0].split(",").index("loan_amount")] = NEGATIVE
    source.write_text("\n".join([lines[0], ",".join(fields), *lines[2:]]) + "\n")
    return source


def processes_with(variable: str) -> list[str]:
    """Return the command lines of processes with an environment variable, given as `NAME=value`."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if f"{variable}\0" in (process / "environ").read_text(errors="replace"):
                found.append((process / "cmdline").read_text().replace("\0", " "))
        except OSError:
            continue
    return found


@contextmanager
def served(project: Project, *command: str) -> Iterator[str]:
    """Run a development server and yield its address; then stop it, and check that no process is left."""
    port = reserve_port()
    log = project.root.with_name(f"{port}.txt")
    started = uuid.uuid4().hex
    with (
        log.open("w") as output,
        listening_to_interrupts(),
        subprocess.Popen(
            [*command, "--port", str(port)],
            cwd=project.root,
            env=project.environment | {"STARTED": started},
            stdout=output,
            stderr=output,
            start_new_session=True,
        ) as server,
    ):
        try:
            address = f"http://127.0.0.1:{port}"

            def answers() -> bool:
                assert server.poll() is None, log.read_text()
                try:
                    return requests.get(f"{address}/server_info", timeout=10).ok
                except requests.ConnectionError:
                    return False

            wait_until(answers, "the server answered")
            yield address
            server.send_signal(signal.SIGINT)
            server.wait(60)
            wait_until(lambda: not processes_with(f"STARTED={started}"), "no process of the server was left")
        finally:
            with suppress(ProcessLookupError):
                os.killpg(server.pid, signal.SIGKILL)
            project.printed.append(log.read_text())
    assert {path.name for path in project.root.iterdir()} <= {
        "pyproject.toml",
        "dagster.yaml",
        "workspace.yaml",
        "platform_assets",
    }


def asked(address: str, query: str) -> Any:
    answer = requests.post(f"{address}/graphql", json={"query": query}, timeout=60)
    return answer.json()["data"]


def runs(address: str, query: str = RUNS) -> list[Any]:
    """Send a GraphQL query about all runs, and return the selected fields of each run, newest first."""
    found: list[Any] = asked(address, query)["runsOrError"]["results"]
    return found


def outcomes(address: str) -> list[tuple[str, list[str]]]:
    """Return the status and the assets of each run, newest first."""
    found = runs(address)
    return [(run["status"], sorted("/".join(key["path"]) for key in run["assetSelection"] or ())) for run in found]


def assert_shows_what_the_commands_did(address: str) -> None:
    # Compare the first three runs, because other tests may have added runs in the UI.
    launched, materialised, failed = outcomes(address)[-3:]
    assert launched == ("SUCCESS", ["credit_risk/loan_features"])
    assert materialised == ("SUCCESS", ["credit_risk/loans"])
    assert failed[0] == "FAILURE"
    assert set(failed[1]) > set(MADE)
    assert "cannot be fetched" in json.dumps(runs(address, ERRORS)[-1])
    commands = {run["runId"] for run in runs(address)[-3:]}
    shown = asked(address, "{ assetNodes { assetKey { path } assetMaterializations { runId } } }")["assetNodes"]
    made = {"/".join(node["assetKey"]["path"]): node["assetMaterializations"] for node in shown}
    assert {asset: sum(one["runId"] in commands for one in made[asset]) for asset in MADE} == MADE


def sees(page: Page, *texts: str | re.Pattern[str]) -> None:
    """Wait until each text is visible."""
    for text in texts:
        page.get_by_text(text).locator("visible=true").first.wait_for()


@pytest.mark.requirement("PLT-3")
def test_dg_dev_shows_the_runs_of_the_commands_and_leaves_no_process_after_its_end(project: Project) -> None:
    with served(project, DG, "dev") as address:
        assert_shows_what_the_commands_did(address)


@pytest.mark.requirement("PLT-3")
def test_dagster_dev_shows_the_runs_of_the_commands(dagster_dev: str) -> None:
    assert_shows_what_the_commands_did(dagster_dev)


@pytest.mark.requirement("PLT-1", "PLT-5")
def test_the_ui_shows_assets_and_checks_and_materialises_an_asset(page: Page, dagster_dev: str, tmp_path: Path) -> None:
    page.goto(f"{dagster_dev}/locations/platform_assets/asset-groups/credit_risk")
    sees(page, "loans", "loan_features", "client_features", "Delta Lake", "Postgres")
    page.screenshot(path=tmp_path / "graph.png")

    page.goto(f"{dagster_dev}/assets/credit_risk/loans")
    sees(page, "One row per loan, as delivered", "credit-risk", "Row count")
    sees(page, re.compile(rf"^{GOOD}$|^{GOOD:,}$"), "Yearly income of the client. Unit: currency units per year.")
    page.screenshot(path=tmp_path / "loans.png")

    page.goto(f"{dagster_dev}/assets/credit_risk/loans?view=checks&checkDetail=loan_amount_is_positive")
    sees(page, "non-blocking", f"loan_amount_is_positive failed: {NEGATIVE_LOANS} of ")
    page.get_by_text("[Show JSON]").click()
    sees(page, re.compile(rf'"loan_amount": {NEGATIVE},\s+"source_line": 2'))
    page.screenshot(path=tmp_path / "checks.png")

    materialises(page, dagster_dev, "credit_risk/client_features")
    page.goto(f"{dagster_dev}/runs")
    sees(page, "client_features", "Success")
    page.screenshot(path=tmp_path / "runs.png")


@pytest.mark.requirement("PLT-1", "PRO-1", "PRO-2")
def test_the_ui_trains_a_model_and_shows_its_metrics(page: Page, dagster_dev: str, tmp_path: Path) -> None:
    materialises(page, dagster_dev, "credit_risk/credit_risk_model")
    page.goto(f"{dagster_dev}/assets/credit_risk/credit_risk_model?view=events")
    sees(page, "verdict", "model_version", "leaderboard")
    for key, text in {
        "card": "Credit officers review applications above the threshold",
        "metrics": "Probability that a random positive row scores above a random negative row",
    }.items():
        opened(page, key)
        sees(page, text)
        page.keyboard.press("Escape")
    opened(page, "plot_roc")
    plot = page.get_by_role("img", name="roc.png")
    plot.wait_for()
    assert plot.evaluate("image => [image.naturalWidth, image.complete]") == [640, True]
    page.screenshot(path=tmp_path / "plot.png")

    page.goto(f"{dagster_dev}/assets/credit_risk/credit_risk_model?view=checks&checkDetail=roc_auc_is_at_least_0_65")
    sees(page, "non-blocking", re.compile(r"ROC AUC is 0\.\d+ \(.*\); required: at least 0\.65"))
    page.screenshot(path=tmp_path / "gate.png")


@pytest.mark.requirement("PRO-3")
def test_a_page_of_another_site_can_link_to_the_ui_but_not_send_requests_to_it(page: Page, dagster_dev: str) -> None:
    # Do not use `page.route`, because Chromium blocks requests to this machine from pages that did not come from a
    # local server.
    with served_page(HTMLResponse(f"<a href={dagster_dev}/assets/credit_risk/loans>see</a>")) as other_site:
        # For a browser, the name localhost is another site than the address 127.0.0.1.
        page.goto(other_site.replace("127.0.0.1", "localhost"))
        assert page.evaluate(ATTACK, dagster_dev) == "error"
        assert asked(dagster_dev, LIMITS) == {"instance": {"concurrencyLimits": []}}
        page.get_by_text("see").click()
        sees(page, "One row per loan, as delivered")
    # The same script works in a page of the UI, except by GET.
    assert page.evaluate(ATTACK, dagster_dev) == "open"
    assert asked(dagster_dev, LIMITS) == {"instance": {"concurrencyLimits": [{"concurrencyKey": "fetch"}]}}


def opened(page: Page, key: str) -> None:
    """Expand the metadata with a given key."""
    row = page.locator("tr", has=page.get_by_text(key, exact=True)).last
    row.get_by_text("[Show Markdown]").click()


def materialises(page: Page, address: str, asset: str) -> None:
    """Materialise an asset in the UI, and wait until its run has succeeded."""
    page.goto(f"{address}/assets/{asset}")
    before = len(runs(address))
    page.get_by_role("button", name="Materialize").first.click()

    wait_until(lambda: len(runs(address)) > before, "the run was launched")
    # Close the page and poll the API, because the page keeps browser and server busy, and shows the end of a run
    # several seconds late.
    page.goto("about:blank")
    wait_until(lambda: outcomes(address)[0][0] in {"SUCCESS", "FAILURE"}, "the run ended")
    assert outcomes(address)[0] == ("SUCCESS", [asset])


@pytest.mark.requirement("PLT-3")
def test_dagster_accepts_the_definitions(project: Project) -> None:
    assert project.run(script, "dg", "check", "defs") == 0, project.printed[-1]
    assert project.run(script, "dagster", "definitions", "validate", "-w", "workspace.yaml") == 0, project.printed[-1]


@pytest.mark.requirement("PLT-8")
def test_no_secret_is_printed_or_stored(project: Project) -> None:
    passwords = [ServerFolder(project.home / "postgres").password(role) for role in (APP, OWNER)]
    with closing(open_database("", project.home)) as database, database.connect("dagster") as connection:
        tables = connection.execute("select table_name from information_schema.tables where table_schema = 'public'")
        stored = [
            row[0]
            for (table,) in tables.fetchall()
            for row in connection.execute(f'select t::text from "{table}" t').fetchall()
        ]
    logs = [path.read_text() for path in (project.home / "dagster").rglob("*.*") if path.is_file()]
    logs += [path.read_text() for path in project.root.parent.glob("*.txt")]
    everything = "\n".join([*stored, *logs, *project.printed])
    assert "ftp://127.0.0.1:" in everything
    assert [secret for secret in (SOURCE_PASSWORD, "hunter3", *passwords) if secret in everything] == []
