"""The whole platform in real containers, as `docker/compose.yaml` and `docker/deploy` start it."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import requests

from platform_assets.database.embedded.server import free_port
from platform_assets_tests.integration.test_arxiv_compose import compose
from platform_assets_tests.postgres import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
FILE = ROOT / "docker" / "compose.yaml"
BUILT = ("mlflow", "code", "webserver", "daemon", "service")
ROWS = "8000"
SECONDS = 600
LAUNCH = """
mutation Launch($job: String!) {
  launchPipelineExecution(executionParams: {
    selector: {repositoryLocationName: "platform_assets", repositoryName: "__repository__", pipelineName: $job}
    mode: "default"
  }) {
    __typename
    ... on LaunchRunSuccess { run { runId } }
    ... on PythonError { message }
  }
}
"""
STATUS = "query Status($run: ID!) { runOrError(runId: $run) { ... on Run { status } } }"


@dataclass(frozen=True)
class Platform:
    """The running containers."""

    folder: Path
    variables: dict[str, str]
    command: list[str]

    def run(self, *command: str | Path) -> subprocess.CompletedProcess[str]:
        given = os.environ | self.variables
        return subprocess.run(
            command, env=given, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def compose(self, *arguments: str) -> str:
        done = self.run(*self.command, "--file", self.folder / "compose.yaml", *arguments)
        assert done.returncode == 0, done.stdout
        return done.stdout

    def ask(self, method: str, path: str, key: str, body: Any = None) -> requests.Response:
        address = f"http://127.0.0.1:{self.variables['SERVICE_PORT']}{path}"
        return requests.request(method, address, json=body, headers={"Authorization": f"Bearer {key}"}, timeout=60)

    def graphql(self, query: str, **variables: str) -> dict[str, Any]:
        address = f"http://127.0.0.1:{self.variables['DAGSTER_PORT']}/graphql"
        answer = requests.post(address, json={"query": query, "variables": variables}, timeout=60).json()
        assert "errors" not in answer, answer
        found: dict[str, Any] = answer["data"]
        return found

    def key(self, *scopes: str) -> str:
        options = [word for scope in scopes for word in ("--scope", scope)]
        command = ("platform-assets", "keys", "add", "anna-laptop", "--owner", "anna", *options)
        return self.compose("run", "--rm", "-T", "migrate", *command).split()[-1]

    def run_job(self, job: str) -> str:
        """Run a job to its end, and return its status."""
        launched = self.graphql(LAUNCH, job=job)["launchPipelineExecution"]
        assert launched["__typename"] == "LaunchRunSuccess", launched
        run = launched["run"]["runId"]

        def status() -> str:
            return str(self.graphql(STATUS, run=run)["runOrError"]["status"])

        wait_until(lambda: status() in {"SUCCESS", "FAILURE", "CANCELED"}, f"{job} ended", SECONDS)
        return status()


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    command, tag = compose(), f"test-{os.getpid()}"
    folder = tmp_path_factory.mktemp("compose") / "docker"
    folder.mkdir()
    # A copy, because secrets and the deployed tag are stored beside the file.
    for name in ("compose.yaml", "roles.sh", "make-secrets", "deploy"):
        shutil.copy2(FILE.parent / name, folder / name)
    ports = {name: str(free_port()) for name in ("DAGSTER_PORT", "MLFLOW_PORT", "SERVICE_PORT")}
    variables = {"COMPOSE_PROJECT_NAME": f"platform-{tag}", "TAG": tag, "PLATFORM_DEMO_ROWS": ROWS, **ports}
    started = Platform(folder, variables | {"DEPLOY_SECONDS": str(SECONDS)}, command)
    assert started.run(folder / "make-secrets").returncode == 0
    # compose.yaml mounts the secrets, so they must exist even for a build.
    built = started.run(*command, "--file", FILE, "build", "migrate", *BUILT)
    assert built.returncode == 0, built.stdout
    try:
        deployed = started.run(folder / "deploy", tag)
        assert deployed.returncode == 0, deployed.stdout
        yield started
    finally:
        started.compose("down", "--volumes", "--timeout", "30")
        started.run(
            "docker", "image", "rm", *(f"platform-assets-{name}:{one}" for name in BUILT for one in (tag, "broken"))
        )


@pytest.mark.release
@pytest.mark.slow
@pytest.mark.timeout(3_600)
@pytest.mark.requirement("OPS-1", "OPS-5", "PRO-3", "PRO-8")
def test_a_model_is_trained_approved_and_served_and_a_broken_version_is_rolled_back(platform: Platform) -> None:
    key = platform.key("read", "predict", "approve")
    asked = {"client_id": 5_000_001}
    assert platform.run_job("train_credit_risk_model") == "SUCCESS"
    assert platform.ask("POST", "/predictions/credit-risk", key, asked).status_code == 503
    decided = platform.ask("POST", "/approvals/1/decision", key, {"decision": "approve", "reason": "It is calibrated."})
    assert decided.status_code == 200, decided.text

    # The daemon's sensor launches the promotion, and the service loads the champion without a restart.
    def predicts() -> bool:
        return platform.ask("POST", "/predictions/credit-risk", key, asked).ok

    wait_until(predicts, "the service predicted", SECONDS)
    answer = platform.ask("POST", "/predictions/credit-risk", key, asked).json()
    assert (answer["model_version"], answer["approval_id"]) == ("1", 1)

    tag = platform.variables["TAG"]
    for name in BUILT:
        source = "postgres:17-bookworm" if name == "service" else f"platform-assets-{name}:{tag}"
        assert platform.run("docker", "tag", source, f"platform-assets-{name}:broken").returncode == 0
    deployed = platform.run("env", "DEPLOY_SECONDS=40", platform.folder / "deploy", "broken")
    assert deployed.returncode == 1
    assert (platform.folder / ".deployed").read_text().strip() == tag
    wait_until(predicts, "the service predicted after the rollback", SECONDS)
    assert platform.ask("POST", "/predictions/credit-risk", key, asked).json()["probability"] == answer["probability"]
