"""The whole platform in real containers, as `docker/compose.yaml` and `make deploy` start it.

The project runs as the environment `staging`, which uses production mode: decisions need a key, and the service's role
cannot write the ledger.
"""

from __future__ import annotations

import json
import os
import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
import requests

from platform_assets_tests.approval.test_forgery import CHANGES
from platform_assets_tests.containers import BASES, ROOT, SECONDS, Project, compose_command
from platform_assets_tests.postgres import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BUILT = ("migrate", "mlflow", "code", "webserver", "daemon", "service")
IMAGES = tuple(name for name in BUILT if name != "migrate")
ROWS = "8000"
LOANS = "/home/platform/samples/credit_loans.csv"
ASKED = {"client_id": 5_008_804}
"""Client in the documented example of the route. The smoke test requests a prediction for this client."""
LARGEST_MB = 1_500
"""Maximum size of an image, not counting its base image."""
CRASH = {"database": "kill -QUIT 1", **dict.fromkeys(IMAGES, "kill -9 -1")}
"""Commands that end a container's process from inside, like a crash. Docker does not restart a container after `docker
kill`, because it treats that as a manual stop."""
START = """
mutation Start($sensor: String!) {
  startSensor(sensorSelector: {
    repositoryLocationName: "platform_assets", repositoryName: "__repository__", sensorName: $sensor
  }) { __typename ... on PythonError { errors: message } }
}
"""
LOADED = "{ repositoriesOrError { ... on RepositoryConnection { nodes { name } } } }"
EVENTS = """
query Events($run: ID!) {
  logsForRun(runId: $run, limit: 1000) { ... on EventConnection { events {
    __typename
    ... on EngineEvent { metadataEntries { label ... on TextMetadataEntry { text } } }
    ... on ExecutionStepFailureEvent { error { message } }
  } } }
}
"""
REDIS = "redis:7-bookworm"
CELERY = {
    "PLATFORM_RUN_LAUNCHER": "celery",
    "PLATFORM_EXECUTOR": "celery",
    "PLATFORM_CELERY_BROKER_URL_FILE": "/run/secrets/celery_broker_url",
    "PLATFORM_CREDIT_LOANS_URI": "http://source:8000/loans.csv",
}
# A web server that serves the file of loans. It sends the second half of the file once `/tmp/released` exists.
SLOW_SOURCE = """
import http.server, pathlib, sys, time
content = pathlib.Path(sys.argv[1]).read_bytes()
class Handler(http.server.BaseHTTPRequestHandler):
    def do_HEAD(self):
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
    def do_GET(self):
        self.do_HEAD()
        half = len(content) // 2
        self.wfile.write(content[:half])
        self.wfile.flush()
        while not pathlib.Path("/tmp/released").exists():
            time.sleep(0.1)
        self.wfile.write(content[half:])
http.server.ThreadingHTTPServer(("", 8000), Handler).serve_forever()
"""
# Runs in the container `service`, which connects with the restricted role.
FORGE = """
import json, os, psycopg
done = []
with psycopg.connect(os.environ["PLATFORM_DATABASE_URL"], autocommit=True) as connection:
    role = connection.info.user
    for change in CHANGES:
        try:
            connection.execute(change)
            done.append(change)
        except psycopg.errors.InsufficientPrivilege:
            continue
print(json.dumps([role, done]))
"""

pytestmark = [pytest.mark.release, pytest.mark.slow, pytest.mark.timeout(3_600)]


