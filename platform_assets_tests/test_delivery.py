"""Continuous delivery: the workflows, the make targets that they run, and the scripts of the containers."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from platform_assets_tests.requirements import ROOT

WORKFLOWS = {path.stem: yaml.safe_load(path.read_text()) for path in (ROOT / ".github" / "workflows").glob("*.yml")}
MAKEFILE = (ROOT / "Makefile").read_text()
DOCKER = ROOT / "docker"
ONLY_ON_GITHUB = (
    "docker exec",
    "docker login",
    "docker pull",
    "gh release",
    "go run github.com/zricethezav/gitleaks",
    'grep "quality gate"',
)
"""Parts of workflow lines that work only on GitHub, because they need its accounts, images or run summaries."""


def jobs() -> list[tuple[str, dict[str, Any]]]:
    return [(f"{file}: {name}", job) for file, flow in WORKFLOWS.items() for name, job in flow["jobs"].items()]


def run(*command: str | Path, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.environ["PATH"], **variables}
    return subprocess.run(command, env=environment, check=False, capture_output=True, text=True)


def made(target: str) -> subprocess.CompletedProcess[str]:
    """Run the recipe of a make target, without installing anything first."""
    [recipe] = re.findall(rf"^{target}: .*\n((?:\t.+\n)+)", MAKEFILE, re.MULTILINE)
    version = re.findall(r"^UV_VERSION := (.+)$", MAKEFILE, re.MULTILINE)[0]
    lines = re.sub(r"^\t@?", "", recipe, flags=re.MULTILINE).replace("$(UV_VERSION)", version)
    lines = lines.replace("$(VENV)", str(Path(sys.executable).parent))
    return subprocess.run(["bash", "-ec", lines], cwd=ROOT, check=False, capture_output=True, text=True)


@pytest.mark.requirement("OPS-2")
@pytest.mark.parametrize(("name", "job"), jobs())
def test_a_job_has_minimal_permissions_and_pinned_actions(name: str, job: dict[str, Any]) -> None:
    flow = WORKFLOWS[name.partition(":")[0]]
    assert flow["permissions"] in ({}, {"contents": "read"})
    written = {scope for scope, access in job.get("permissions", {}).items() if access == "write"}
    assert written <= ({"contents", "packages"} if name.startswith("release") else set())
    for step in job.get("steps", ()):
        assert re.fullmatch(r"[\w/-]+@[0-9a-f]{40}", step.get("uses", "a@" + "0" * 40))
    assert "timeout-minutes" in job or "uses" in job


@pytest.mark.requirement("OPS-2")
def test_workflow_lines_run_make_targets_unless_they_need_github() -> None:
    lines = [step["run"] for _, job in jobs() for step in job.get("steps", ()) if "run" in step]
    targets = {target for line in lines for target in re.findall(r"^make ([a-z ]+)", line)}
    assert {name for names in targets for name in names.split()} <= set(
        re.findall(r"^([a-z]+):", MAKEFILE, re.MULTILINE)
    )
    rest = [line for line in lines if not line.startswith(("make ", ".ci/run")) and " make deploy" not in line]
    assert [line for line in rest if not any(one in line for one in ONLY_ON_GITHUB)] == []


@pytest.mark.requirement("OPS-2")
def test_a_release_is_deployed_to_staging_before_production() -> None:
    staging, production = (WORKFLOWS["deploy"]["jobs"][name] for name in ("staging", "production"))
    assert (staging["with"]["environment"], production["with"]["environment"]) == ("staging", "production")
    assert production["needs"] == "staging"
    # The job names its environment, so that GitHub waits for the approval of the environment's reviewers.
    assert WORKFLOWS["deploy-to"]["jobs"]["deploy"]["environment"] == "${{ inputs.environment }}"


@pytest.mark.release
@pytest.mark.slow
@pytest.mark.requirement("OPS-2")
@pytest.mark.parametrize("target", ["delivery", "infra", "wheel", "sbom"])
def test_a_make_target_of_a_workflow_succeeds(target: str) -> None:
    done = made(target)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.requirement("OPS-1")
def test_the_entrypoint_reads_secrets_from_files(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("p@ss $word'")
    done = run(DOCKER / "entrypoint.sh", "env", PLATFORM_DATABASE_URL_FILE=str(secret), OTHER_FILE="x")
    lines = done.stdout.splitlines()
    assert "PLATFORM_DATABASE_URL=p@ss $word'" in lines
    assert "OTHER_FILE=x" in lines
    assert not any(line.startswith("PLATFORM_DATABASE_URL_FILE") for line in lines)


@pytest.mark.requirement("OPS-1")
def test_a_command_in_a_running_container_receives_the_secrets(tmp_path: Path) -> None:
    # `docker compose exec` bypasses the entry point, so the script `platform-assets` must call it. Copy both scripts,
    # and adapt their paths.
    secret, program = tmp_path / "secret", tmp_path / "package" / "bin" / "platform-assets"
    secret.write_text("postgresql://a")
    program.parent.mkdir(parents=True)
    program.write_text('#!/bin/sh\necho "$PLATFORM_DATABASE_URL $*"\n')
    program.chmod(0o755)
    shutil.copy(DOCKER / "entrypoint.sh", tmp_path)
    wrapper = tmp_path / "platform-assets"
    wrapper.write_text((DOCKER / "platform-assets").read_text().replace("/platform/", f"{tmp_path}/"))
    wrapper.chmod(0o755)
    done = run(wrapper, "keys", "list", PLATFORM_DATABASE_URL_FILE=str(secret))
    assert done.stdout == "postgresql://a keys list\n", done.stderr


@pytest.mark.requirement("OPS-1")
def test_the_entrypoint_fails_if_a_secret_is_missing(tmp_path: Path) -> None:
    done = run(DOCKER / "entrypoint.sh", "env", PLATFORM_DATABASE_URL_FILE=str(tmp_path / "none"))
    assert done.returncode != 0
    assert "none" in done.stderr
    assert done.stdout == ""


@pytest.mark.requirement("OPS-1")
def test_secrets_are_random_and_never_replaced(tmp_path: Path) -> None:
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        folder.mkdir()
        (folder / "make-secrets").write_text((DOCKER / "make-secrets").read_text())
        assert run("sh", folder / "make-secrets").returncode == 0
    first, second = ({file.name: file.read_text() for file in (one / "secrets").iterdir()} for one in folders)
    assert set(first) == set(yaml.safe_load((DOCKER / "compose.yaml").read_text())["secrets"])
    assert not set(first.values()) & set(second.values())
    assert first["app_password"] in first["database_url"]
    assert stat.S_IMODE((folders[0] / "secrets").stat().st_mode) == 0o700
    assert run("sh", folders[0] / "make-secrets").returncode == 0
    assert {file.name: file.read_text() for file in (folders[0] / "secrets").iterdir()} == first


@pytest.mark.requirement("OPS-5")
@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((), "deploy: ENV is missing: make deploy ENV=staging TAG=v1.2.3"),
        (("ENV=staging",), "deploy: TAG is missing: make deploy ENV=staging TAG=v1.2.3"),
        (
            ("ENV=prod", "TAG=v1"),
            "there is no docker/environments/prod.env; ENV is one of: development production staging",
        ),
        (("ENV=staging", "TAG=v1"), "deploy: docker/secrets does not exist; run docker/make-secrets first"),
        (("ENV=../environments/staging", "TAG=v1"), "ENV is '../environments/staging'; it must be a name"),
        (("ENV=staging", "TAG=--help"), "TAG is '--help'; it must be a valid image tag"),
        (("ENV=staging", "TAG=v1 v2"), "TAG is 'v1 v2'; it must be a valid image tag"),
        (("ENV=staging", "TAG=v1", "DEPLOY_SECONDS=5m"), "DEPLOY_SECONDS is '5m'; it must be a number of seconds"),
    ],
)
def test_a_deployment_without_its_arguments_or_secrets_is_refused(
    tmp_path: Path, arguments: tuple[str, ...], told: str
) -> None:
    shutil.copytree(DOCKER, tmp_path / "docker", ignore=shutil.ignore_patterns("secrets"))
    done = run("make", "--silent", "--file", ROOT / "Makefile", "--directory", tmp_path, "deploy", *arguments)
    assert done.returncode != 0
    assert told in done.stderr


@pytest.mark.requirement("OPS-5")
def test_a_deployment_is_refused_while_another_deployment_of_the_environment_runs(tmp_path: Path) -> None:
    shutil.copytree(DOCKER, tmp_path / "docker", ignore=shutil.ignore_patterns("secrets"))
    (tmp_path / "docker" / "secrets").mkdir()
    with (tmp_path / "docker" / ".deploying.staging").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = run(tmp_path / "docker" / "deploy", "staging", "v1")
    assert done.returncode != 0
    assert "another deployment of staging is running" in done.stderr


@pytest.mark.requirement("OPS-5")
def test_a_deployment_does_not_replace_the_containers_of_another_environment(tmp_path: Path) -> None:
    shutil.copytree(DOCKER, tmp_path / "docker", ignore=shutil.ignore_patterns("secrets"))
    (tmp_path / "docker" / "secrets").mkdir()
    # Replace Docker Compose with a script that records the project name and fails.
    called = tmp_path / "called"
    for name in ("docker", "docker-compose"):
        program = tmp_path / "bin" / name
        program.parent.mkdir(exist_ok=True)
        program.write_text(f"#!/bin/sh\necho $COMPOSE_PROJECT_NAME >> {called}\nexit 1\n")
        program.chmod(0o755)
    path = f"{tmp_path / 'bin'}:{os.environ['PATH']}"

    def deployed(project: str) -> str:
        return run(tmp_path / "docker" / "deploy", "production", "v1", PATH=path, COMPOSE_PROJECT_NAME=project).stderr

    assert "COMPOSE_PROJECT_NAME is platform-staging, which is not the project of production" in deployed(
        "platform-staging"
    )
    assert not called.exists()
    for project in ("platform-production", "docker"):
        assert f"v1 failed, and there is no previous version; the containers of {project} were kept" in deployed(
            project
        )
        assert set(called.read_text().split()) == {project}
        called.unlink()


@pytest.mark.requirement("OPS-1", "PLT-4")
def test_the_environments_have_valid_settings(tmp_path: Path) -> None:
    files = list((DOCKER / "environments").glob("*.env"))
    assert {file.stem for file in files} == {"development", "staging", "production"}
    for file in files:
        given = dict(line.split("=", 1) for line in file.read_text().splitlines() if not line.startswith("#"))
        url = {"PLATFORM_DATABASE_URL": "postgresql://platform_app@database/platform"}
        command = [
            sys.executable,
            "-c",
            "from platform_assets.settings import load_settings; print(load_settings().env)",
        ]
        done = run(*command, **given, **url, PYTHONPATH=str(ROOT), PLATFORM_HOME=str(tmp_path))
        assert done.stdout.strip() == ("development" if file.stem == "development" else "production"), done.stderr


@pytest.mark.requirement("OPS-1", "PRO-9")
def test_only_the_database_and_migrate_containers_have_the_owners_password() -> None:
    services = yaml.safe_load((DOCKER / "compose.yaml").read_text())["services"]
    owners = {"owner_password", "owner_database_url"}
    assert {name for name, one in services.items() if owners & set(one.get("secrets", ()))} == {"database", "migrate"}
    ports = {name: one["ports"] for name, one in services.items() if "ports" in one}
    assert ports.keys() == {"mlflow", "webserver", "service"}
    # Dagster and MLflow have no sign-in, so only this machine may reach them.
    assert all(port.startswith("127.0.0.1:") for published in ports.values() for port in published)
    assert services["database"]["networks"] == ["database"]
    for name in set(services) - {"database", "sqlserver"}:
        assert services[name]["read_only"], name
        assert services[name]["cap_drop"] == ["ALL"], name


@pytest.mark.requirement("OPS-1")
def test_each_container_that_reads_the_settings_has_the_celery_secret() -> None:
    services = yaml.safe_load((DOCKER / "compose.yaml").read_text())["services"]
    # The settings can contain PLATFORM_CELERY_BROKER_URL_FILE, and the entry point fails if that file is missing.
    assert [
        name for name, one in services.items() if "env_file" in one and "celery_broker_url" not in one["secrets"]
    ] == []
