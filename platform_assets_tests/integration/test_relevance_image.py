"""The relevance service, started as in its image, with the command, settings and libraries of the Dockerfile.

Only the last test builds the image. The other tests parse the Dockerfile.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import requests

from platform_assets.serving.bundles import FILE, open_bundle
from platform_assets_tests.containers import compose_command
from platform_assets_tests.ports import reserve_port
from platform_assets_tests.postgres import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

ROOT = Path(__file__).parents[2]
KEY = "key-of-the-test"
KEYS = f"shop:predict:{hashlib.sha256(KEY.encode()).hexdigest()}"
SECONDS = 120
# Import hook that rejects libraries that the image does not contain.
ONLY_THE_IMAGE_S = """
import os, sys
from importlib.metadata import packages_distributions

class OnlyTheImages:
    there = set(os.environ["LIBRARIES_OF_THE_IMAGE"].split())
    known = packages_distributions()

    def find_spec(self, name, path=None, target=None):
        owners = {one.lower().replace("_", "-") for one in self.known.get(name.partition(".")[0], ())}
        if owners and not owners & self.there:
            raise ModuleNotFoundError(f"the image has no {name}", name=name)

sys.meta_path.insert(0, OnlyTheImages())
"""


@dataclass(frozen=True)
class Image:
    """A parsed Dockerfile."""

    text: str

    @property
    def environment(self) -> Mapping[str, str]:
        """Return the environment variables of the image."""
        [block] = re.findall(r"^ENV ((?:.*\\\n)*.*)", self.text, re.MULTILINE)
        return dict(pair.split("=", 1) for pair in block.replace("\\\n", " ").split())

    @property
    def command(self) -> list[str]:
        """Return the command."""
        command: list[str] = json.loads(re.findall(r"^CMD (.*)", self.text, re.MULTILINE)[-1])
        return command

    @property
    def health_check(self) -> list[str]:
        """Return the command of the health check."""
        [command] = re.findall(r"^HEALTHCHECK .*\\\n +CMD (.*)", self.text, re.MULTILINE)
        check: list[str] = json.loads(command)
        return check

    def source_of(self, place: str) -> Path:
        """Return the project's file or folder that the Dockerfile copies to `place`."""
        [source] = re.findall(rf"^COPY (\S+) {re.escape(place)}$", self.text, re.MULTILINE)
        return ROOT / str(source)

    @property
    def libraries(self) -> set[str]:
        """Return the packages of the image's dependency group, according to the lock file."""
        [group] = re.findall(r"--only-group (\w+)", self.text)
        [uv] = ROOT.glob(".uv/*/bin/uv")
        command = [uv, "export", "--frozen", "--offline", "--no-hashes", "--no-emit-project", "--only-group", group]
        done = subprocess.run(
            [*command, "--python", sys.executable], cwd=ROOT, check=True, capture_output=True, text=True
        )
        return set(re.findall(r"^([a-z0-9.-]+)==", done.stdout, re.MULTILINE)) | {"platform-assets"}


IMAGE = Image((ROOT / "Dockerfile").read_text())


@dataclass
class Service:
    """A running relevance service."""

    process: subprocess.Popen[str]
    address: str
    environment: Mapping[str, str]

    def get(self, path: str) -> requests.Response:
        return requests.get(self.address + path, headers=bearer(KEY), timeout=SECONDS)

    def ask(self, sentence: str, key: str = KEY) -> requests.Response:
        address = f"{self.address}/predictions/sentence-relevance"
        return requests.post(address, json={"sentence": sentence}, headers=bearer(key), timeout=SECONDS)


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def environment_of(tmp_path: Path, bundle: Path, **variables: str) -> dict[str, str]:
    """Return the image's environment variables, with this test's folders and the hook `ONLY_THE_IMAGE_S`."""
    guard = tmp_path / "guard"
    guard.mkdir()
    (guard / "sitecustomize.py").write_text(ONLY_THE_IMAGE_S)
    given = IMAGE.environment
    return {
        **given,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PLATFORM_BUNDLE": str(bundle),
        "PLATFORM_HOME": str(tmp_path / "home"),
        "PYTHONPATH": str(guard),
        "LIBRARIES_OF_THE_IMAGE": " ".join(IMAGE.libraries),
        **variables,
    }


@contextmanager
def started(environment: dict[str, str]) -> Iterator[Service]:
    """Start the service as Cloud Run does, with the port in the variable PORT."""
    port = reserve_port()
    environment["PORT"] = str(port)
    quiet, kept = subprocess.DEVNULL, subprocess.PIPE
    process = subprocess.Popen(IMAGE.command, env=environment, stdout=quiet, stderr=kept, text=True)
    service = Service(process, f"http://127.0.0.1:{port}", environment)
    try:
        wait_until(lambda: process.poll() is not None or is_ready(service), "the service was ready")
        yield service
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()


def is_ready(service: Service) -> bool:
    try:
        return service.get("/health/ready").ok
    except requests.ConnectionError:
        return False