@dataclass(frozen=True)
class Platform:
    """A running project with an approved model.

    Attributes
    ----------
    project
        The containers.
    key
        Key of the approver, who may also predict.
    probability
        Prediction of the champion for `ASKED`.
    """

    project: Project
    key: str
    probability: float

    def predicts(self) -> bool:
        """Return whether the service responds with the champion's probability."""
        with suppress(requests.RequestException):
            answer = self.project.ask("POST", "/predictions/credit-risk", self.key, ASKED)
            return answer.ok and answer.json()["probability"] == self.probability
        return False


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    tag = f"test-{os.getpid()}"
    project = Project(tmp_path_factory.mktemp("compose") / "docker", f"platform-{tag}", tag, "staging")
    # Turn automation off to limit the load. The test starts the one sensor that it needs.
    project.prepare(PLATFORM_CREDIT_LOANS_URI=LOANS, PLATFORM_AUTOMATION="off")
    try:
        # Build in the project's folder, because Docker Compose requires the secret files there, even for a build that
        # does not use them.
        project.run(*project.command, "--file", _linked(project), "build", *BUILT, IMAGE_EXTRAS="celery k8s")
        project.admin("platform-assets", "migrate")
        development = ("-e", "PLATFORM_ENV=development", "-e", "PLATFORM_SOURCES=demo")
        generate = ("platform-assets", "demo", "generate", LOANS.rpartition("/")[0], "--rows", ROWS)
        project.compose("run", "--rm", "-T", *development, "migrate", *generate)
        project.admin("sed", "-i", f"s/5000001/{ASKED['client_id']}/", LOANS)
        deployed = deploy(project, tag)
        assert "is running in staging" in deployed
        yield approved(project)
    finally:
        project.compose("down", "--volumes", "--timeout", "30")
        tags = (f"platform-assets-{name}:{one}" for name in IMAGES for one in (tag, "next", "broken"))
        project.start("docker", "image", "rm", "--force", *tags)


def _linked(project: Project) -> Path:
    """Return a copy of the compose file that builds the images from the repository."""
    file = project.folder / "build.yaml"
    file.write_text((project.folder / "compose.yaml").read_text().replace("context: ..", f"context: {ROOT}"))
    return file


def deploy(project: Project, tag: str, code: int = 0, **variables: str) -> str:
    """Run `make deploy` in the project's folder, check its exit code, and return what it printed."""
    make = ("make", "--silent", "--file", ROOT / "Makefile", "--directory", project.folder.parent, "deploy")
    done = project.start(*make, "ENV=staging", f"TAG={tag}", **{"DEPLOY_SECONDS": str(SECONDS), **variables})
    assert bool(done.returncode) == bool(code), done.stdout
    return done.stdout


def approved(project: Project) -> Platform:
    """Train a model, approve it over HTTP, and wait until the service predicts with it."""
    scopes = ("--scope", "read", "--scope", "predict", "--scope", "approve")
    key = project.admin("platform-assets", "keys", "add", "anna-laptop", "--owner", "anna", *scopes).split()[-1]
    assert project.run_job("train_credit_risk_model") == "SUCCESS"
    assert project.ask("POST", "/predictions/credit-risk", key, ASKED).status_code == 503
    decision = {"decision": "approve", "reason": "It is calibrated."}
    decided = project.ask("POST", "/approvals/1/decision", key, decision)
    assert decided.status_code == 200, decided.text

    # The daemon's sensor launches the promotion, and the service loads the champion without a restart.
    assert "errors" not in project.graphql(START, sensor="model_decided")["startSensor"]

    def answer() -> requests.Response:
        return project.ask("POST", "/predictions/credit-risk", key, ASKED)

    wait_until(lambda: answer().ok, lambda: f"the service predicted: {answer().text}", SECONDS)
    said = answer().json()
    assert (said["model_version"], said["approval_id"]) == ("1", 1)
    return Platform(project, key, said["probability"])


def derived(project: Project, service: str, tag: str, lines: str) -> None:
    """Build a new version of a service's image: the tested image plus additional Dockerfile lines."""
    name = f"platform-assets-{service}"
    project.run("docker", "build", "--tag", f"{name}:{tag}", "-", given=f"FROM {name}:{project.tag}\n{lines}\n")


@contextmanager
def always_predicting(platform: Platform) -> Iterator[list[bool]]:
    """Request predictions continuously. Yield a list that records for each request whether it was answered."""
    answered: list[bool] = []
    ended = threading.Event()

    def ask() -> None:
        while not ended.is_set():
            answered.append(platform.predicts())
            # Stay below the rate limit of 600 requests per minute.
            time.sleep(0.15)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield answered
    finally:
        ended.set()
        thread.join()


