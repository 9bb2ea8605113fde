"""The Kubernetes manifests run the same containers as docker/compose.yaml, with only the permissions that they need.

`make infra` validates the manifests against Kubernetes's schemas and checkov's rules.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from functools import cache
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from platform_assets_tests.requirements import ROOT

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [
    pytest.mark.skipif(
        shutil.which("kubectl") is None, reason="needs kubectl: install it from https://kubernetes.io/docs/tasks/tools/"
    ),
    pytest.mark.requirement("OPS-3"),
]

FOLDER = ROOT / "infra" / "kubernetes"
COMPOSE = yaml.safe_load((ROOT / "docker" / "compose.yaml").read_text())["services"]
CONTAINERS = sorted(name for name, one in COMPOSE.items() if name != "database" and "profiles" not in one)
"""Containers that run in pods. Excluded: PostgreSQL, a separate server; Celery, not needed; SQL Server, an example."""
SETTINGS = dict(
    re.findall(r"^(?:# )?(PLATFORM_\w+)=(.*)$", (ROOT / "docker/environments/production.env").read_text(), re.MULTILINE)
)
"""Settings in production.env, including the examples that are commented out."""
ONLY_KUBERNETES = {"PLATFORM_LAKE_URI", "PLATFORM_MLFLOW_URL"}
"""Settings that only pods have. For example, pods share no volume, so their lake is in an object store."""
PORTS = {"PLATFORM_DAGSTER_PORT", "PLATFORM_MLFLOW_PORT"}
"""Settings that only containers have: the ports of Dagster and MLflow on the machine, which a user can change.

In development, links to Dagster and MLflow contain these ports. Pods have `PLATFORM_DAGSTER_URL` and
`PLATFORM_MLFLOW_URL` for links instead.
"""
ONLY_COMPOSE = {"celery_broker_url"}
"""Secrets that only docker/compose.yaml has, for optional containers."""
OVERLAYS = ("staging", "production")
VALUES = yaml.safe_load((FOLDER / "helm" / "values.yaml").read_text())
"""Values for Dagster's Helm chart."""
CHART = {
    "code": VALUES["dagster-user-deployments"]["deployments"][0],
    "webserver": VALUES["dagsterWebserver"],
    "daemon": VALUES["dagsterDaemon"],
}
"""Values of the pods that the chart creates."""


@cache
def rendered(folder: Path) -> tuple[dict[str, Any], ...]:
    done = subprocess.run(["kubectl", "kustomize", folder], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return tuple(yaml.safe_load_all(done.stdout))


def all_of(kind: str, folder: Path) -> dict[str, dict[str, Any]]:
    return {one["metadata"]["name"]: one for one in rendered(folder) if one["kind"] == kind}


def pods(folder: Path) -> dict[str, dict[str, Any]]:
    """Return the pod of each deployment and job."""
    found = all_of("Deployment", folder) | all_of("Job", folder)
    return {name: one["spec"]["template"]["spec"] for name, one in found.items()}


def variables(pod: dict[str, Any], folder: Path) -> dict[str, str]:
    """Return the environment variables of a pod's container."""
    [container] = pod["containers"]
    maps = all_of("ConfigMap", folder)
    found: dict[str, str] = {}
    for source in container.get("envFrom", ()):
        found |= maps[source["configMapRef"]["name"]]["data"]
    return found | {one["name"]: one["value"] for one in container.get("env", ())}


def overlay_with(components: str, folder: Path) -> Path:
    """Copy the manifests to a folder, and return the overlay production with these components."""
    shutil.copytree(FOLDER, folder / "kubernetes")
    overlay = folder / "kubernetes" / "production"
    with (overlay / "kustomization.yaml").open("a") as file:
        file.write(f"\ncomponents: [{components}]\n")
    return overlay


@pytest.fixture
def with_run_jobs(tmp_path: Path) -> Path:
    """The folder of an overlay that includes the component run-jobs."""
    return overlay_with("../run-jobs", tmp_path)


@pytest.fixture
def with_chart(tmp_path: Path) -> Path:
    """The folder of an overlay for use with Dagster's Helm chart."""
    return overlay_with("../run-jobs, ../helm", tmp_path / "chart")


@pytest.mark.parametrize("overlay", OVERLAYS)
@pytest.mark.parametrize("name", CONTAINERS)
def test_a_pod_has_the_secrets_and_variables_and_image_and_command_of_its_container(name: str, overlay: str) -> None:
    compose, pod = COMPOSE[name], pods(FOLDER / overlay)[name]
    [container] = pod["containers"]
    image = re.sub(r"\$\{REGISTRY:-\}|:\$\{TAG:-dev\}", "", compose["image"])
    assert re.fullmatch(rf"ghcr\.io/example/{image}:v[\d.]+", container["image"])
    assert container.get("args") == compose.get("command")
    assert "command" not in container
    there, here = compose["environment"], variables(pod, FOLDER / overlay)
    # All pods share one ConfigMap, so `migrate` has this setting in Kubernetes. Compose does not set it for `migrate`,
    # which uses MLflow's database instead of the MLflow server.
    unused = {"PLATFORM_MLFLOW_TRACKING_URI"} if name == "migrate" else set()
    assert set(there) - PORTS == set(here) - set(SETTINGS) - ONLY_KUBERNETES - unused
    own = ("PLATFORM_ENV", "PLATFORM_SOURCES", "PLATFORM_AUTOMATION")
    assert {one: here.get(one, SETTINGS[one]) for one in own} == {one: SETTINGS[one] for one in own}
    same = {"PLATFORM_MLFLOW_TRACKING_URI", *(variable for variable in here if variable.endswith("_FILE"))}
    assert {one: here[one] for one in same & set(here) - unused} == {one: there[one] for one in same & set(there)}
    mounted = {one["mountPath"] for one in container["volumeMounts"] if one["mountPath"].startswith("/run/secrets/")}
    assert mounted == {f"/run/secrets/{secret}" for secret in compose["secrets"] if secret not in ONLY_COMPOSE}
    assert container["resources"]["limits"]["memory"] == f"{compose['mem_limit'].removesuffix('g')}Gi"
    ports = {str(port["containerPort"]) for port in container.get("ports", ())}
    assert {port.rpartition(":")[2] for port in compose.get("ports", ())} <= ports


def test_each_container_of_compose_has_a_pod() -> None:
    assert sorted(pods(FOLDER / "staging")) == CONTAINERS


@pytest.mark.requirement("PRO-9")
@pytest.mark.parametrize("name", CONTAINERS)
def test_a_pod_has_only_the_permissions_that_it_needs(name: str) -> None:
    pod = pods(FOLDER / "production")[name]
    [container] = pod["containers"]
    assert (pod["automountServiceAccountToken"], pod["enableServiceLinks"]) == (False, False)
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] == 10001
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    if name != "migrate":
        assert {"startupProbe", "readinessProbe", "livenessProbe"} <= set(container)