@pytest.mark.requirement("REL-3", "OPS-3")
def test_the_image_serves_the_committed_model_without_a_database(tmp_path: Path) -> None:
    folder = IMAGE.source_of(IMAGE.environment["PLATFORM_BUNDLE"])
    bundle = open_bundle(folder)
    assert bundle.demo
    with started(environment_of(tmp_path, folder, PLATFORM_API_KEYS=KEYS)) as service:
        assert service.process.poll() is None, service.process.communicate()[1]
        answer = service.ask("Wildfire near the town, hundreds of residents evacuated http://t.co/x")
        assert answer.status_code == 200, answer.text
        said = answer.json()
        assert (said["model_version"], said["approval_id"]) == (str(bundle.version), bundle.approval_id)
        assert said["threshold"] == bundle.threshold
        assert said["relevant"] is (said["score"] >= bundle.threshold)
        assert service.ask("lol", key="another").status_code == 401
        [model] = service.get("/models").json()
        assert (model["champion"]["digest"], model["champion"]["demo"]) == (bundle.digest, True)
        paths = service.get("/openapi.json").json()["paths"]
        assert "/predictions/sentence-relevance" in paths
        assert not [path for path in paths if "approvals" in path or "credit" in path]
        assert service.get("/docs").status_code == 200
        subprocess.run([sys.executable, *IMAGE.health_check[1:]], env=service.environment, check=True)
        service.process.send_signal(signal.SIGTERM)
        _, log = service.process.communicate(timeout=SECONDS)
        assert service.process.returncode == 0, log
    [row] = [line for line in map(json.loads, log.splitlines()) if line["message"] == "prediction"]
    assert row["model"] == bundle.model
    assert not (tmp_path / "home" / "postgres").exists()


@pytest.mark.requirement("REL-3")
def test_a_bundle_with_an_altered_artefact_is_not_served(tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    shutil.copytree(IMAGE.source_of(IMAGE.environment["PLATFORM_BUNDLE"]), folder)
    [file] = (folder / "models").iterdir()
    file.write_bytes(file.read_bytes() + b" ")
    with started(environment_of(tmp_path, folder, PLATFORM_API_KEYS=KEYS)) as service:
        assert service.process.wait(SECONDS) == 1
        _, told = service.process.communicate()
    assert "was altered: the digest of its" in told
    assert "Traceback" not in told


@pytest.mark.requirement("SRV-1")
def test_the_image_does_not_start_without_api_keys(tmp_path: Path) -> None:
    folder = IMAGE.source_of(IMAGE.environment["PLATFORM_BUNDLE"])
    with started(environment_of(tmp_path, folder)) as service:
        assert service.process.wait(SECONDS) == 1
        _, told = service.process.communicate()
    assert "Set PLATFORM_API_KEYS to name:predict+read:sha256" in told
    assert "Traceback" not in told


@pytest.mark.requirement("OPS-3")
def test_the_deploy_button_asks_for_the_api_keys() -> None:
    asked = json.loads((ROOT / "app.json").read_text())
    assert list(asked["env"]) == ["PLATFORM_API_KEYS"]
    assert "deploy.cloud.run" in (ROOT / "README.md").read_text()


def test_dockerignore_allows_exactly_the_files_that_the_build_copies() -> None:
    lines = (ROOT / ".dockerignore").read_text().split()
    files = IMAGE.text + (ROOT / "docker" / "Dockerfile").read_text()
    copied = set(" ".join(re.findall(r"^COPY (?!--from)(.+) \S+$", files, re.MULTILINE)).split())
    assert lines[0] == "*"
    assert sorted(line[1:] for line in lines if line.startswith("!")) == sorted(copied)
    assert all((ROOT / name).exists() for name in copied)
    assert (IMAGE.source_of(IMAGE.environment["PLATFORM_BUNDLE"]) / FILE).exists()


@pytest.mark.release
@pytest.mark.slow
@pytest.mark.timeout(2_400)
@pytest.mark.requirement("REL-3", "OPS-3")
def test_the_read_only_container_serves_on_the_given_port_and_stops_on_sigterm() -> None:
    compose_command()
    name, port = f"relevance-test-{os.getpid()}", reserve_port()
    locked = ("--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL", "--security-opt", "no-new-privileges:true")
    given = ("--env", "PORT=9090", "--env", f"PLATFORM_API_KEYS={KEYS}", "--publish", f"127.0.0.1:{port}:9090")

    def docker(*command: str) -> str:
        done = subprocess.run(["docker", *command], check=False, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.strip()

    docker("build", "--tag", name, str(ROOT))
    try:
        docker("run", "--detach", "--name", name, *locked, *given, name)
        health = ("inspect", "--format", "{{.State.Health.Status}}", name)
        wait_until(lambda: docker(*health) == "healthy", lambda: docker("logs", name))
        address = f"http://127.0.0.1:{port}/predictions/sentence-relevance"
        sentence = {"sentence": "Wildfire near the town, hundreds of residents evacuated http://t.co/x"}
        answer = requests.post(address, json=sentence, headers=bearer(KEY), timeout=SECONDS)
        assert (answer.status_code, answer.json()["relevant"]) == (200, True), answer.text
        assert docker("exec", name, "id", "-u") == "10001"
        docker("stop", "--time", "60", name)
        assert docker("inspect", "--format", "{{.State.ExitCode}}", name) == "0"
    finally:
        subprocess.run(["docker", "rm", "--force", name], check=False, capture_output=True)
        subprocess.run(["docker", "image", "rm", "--force", name], check=False, capture_output=True)