@pytest.mark.requirement("OPS-1")
def test_containers_are_locked_down_and_small(platform: Platform) -> None:
    project = platform.project
    secrets = [file.read_text() for file in (project.folder / "secrets").iterdir()]
    for service in IMAGES:
        state = project.inspect(service)
        host = state["HostConfig"]
        assert (state["Config"]["User"], host["ReadonlyRootfs"], host["CapDrop"]) == ("10001", True, ["ALL"])
        assert host["Memory"] > 0
        wrote = project.inside(service, "sh", "-c", "touch /platform/x /home/x 2>&1; id -u")
        assert (wrote.count("Read-only file system"), wrote.split()[-1]) == (2, "10001")
        assert not [one for one in secrets if one in json.dumps(state)]
    project.inside("code", "python", "-c", "import dagster_celery, dagster_k8s")
    tools = "for one in gcc cc make uv pg_ctl; do command -v $one; done; find /platform -type d -name tests"
    assert project.inside("service", "sh", "-c", f"{tools}; true") == ""
    base, image = json.loads(
        project.run("docker", "image", "inspect", BASES[0], f"platform-assets-service:{project.tag}")
    )
    assert image["Size"] - base["Size"] < LARGEST_MB * 1e6


@pytest.mark.requirement("PRO-9", "OPS-1")
def test_the_role_of_the_containers_cannot_forge_a_decision(platform: Platform) -> None:
    project = platform.project
    printed = project.inside("service", "python", "-", given=f"CHANGES = {json.dumps(CHANGES)}\n{FORGE}")
    assert json.loads(printed) == ["platform_app", []]
    assert "nothing was altered" in project.admin("platform-assets", "audit")


@pytest.mark.requirement("OPS-1")
def test_crashed_containers_recover_and_predictions_need_only_service_and_database(platform: Platform) -> None:
    project = platform.project
    for service in ("mlflow", "code", "webserver", "daemon"):
        with always_predicting(platform) as answered:
            crash(project, service)
        assert answered
        assert all(answered), f"{answered.count(False)} of {len(answered)} requests failed without {service}"
    for service in ("service", "database"):
        crash(project, service)
        wait_until(platform.predicts, f"the service predicted after a crash of {service}", SECONDS)
    wait_until(lambda: is_loaded(project), "Dagster's webserver had loaded the code location", SECONDS)
    # Run a job: the webserver queues it, the daemon launches it, and the code location executes it.
    assert project.run_job("evaluate_credit_risk_model") == "SUCCESS"


def crash(project: Project, service: str) -> None:
    """End the process of a container, and wait until Docker has restarted it and its health check succeeds."""
    before = project.inspect(service)["RestartCount"]
    project.start("docker", "exec", project.container(service), "sh", "-c", CRASH[service])

    def is_back() -> bool:
        return project.inspect(service)["RestartCount"] > before and is_healthy(project, service)

    wait_until(is_back, f"{service} was restarted and healthy", SECONDS)


def is_healthy(project: Project, service: str) -> bool:
    return bool(project.inspect(service)["State"]["Health"]["Status"] == "healthy")


def is_loaded(project: Project) -> bool:
    with suppress(requests.RequestException, AssertionError):
        return bool(project.graphql(LOADED)["repositoriesOrError"].get("nodes"))
    return False


@pytest.mark.requirement("OPS-1")
def test_the_daemon_is_unhealthy_without_heartbeats(platform: Platform) -> None:
    project = platform.project

    def has_heartbeats() -> bool:
        check = ("/platform/entrypoint.sh", "python", "/platform/daemon_health.py")
        return project.start("docker", "exec", project.container("daemon"), *check).returncode == 0

    def psql(statement: str) -> None:
        project.compose("exec", "-T", "database", "psql", "-U", "postgres", "-c", statement, "platform_dagster")

    assert has_heartbeats()
    project.inside("daemon", "sh", "-c", "kill -STOP -1")
    psql("update daemon_heartbeats set timestamp = timestamp - interval '6 minutes'")
    assert not has_heartbeats()
    project.inside("daemon", "sh", "-c", "kill -CONT -1")
    wait_until(has_heartbeats, "the daemon had sent heartbeats again", SECONDS)


