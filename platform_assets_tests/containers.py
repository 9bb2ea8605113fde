"""Run projects of `docker/compose.yaml` with Docker Compose, in a copy of the folder `docker`."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import requests

from platform_assets_tests.ports import reserve_port
from platform_assets_tests.postgres import wait_until

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOT = Path(__file__).parents[1]
DOCKER = ROOT / "docker"
BASES = ("python:3.11-slim-bookworm", "postgres:17-bookworm")
REQUIRED = "REQUIRE_CONTAINERS"
"""Environment variable that makes tests fail, instead of being skipped, if containers cannot be started."""
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


def succeeds(*command: str) -> bool:
    return (
        shutil.which(command[0]) is not None
        and not subprocess.run(command, check=False, capture_output=True).returncode
    )


def lacking(reason: str) -> None:
    """Skip the test, or fail it if containers are required."""
    if os.environ.get(REQUIRED) == "1":
        pytest.fail(reason)
    pytest.skip(reason)


def compose_command(bases: Sequence[str] = BASES) -> list[str]:
    """Return the command of Docker Compose: the plug-in `docker compose`, or the older program `docker-compose`."""
    if not succeeds("docker", "info"):
        lacking("needs Docker, installed and running: apt-get install docker.io docker-compose")
    if missing := [base for base in bases if not succeeds("docker", "image", "inspect", base)]:
        lacking(f"needs these images: docker pull {' '.join(missing)}")
    for command in (["docker", "compose"], ["docker-compose"]):
        if succeeds(*command, "version"):
            return command
    lacking("needs Docker Compose: apt-get install docker-compose")
    raise AssertionError


@dataclass(frozen=True)
class Project:
    """A project of `docker/compose.yaml`, with its own secrets, settings and ports.

    Attributes
    ----------
    folder
        A copy of the folder `docker`, because secrets and the deployed tag are stored in it.
    name
        Name of the project.
    tag
        Tag of the images.
    environment
        Name of the environment. Its settings are in `environments/<name>.env`, to which a test may append.
    """

    folder: Path
    name: str
    tag: str
    environment: str
    command: list[str] = field(default_factory=compose_command)
    ports: dict[str, str] = field(
        default_factory=lambda: {name: str(reserve_port()) for name in ("DAGSTER_PORT", "MLFLOW_PORT", "SERVICE_PORT")}
    )

    def prepare(self, **settings: str) -> None:
        """Copy the files, make the secrets, and append settings of the platform."""
        shutil.copytree(DOCKER, self.folder, ignore=shutil.ignore_patterns("secrets", ".deployed*"))
        self.run(self.folder / "make-secrets")
        with (self.folder / "environments" / f"{self.environment}.env").open("a") as file:
            file.writelines(f"{name}={value}\n" for name, value in settings.items())

    def start(
        self, *command: str | Path, given: str | None = None, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a command to its end; its exit code is not checked."""
        own = {"COMPOSE_PROJECT_NAME": self.name, "TAG": self.tag, "ENVIRONMENT": self.environment, **self.ports}
        return subprocess.run(
            command,
            env=os.environ | own | variables,
            check=False,
            input=given,
            stdin=None if given is not None else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, *command: str | Path, given: str | None = None, **variables: str) -> str:
        done = self.start(*command, given=given, **variables)
        assert done.returncode == 0, done.stdout
        return done.stdout

    def compose(self, *arguments: str, given: str | None = None, **variables: str) -> str:
        file = ("--file", self.folder / "compose.yaml")
        return self.run(*self.command, *file, *arguments, given=given, **variables)

    def admin(self, *command: str) -> str:
        """Run a command in the container `migrate`, which connects as the owner role."""
        return self.compose("run", "--rm", "-T", "migrate", *command)

    def inside(self, service: str, *command: str, given: str | None = None) -> str:
        """Run a command in a running container, with the same secrets as the container's own process."""
        return self.compose("exec", "-T", service, "/platform/entrypoint.sh", *command, given=given)

    def container(self, service: str) -> str:
        return self.compose("ps", "-q", service).split()[-1]

    def inspect(self, service: str) -> dict[str, Any]:
        [found] = json.loads(self.run("docker", "inspect", self.container(service)))
        return dict(found)

    def ask(self, method: str, path: str, key: str, body: Any = None) -> requests.Response:
        address = f"http://127.0.0.1:{self.ports['SERVICE_PORT']}{path}"
        return requests.request(method, address, json=body, headers={"Authorization": f"Bearer {key}"}, timeout=60)

    def graphql(self, query: str, **variables: str) -> dict[str, Any]:
        address = f"http://127.0.0.1:{self.ports['DAGSTER_PORT']}/graphql"
        answer = requests.post(address, json={"query": query, "variables": variables}, timeout=60).json()
        assert "errors" not in answer, answer
        return dict(answer["data"])

    def launch(self, job: str) -> str:
        """Launch a run of a job, and return its id."""
        launched = self.graphql(LAUNCH, job=job)["launchPipelineExecution"]
        assert launched["__typename"] == "LaunchRunSuccess", launched
        return str(launched["run"]["runId"])

    def end(self, run: str) -> str:
        """Wait for the end of a run, and return its status."""

        def status() -> str:
            return str(self.graphql(STATUS, run=run)["runOrError"]["status"])

        wait_until(lambda: status() in {"SUCCESS", "FAILURE", "CANCELED"}, lambda: f"{run} ended: {status()}", SECONDS)
        return status()

    def run_job(self, job: str) -> str:
        """Run a job to its end, and return its status."""
        return self.end(self.launch(job))
