"""The Kubernetes jobs that dagster-k8s creates for runs and steps. A local server stands in for the cluster."""

from __future__ import annotations

import json
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING, Any

import dagster as dg
import pytest
import yaml

from platform_assets.base.errors import PlatformError
from platform_assets.orchestration.storage import dagster_instance
from platform_assets.settings import load_settings
from platform_assets_tests.orchestration.runs_elsewhere import created, launched, reconstructable
from platform_assets_tests.serving_thread import serving

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytest.importorskip("dagster_k8s", reason="needs the extra k8s: make test EXTRAS=k8s")
LOANS = dg.AssetKey(["credit_risk", "loans"])
PASSWORD = "hunter2hunter2"
CONFIG: dict[str, Any] = {
    "job_image": "registry.example/platform-assets-code:v1",
    "job_namespace": "platform",
    "service_account_name": "platform-runs",
    "dagster_home": "/platform/dagster",
    "env_config_maps": ["platform-settings"],
    "env_secrets": ["platform-database"],
    "resources": {"requests": {"cpu": "500m"}, "limits": {"memory": "4Gi"}},
    "volumes": [{"name": "config", "config_map": {"name": "platform-kubernetes"}}],
    "volume_mounts": [{"name": "config", "mount_path": "/platform/config"}],
    "load_incluster_config": False,
}


class Cluster(HTTPServer):
    """A server that stands in for the cluster. It accepts jobs for runs, and refuses jobs for steps with 403."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.jobs: list[tuple[str, dict[str, Any]]] = []


class _Handler(BaseHTTPRequestHandler):
    server: Cluster

    def do_POST(self) -> None:
        job = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.jobs.append((self.path, job))
        is_step = job["metadata"]["labels"]["app.kubernetes.io/component"] == "step_worker"
        self.send_response(403 if is_step else 201)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps({"message": "steps are forbidden"} if is_step else job).encode())

    def log_message(self, *_: object) -> None: ...


@contextmanager
def running_cluster() -> Iterator[Cluster]:
    cluster = Cluster()
    with serving(cluster):
        yield cluster


@pytest.fixture
def config(tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Path of a dagster-k8s configuration file. Environment variables make the platform use the file."""
    file = tmp_path / "kubernetes.yaml"
    variables = {
        "PLATFORM_HOME": str(tmp_path / "home"),
        "PLATFORM_DATABASE_URL": database_url,
        "PLATFORM_LAKE_URI": "s3://lake/tables",
        "PLATFORM_ESIOS_TOKEN": PASSWORD,
        "PLATFORM_EXECUTOR": "k8s",
        "PLATFORM_RUN_LAUNCHER": "k8s",
        "PLATFORM_KUBERNETES_CONFIG": str(file),
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    file.write_text(yaml.safe_dump({**CONFIG, "kubeconfig_file": str(tmp_path / "kubeconfig")}))
    return file


def write_kubeconfig(config: Path, cluster: Cluster) -> None:
    name = "test"
    found = {
        "clusters": [{"name": name, "cluster": {"server": f"http://127.0.0.1:{cluster.server_port}"}}],
        "users": [{"name": name, "user": {}}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
        "current-context": name,
    }
    (config.parent / "kubeconfig").write_text(yaml.safe_dump(found))


def assert_as_configured(path: str, job: dict[str, Any], command: str) -> None:
    assert path == "/apis/batch/v1/namespaces/platform/jobs"
    pod = job["spec"]["template"]["spec"]
    assert (pod["serviceAccountName"], pod["restartPolicy"]) == ("platform-runs", "Never")
    [container] = pod["containers"]
    assert container["args"][:3] == ["dagster", "api", command]
    assert container["image"] == CONFIG["job_image"]
    assert container["resources"] == CONFIG["resources"]
    assert container["envFrom"] == [
        {"configMapRef": {"name": "platform-settings"}},
        {"secretRef": {"name": "platform-database"}},
    ]
    assert [volume["name"] for volume in pod["volumes"]] == ["config"]
    variables = {one["name"]: one.get("value") for one in container["env"]}
    assert variables["DAGSTER_HOME"] == "/platform/dagster"
    assert variables["PLATFORM_LAKE_URI"] == "s3://lake/tables"
    assert variables["PLATFORM_EXECUTOR"] == "k8s"
    # The job contains no secret values, because its container reads them from the configured Secret.
    assert not {"PLATFORM_DATABASE_URL", "PLATFORM_ESIOS_TOKEN"} & set(variables)
    assert PASSWORD not in json.dumps(job)


@pytest.mark.requirement("PLT-9")
def test_runs_and_steps_become_kubernetes_jobs_with_the_configured_fields(config: Path) -> None:
    with running_cluster() as cluster, dagster_instance() as instance:
        write_kubeconfig(config, cluster)
        run = launched(instance, LOANS)
        [(path, job)] = cluster.jobs
        assert_as_configured(path, job, "execute_run")
        assert job["metadata"]["labels"]["dagster/run-id"] == run.run_id

        cluster.jobs.clear()
        execute = created(instance, LOANS)
        from dagster._core.execution.api import execute_run

        result = execute_run(reconstructable(), execute, instance)
        assert not result.success
        (path, job), *_ = cluster.jobs
        assert_as_configured(path, job, "execute_step")
        assert job["metadata"]["labels"]["dagster/op"] == "credit_risk__loans"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "must have at least the fields job_image and service_account_name"),
        ("- job_image", "must have at least the fields job_image and service_account_name"),
        ("{", "cannot be read: "),
        ("{job_image: a, service_account_name: b, job_namspace: c}", 'unexpected config entry "job_namspace"'),
        ("{job_image: a, service_account_name: b}", "no access to a Kubernetes cluster"),
    ],
)
def test_the_error_for_an_invalid_configuration_names_the_file_and_the_problem(
    config: Path, content: str, message: str
) -> None:
    config.write_text(content)
    from platform_assets.orchestration.kubernetes import kubernetes_launcher

    with pytest.raises(PlatformError, match="PLATFORM_KUBERNETES_CONFIG") as raised:
        kubernetes_launcher(load_settings())
    assert message in str(raised.value)
    assert str(load_settings().kubernetes_config) in str(raised.value)


def test_a_missing_configuration_raises_an_error(config: Path) -> None:
    config.unlink()
    from platform_assets.orchestration.kubernetes import kubernetes_launcher

    with pytest.raises(PlatformError, match="cannot be read: .*No such file"):
        kubernetes_launcher(load_settings())