@pytest.mark.requirement("OPS-1", "OPS-5")
def test_the_code_location_is_upgraded_without_a_failed_request(platform: Platform) -> None:
    project = platform.project
    derived(project, "code", "next", "LABEL version=next")
    with always_predicting(platform) as answered:
        project.compose("up", "--detach", "--no-deps", "--no-build", "code", TAG="next")
        wait_until(lambda: is_healthy(project, "code"), "the new container was healthy", SECONDS)
        wait_until(lambda: is_loaded(project), "Dagster's webserver had loaded the new code location", SECONDS)
    assert project.inspect("code")["Config"]["Labels"]["version"] == "next"
    assert answered
    assert all(answered), f"{answered.count(False)} of {len(answered)} requests failed"
    assert project.run_job("evaluate_credit_risk_model") == "SUCCESS"
    project.compose("up", "--detach", "--no-deps", "--no-build", "code")


@pytest.mark.requirement("OPS-1")
def test_containers_stop_on_sigterm_and_the_port_of_the_service_can_be_set(platform: Platform) -> None:
    project = platform.project
    another = project.compose("run", "--detach", "--no-deps", "-e", "PORT=9100", "service").split()[-1]

    def health() -> str:
        return project.run("docker", "inspect", "--format", "{{.State.Health.Status}}", another).strip()

    try:
        # The health check uses the port in the variable `PORT`.
        wait_until(
            lambda: health() == "healthy", lambda: f"the container with PORT=9100 was healthy: {health()}", SECONDS
        )
    finally:
        project.run("docker", "rm", "--force", another)
    containers = [project.container(service) for service in IMAGES]
    project.compose("stop", *IMAGES)
    state = "{{.Name}} {{.State.ExitCode}}"
    ended = project.run("docker", "inspect", "--format", state, *containers).split()
    project.run("docker", "start", *containers)
    # Exit code 137 would mean that a container was killed after the grace period.
    assert "137" not in ended, ended
    for service in IMAGES:
        wait_until(lambda one=service: is_healthy(project, one), f"{service} was healthy", SECONDS)  # type: ignore[misc]


@pytest.mark.requirement("OPS-1", "PLT-14")
def test_a_backup_restored_in_a_fresh_project_gives_the_same_predictions(
    platform: Platform, tmp_path_factory: pytest.TempPathFactory
) -> None:
    project = platform.project
    made = project.admin("platform-assets", "backup", "/backups/one")
    assert "/backups/one is complete" in made
    assert "NOT in this backup" not in made
    fresh = Project(tmp_path_factory.mktemp("fresh") / "docker", f"{project.name}-fresh", project.tag, "staging")
    fresh.prepare()
    try:
        fresh.compose("up", "--detach", "--no-build", "database")
        copy = ("cp", "-a", "/from/one", "/backups/")
        source = ("-v", f"{project.name}_backups:/from")
        fresh.compose("run", "--rm", "-T", *source, "--entrypoint", copy[0], "migrate", *copy[1:])
        fresh.admin("platform-assets", "restore", "/backups/one")
        fresh.compose("up", "--detach", "--no-build", "service")
        wait_until(Platform(fresh, platform.key, platform.probability).predicts, "the same prediction", SECONDS)
        assert "nothing was altered" in fresh.admin("platform-assets", "audit")
    finally:
        fresh.compose("down", "--volumes", "--timeout", "30")