@pytest.mark.requirement("PLT-8", "PRO-9")
def test_secrets_are_referenced_by_name_and_only_migrate_has_the_owners_secret(with_run_jobs: Path) -> None:
    assert not all_of("Secret", with_run_jobs)
    text = "\n".join(path.read_text() for path in FOLDER.rglob("*.yaml"))
    assert "postgresql://" not in text
    named = {
        name: {one["secret"]["secretName"] for one in pod["volumes"] if "secret" in one}
        for name, pod in pods(with_run_jobs).items()
    }
    owners = {name for name, secrets in named.items() if "platform-database-owner" in secrets}
    assert (owners, named["mlflow"]) == ({"migrate"}, {"platform-mlflow-database"})


def test_the_service_is_updated_and_scaled_without_downtime() -> None:
    folder = FOLDER / "production"
    service = all_of("Deployment", folder)["service"]["spec"]
    assert service["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
    [container] = service["template"]["spec"]["containers"]
    assert container["readinessProbe"]["httpGet"]["path"] == "/health/ready"
    assert container["livenessProbe"]["httpGet"]["path"] == "/health/live"
    assert all_of("HorizontalPodAutoscaler", folder)["service"]["spec"]["minReplicas"] == 2
    assert all_of("PodDisruptionBudget", folder)["service"]["spec"]["maxUnavailable"] == 1
    assert all_of("Deployment", folder)["daemon"]["spec"]["strategy"] == {"type": "Recreate"}


def test_only_the_service_the_webserver_and_mlflow_are_reachable_from_other_namespaces() -> None:
    policies = all_of("NetworkPolicy", FOLDER / "production")
    default = policies["default"]["spec"]
    assert (default["podSelector"], default["policyTypes"], "ingress" in default) == ({}, ["Ingress", "Egress"], False)
    reachable: set[str] = set()
    for policy in policies.values():
        sources = [one for rule in policy["spec"].get("ingress", ()) for one in rule["from"]]
        if any("namespaceSelector" in one for one in sources):
            chosen = policy["spec"]["podSelector"]
            reachable |= {*chosen.get("matchLabels", {}).values()}
            reachable |= {name for one in chosen.get("matchExpressions", ()) for name in one["values"]}
    assert reachable == {name for name, one in COMPOSE.items() if "ports" in one}


@pytest.mark.requirement("PRO-9")
def test_only_webserver_and_daemon_may_launch_jobs(with_run_jobs: Path) -> None:
    [role] = all_of("Role", with_run_jobs).values()
    rights = {(kind, verb) for rule in role["rules"] for kind in rule["resources"] for verb in rule["verbs"]}
    assert {kind for kind, verb in rights if verb in {"create", "delete", "update", "patch"}} == {"jobs"}
    assert "*" not in str(role["rules"])
    assert not all_of("ClusterRole", with_run_jobs)
    launching = {name for name, pod in pods(with_run_jobs).items() if pod["automountServiceAccountToken"] is not False}
    assert launching == {"webserver", "daemon"}
    assert {pods(with_run_jobs)[name]["serviceAccountName"] for name in launching} == {"launcher"}
    assert {pod["serviceAccountName"] for name, pod in pods(with_run_jobs).items() if name not in launching} == {
        "pipeline",
        "service",
        "migrate",
    }


def test_the_configuration_of_run_jobs_is_valid_and_restricts_their_pods(with_run_jobs: Path) -> None:
    launching = all_of("ConfigMap", with_run_jobs)["launcher"]["data"]
    run = yaml.safe_load(launching["launcher.yaml"])
    pod = run["run_k8s_config"]["pod_spec_config"]
    assert (run["service_account_name"], pod["automount_service_account_token"]) == ("pipeline", False)
    assert pod["security_context"]["run_as_non_root"] is True
    assert run["run_k8s_config"]["container_config"]["security_context"]["read_only_root_filesystem"] is True
    assert {one["name"] for one in pod["volumes"]} == {
        one["name"] for one in run["run_k8s_config"]["container_config"]["volume_mounts"]
    }
    kubernetes = pytest.importorskip("dagster_k8s", reason="needs the extra k8s: make test EXTRAS=k8s")
    from dagster._config import process_config

    checked = process_config(kubernetes.K8sRunLauncher.config_type(), {"instance_config_map": "none", **run})
    assert checked.success, checked.errors


@pytest.mark.parametrize("name", CHART)
def test_the_values_for_dagsters_chart_create_the_same_pods_as_the_manifests(name: str, with_run_jobs: Path) -> None:
    values, pod = CHART[name], pods(with_run_jobs)[name]
    [container] = pod["containers"]
    assert f"{values['image']['repository']}:{values['image']['tag']}" == container["image"]
    assert values["resources"] == container["resources"]
    assert values["securityContext"] == container["securityContext"]
    assert values["podSecurityContext"] == pod["securityContext"]
    for probe in ("readinessProbe", "startupProbe"):
        assert values[probe].keys() & {"exec", "httpGet"}
    # The chart replaces the entrypoint, which would read the URL of the database from a file.
    expected = variables(pod, with_run_jobs)
    assert expected.pop("PLATFORM_DATABASE_URL_FILE") == "/run/secrets/database_url"
    given = {one["name"]: one for one in values["env"]}
    secret = given.pop("PLATFORM_DATABASE_URL")["valueFrom"]["secretKeyRef"]
    assert secret in [
        {"name": one["secret"]["secretName"], "key": one["secret"]["items"][0]["key"]}
        for one in pod["volumes"]
        if "secret" in one
    ]
    home = given.pop("DAGSTER_HOME")["value"]
    assert re.search(rf"^ +DAGSTER_HOME={home} ", (ROOT / "docker/Dockerfile").read_text(), re.MULTILINE)
    assert {name: one["value"] for name, one in given.items()} == expected
    volumes = {one["name"]: one for one in values["volumes"]}
    assert [one for one in pod["volumes"] if "secret" not in one and volumes.get(one["name"]) != one] == []
    mounted = [one for one in container["volumeMounts"] if not one["mountPath"].startswith("/run/secrets/")]
    assert [one for one in mounted if one not in values["volumeMounts"]] == []


def test_the_chart_starts_the_code_location_that_its_webserver_and_daemon_load() -> None:
    code = CHART["code"]
    [command] = re.findall(
        r'^CMD (\["dagster", "code-server".*\])$', (ROOT / "docker/Dockerfile").read_text(), re.MULTILINE
    )
    started = ["dagster", "code-server", "start", "--host", "0.0.0.0", "--port", str(code["port"])]
    assert json.loads(command) == [*started, *code["codeServerArgs"]]
    workspace = VALUES["dagsterWebserver"]["workspace"]
    name = code["codeServerArgs"][-1]
    assert workspace == {"enabled": True, "servers": [{"host": code["name"], "port": code["port"], "name": name}]}


def test_the_chart_replaces_three_deployments_and_gets_their_accounts_and_connections(with_chart: Path) -> None:
    assert sorted(pods(with_chart)) == sorted(set(CONTAINERS) - set(CHART))
    assert sorted(all_of("Service", with_chart)) == ["mlflow", "service"]
    accounts = all_of("ServiceAccount", with_chart)
    assert VALUES["serviceAccount"] == {"create": False, "name": "launcher"}
    assert VALUES["dagster-user-deployments"]["serviceAccount"] == {"create": False, "name": "pipeline"}
    tokens = {name: account["automountServiceAccountToken"] for name, account in accounts.items()}
    assert tokens == {"launcher": True, "migrate": False, "pipeline": False, "service": False}
    assert not VALUES["rbacEnabled"]
    [connection] = all_of("NetworkPolicy", with_chart)["chart-webserver"]["spec"]["ingress"]
    assert connection["ports"] == [{"protocol": "TCP", "port": VALUES["dagsterWebserver"]["service"]["port"]}]


def test_the_documented_version_of_the_chart_is_the_locked_version_of_dagster() -> None:
    [locked] = re.findall(r'^name = "dagster"\nversion = "(.*)"$', (ROOT / "uv.lock").read_text(), re.MULTILINE)
    installed = re.findall(r"helm upgrade .* --version (\S+)", (ROOT / "docs/deployment.md").read_text())
    assert installed == [locked]
