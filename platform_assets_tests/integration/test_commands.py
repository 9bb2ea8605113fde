"""Dagster's own commands, from the project's root and without DAGSTER_HOME: one history, no secret in it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import requests

from platform_assets.core.database import open_database
from platform_assets.core.postgres_server import ServerFolder
from platform_assets.core.postgres_watcher import free_port
from platform_assets.orchestration.storage import PROJECT
from platform_assets_tests.command_line import PROGRAM, listening_to_interrupts
from platform_assets_tests.postgres import copy_home, wait_until, wait_until_stopped

if TYPE_CHECKING:
    from collections.abc import Iterator

# One process for all of them, where tests are dealt out by group: they share a history.
pytestmark = pytest.mark.slow

DAGSTER = str(Path(sys.executable).with_name("dagster"))
DG = str(Path(sys.executable).with_name("dg"))
SOURCE_PASSWORD = "hunter2-of-the-source"
WEBHOOK = "https://alerts.invalid/services/hunter3-of-the-webhook"
RUNS = """{ runsOrError { ... on Runs { results {
    status assetSelection { path } eventConnection { events { ... on ExecutionStepFailureEvent { error { message } } } }
} } } }"""


@dataclass(frozen=True)
class Project:
    """A copy of the project's root, with a platform of its own that keeps everything below `home`."""

    root: Path
    home: Path
    printed: list[str] = field(default_factory=list)

    @property
    def environment(self) -> dict[str, str]:
        return os.environ | {
            "PLATFORM_HOME": str(self.home),
            "PLATFORM_DEMO_ROWS": "100",
            "PLATFORM_MAX_BAD_ROWS": "1",
            "PLATFORM_ALERT_WEBHOOK_URL": WEBHOOK,
        }

    def run(self, *command: str, **variables: str) -> int:
        """Run a command to its end; its exit code."""
        done = subprocess.run(
            command, cwd=self.root, env=self.environment | variables, capture_output=True, text=True, check=False
        )
        self.printed.append(done.stdout + done.stderr)
        return done.returncode


@pytest.fixture(scope="module")
def project(migrated_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A project in which three commands have run: two that succeed, and one that fails."""
    folder = tmp_path_factory.mktemp("commands")
    root = folder / "root"
    root.mkdir()
    for name in ("pyproject.toml", "dagster.yaml", "workspace.yaml"):
        shutil.copy(PROJECT / name, root)
    (root / "platform_assets").symlink_to(PROJECT / "platform_assets")
    copy_home(migrated_home, folder / "home")
    project = Project(root, folder / "home")
    select = ["--select", "credit_risk/loans", "-m", "platform_assets.definitions"]
    assert project.run(DAGSTER, "asset", "materialize", *select) == 0, project.printed
    assert project.run(DG, "launch", "--assets", "credit_risk/loan_features") == 0, project.printed
    source = f"ftp://reader:{SOURCE_PASSWORD}@127.0.0.1:{free_port()}/loans.csv"
    assert project.run(PROGRAM, "run", PLATFORM_CREDIT_LOANS_URI=source) == 1, project.printed
    yield project
    wait_until_stopped(project.home)


def processes_of_environment(home: Path) -> list[str]:
    """Processes that were started with this home."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if f"PLATFORM_HOME={home}\0" in (process / "environ").read_text(errors="replace"):
                found.append((process / "cmdline").read_text().replace("\0", " "))
        except OSError:
            continue
    return found


@contextmanager
def served(project: Project, *command: str) -> Iterator[str]:
    """A development server; the address of its GraphQL."""
    port = free_port()
    log = project.root.with_name("server.txt")
    with (
        log.open("w") as output,
        listening_to_interrupts(),
        subprocess.Popen(
            [*command, "--port", str(port)], cwd=project.root, env=project.environment, stdout=output, stderr=output
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
            yield f"{address}/graphql"
            server.send_signal(signal.SIGINT)
            server.wait(60)
        finally:
            server.kill()
            project.printed.append(log.read_text())


def asked(graphql: str, query: str) -> Any:
    answer = requests.post(graphql, json={"query": query}, timeout=60)
    return answer.json()["data"]


@pytest.mark.requirement("PLT-3")
@pytest.mark.parametrize("command", [(DAGSTER, "dev"), (DG, "dev")], ids=["dagster dev", "dg dev"])
def test_a_development_server_shows_what_the_commands_did_and_leaves_nothing_behind(
    project: Project, command: tuple[str, ...]
) -> None:
    with served(project, *command) as graphql:
        runs = asked(graphql, RUNS)["runsOrError"]["results"]
        shown = asked(graphql, "{ assetNodes { assetKey { path } assetMaterializations(limit: 1) { runId } } }")
    assert [(run["status"], sorted("/".join(key["path"]) for key in run["assetSelection"])) for run in runs] == [
        ("FAILURE", ["credit_risk/client_features", "credit_risk/loan_features", "credit_risk/loans"]),
        ("SUCCESS", ["credit_risk/loan_features"]),
        ("SUCCESS", ["credit_risk/loans"]),
    ]
    assert "cannot be fetched" in json.dumps(runs[0])
    materialised = {"/".join(one["assetKey"]["path"]): len(one["assetMaterializations"]) for one in shown["assetNodes"]}
    assert materialised == {
        "credit_risk/loans": 1,
        "credit_risk/loan_features": 1,
        "credit_risk/client_features": 0,
    }
    wait_until(lambda: not processes_of_environment(project.home), "nothing was left")
    assert {path.name for path in project.root.iterdir()} <= {
        "pyproject.toml",
        "dagster.yaml",
        "workspace.yaml",
        "platform_assets",
    }


@pytest.mark.requirement("PLT-3")
def test_the_definitions_are_found_well(project: Project) -> None:
    assert project.run(DG, "check", "defs") == 0, project.printed[-1]
    assert project.run(DAGSTER, "definitions", "validate", "-w", "workspace.yaml") == 0, project.printed[-1]


@pytest.mark.requirement("PLT-8")
def test_no_secret_is_printed_or_stored(project: Project) -> None:
    password = ServerFolder(project.home / "postgres").password()
    with closing(open_database("", project.home)) as database, database.connect("dagster") as connection:
        tables = connection.execute("select table_name from information_schema.tables where table_schema = 'public'")
        stored = [
            row[0]
            for (table,) in tables.fetchall()
            for row in connection.execute(f'select t::text from "{table}" t').fetchall()
        ]
    logs = [path.read_text() for path in (project.home / "dagster").rglob("*.*") if path.is_file()]
    everything = "\n".join([*stored, *logs, *project.printed])
    assert "ftp://127.0.0.1:" in everything
    assert [secret for secret in (SOURCE_PASSWORD, "hunter3", password) if secret in everything] == []