@pytest.mark.requirement("OPS-5")
def test_a_broken_version_is_rolled_back(platform: Platform) -> None:
    project = platform.project
    for name in IMAGES:
        project.run("docker", "tag", f"platform-assets-{name}:{project.tag}", f"platform-assets-{name}:broken")
    # Build a service that starts and is healthy, but whose predictions fail.
    fault = "RUN echo 'Predictor.predict = None' >> /platform/package/platform_assets/serving/predictor.py"
    derived(project, "service", "broken", f"USER 0\n{fault}\nUSER 10001")
    told = deploy(project, "broken", code=1)
    assert f"broken failed; {project.tag} is running again" in told
    assert "/predictions/credit-risk" in told
    assert (project.folder / ".deployed.staging").read_text().strip() == project.tag
    assert platform.predicts()


@pytest.mark.requirement("OPS-1", "PLT-9")
def test_a_run_on_celery_containers_ends_if_its_worker_is_killed_and_the_next_run_completes(platform: Platform) -> None:
    project = platform.project
    compose_command([REDIS])
    with slow_source(project) as source, celery_workers(project):
        killed = project.launch("train_credit_risk_model")
        # The worker's name ends with the host name of its container, which is the start of the container's id.
        worker = worker_of(project, killed).partition("@")[2]
        project.start("docker", "exec", worker, "sh", "-c", "kill -9 -1")
        assert project.end(killed) == "FAILURE"
        assert "its Celery worker has died" in json.dumps(events(project, killed))

        project.run("docker", "exec", source, "touch", "/tmp/released")
        assert project.run_job("train_credit_risk_model") == "SUCCESS"
        assert platform.predicts()


@contextmanager
def slow_source(project: Project) -> Iterator[str]:
    """Run `SLOW_SOURCE` in a container of the project's network, and yield the container's id."""
    network, home = f"{project.name}_platform", f"{project.name}_home:/home/platform"
    command = ("run", "--detach", "--network", network, "--network-alias", "source", "--volume", home)
    image = ("--entrypoint", "python", f"platform-assets-service:{project.tag}")
    source = project.run("docker", *command, *image, "-c", SLOW_SOURCE, LOANS).split()[-1]
    try:
        yield source
    finally:
        project.run("docker", "rm", "--force", source)


@contextmanager
def celery_workers(project: Project) -> Iterator[None]:
    """Start Celery workers in containers: one that executes runs, and two that execute steps."""
    file = project.folder / "environments" / "staging.env"
    before = file.read_text()
    profile = ("--profile", "celery")
    try:
        file.write_text(before + "".join(f"{name}={value}\n" for name, value in CELERY.items()))
        project.compose(*profile, "up", "--no-start", "redis")
        # The volume must belong to the user of the container, even if the image has no folder /data.
        owner = ("--user", "0", "--volume", f"{project.name}_redis:/data", "--entrypoint", "chown", REDIS)
        project.run("docker", "run", "--rm", *owner, "redis", "/data")
        project.compose(*profile, "up", "--detach", "--no-build", "--scale", "worker-steps=2")
        wait_until(lambda: is_loaded(project), "Dagster's webserver had loaded the code location", SECONDS)
        yield
    finally:
        project.compose(*profile, "rm", "--stop", "--force", "redis", "worker-runs", "worker-steps")
        file.write_text(before)
        project.compose("up", "--detach", "--no-build")
        for service in IMAGES:
            wait_until(lambda one=service: is_healthy(project, one), f"{service} was healthy", SECONDS)  # type: ignore[misc]


def events(project: Project, run: str) -> list[dict[str, Any]]:
    return list(project.graphql(EVENTS, run=run)["logsForRun"]["events"])


def worker_of(project: Project, run: str) -> str:
    """Wait until a step of a run has started, and return the name of its Celery worker."""

    def has_started() -> bool:
        return any(event["__typename"] == "ExecutionStepStartEvent" for event in events(project, run))

    wait_until(has_started, lambda: f"a step had started: {events(project, run)}", SECONDS)
    entries = [entry for event in events(project, run) for entry in event.get("metadataEntries", ())]
    return str([entry["text"] for entry in entries if entry["label"] == "Celery worker"][-1])
