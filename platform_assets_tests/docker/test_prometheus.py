"""The alert rules and the dashboard, checked with `promtool` and with a real Prometheus server."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import requests
import yaml
from prometheus_client.parser import text_string_to_metric_families

from platform_assets.app import application
from platform_assets.web.worker_calls import WorkerCalls
from platform_assets.web.workers import Worker
from platform_assets_tests.landing.web_server import Page, running_web_server
from platform_assets_tests.monitoring.incidents.test_kinds import runbooks
from platform_assets_tests.ports import reserve_port
from platform_assets_tests.postgres import wait_until
from platform_assets_tests.service import api

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from platform_assets.services import Services
    from platform_assets_tests.landing.web_server import Server
    from platform_assets_tests.service import People

FOLDER = Path(__file__).parents[2] / "docker"
RULES = FOLDER / "prometheus" / "alerts.yml"
METRIC = re.compile(r"\b(?:platform|process)_[a-z_]+\b")

# For each alert rule: input series at intervals of one minute, and the minute at which the rule must fire. None means
# that it must not fire.
FIRING: dict[str, tuple[list[str], list[str], int | None]] = {
    "ServiceDown": (['up{job="platform", instance="a"}'], ["0x20"], 10),
    "DatabaseDown": (['platform_database_up{instance="a"}'], ["0x20"], 10),
    "RequestsFail": (
        [
            'platform_http_requests_total{instance="a", status="500"}',
            'platform_http_requests_total{instance="a", status="200"}',
        ],
        ["0+2x60", "0+100x60"],
        30,
    ),
    "RequestsSlow": (
        [
            f'platform_http_request_seconds_bucket{{instance="a", route="/predictions/x", le="{le}"}}'
            for le in ("0.5", "1.0", "+Inf")
        ],
        ["0+10x60", "0+100x60", "0+100x60"],
        30,
    ),
    "ModelFails": (['platform_model_failing{instance="a", model="m"}'], ["1x20"], 10),
    "PredictionsNotLogged": (['platform_prediction_log_dropped_total{instance="a"}'], ["0+1x20"], 15),
    "WorkerDown": (['platform_worker_up{instance="a", worker="2"}'], ["0x20"], 10),
    # `platform_shadow_up` changes between 0 and 1, because the shadow fails only on some rows.
    "ShadowFails": (
        [
            'platform_shadow_up{instance="a", model="m", version="2"}',
            'platform_shadow_failures_total{instance="a", model="m"}',
        ],
        ["0 0 1 0 1 1 0 1 0 1 0 1 1 0 1 0", "0+1x15"],
        12,
    ),
    "ShadowFails, not loaded": (['platform_shadow_up{instance="a", model="m", version="2"}'], ["0x20"], 10),
    "ShadowDropsRows": (
        [
            'platform_shadow_rows_total{instance="a", model="m"}',
            'platform_shadow_dropped_total{instance="a", model="m"}',
        ],
        ["0+90x40", "0+10x40"],
        20,
    ),
    "ShadowDropsRows, until the version is loaded": (
        [
            'platform_shadow_rows_total{instance="a", model="m"}',
            'platform_shadow_dropped_total{instance="a", model="m"}',
        ],
        ["0+100x40", "0 50x40"],
        None,
    ),
    "FeaturesOld": (['platform_features_age_seconds{table="t"}'], ["700000x120"], 90),
}


def rules() -> dict[str, dict[str, Any]]:
    return {rule["alert"]: rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]}


def expressions() -> list[str]:
    """Return the queries of the dashboard."""
    panels = json.loads((FOLDER / "grafana" / "dashboard.json").read_text())["panels"]
    return [target["expr"] for panel in panels for target in panel["targets"]]


def program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"needs {name}: apt-get install prometheus")
    return found


@pytest.mark.requirement("MON-3")
def test_promtool_accepts_the_rules_and_the_configuration(tmp_path: Path) -> None:
    promtool = program("promtool")
    (tmp_path / "alerts.yml").write_text(RULES.read_text())
    (tmp_path / "key").write_text("secret")
    configuration = (FOLDER / "prometheus" / "prometheus.yml").read_text()
    (tmp_path / "prometheus.yml").write_text(
        configuration.replace("/etc/prometheus/platform_key", str(tmp_path / "key"))
    )
    for arguments in (["check", "rules", "alerts.yml"], ["check", "config", "prometheus.yml"]):
        done = subprocess.run([promtool, *arguments], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "SUCCESS" in done.stdout


@pytest.mark.requirement("MON-3")
def test_each_alert_fires_after_its_condition_has_lasted_long_enough(tmp_path: Path) -> None:
    promtool = program("promtool")
    cases = [(case.partition(",")[0], *given) for case, given in FIRING.items()]
    assert {case[0] for case in cases} == set(rules())
    tests = []
    for alert, names, values, minute in cases:
        series = [{"series": name, "values": value} for name, value in zip(names, values, strict=True)]
        expected = [fires(alert, one, 0) for one in range(41)] if minute is None else [fires(alert, minute, 1)]
        tests.append({"interval": "1m", "input_series": series, "promql_expr_test": [fires(alert, 0, 0), *expected]})
    (tmp_path / "tests.yml").write_text(yaml.safe_dump({"rule_files": [str(RULES)], "tests": tests}))
    done = subprocess.run(
        [promtool, "test", "rules", "tests.yml"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def fires(alert: str, minute: int, times: int) -> dict[str, Any]:
    expression = f'count(ALERTS{{alertname="{alert}", alertstate="firing"}}) or vector(0)'
    return {"expr": expression, "eval_time": f"{minute}m", "exp_samples": [{"labels": "{}", "value": times}]}


class NoCalls(WorkerCalls):
    """A stub for calls to other worker processes: no worker ever answers."""

    def __init__(self) -> None: ...

    def answer(self, number: int, found: Callable[[], bytes]) -> None: ...

    def ask(self, numbers: Collection[int], seconds: float) -> dict[int, bytes]:  # noqa: ARG002 - as the base class
        return {}


@pytest.fixture
def scraped(services: Services, people: People) -> Iterator[Server]:
    """A web server that returns a real service's metrics and needs no key. The service has handled two requests."""
    app = application(services, worker=Worker(1, 2, NoCalls(), lambda: None))
    client = api(app, people.rita)
    with running_web_server() as server:
        client.get("/models")
        client.get("/predictions/unknown")
        server.pages["/metrics"] = Page(client.get("/metrics").content, {"Content-Type": "text/plain; version=0.0.4"})
        yield server


def exposed(server: Server) -> set[str]:
    """Return the names of the exposed series, with the suffixes that Prometheus adds."""
    families = list(text_string_to_metric_families(server.pages["/metrics"].content.decode()))
    names = {sample.name for family in families for sample in family.samples}
    # If a metric family has no samples yet, derive the names of its series from its type.
    suffixes = {"counter": ["_total"], "histogram": ["_bucket", "_count", "_sum"], "info": ["_info"], "gauge": [""]}
    return names | {family.name + suffix for family in families for suffix in suffixes.get(family.type, [""])}


@pytest.mark.requirement("MON-1")
def test_rules_and_dashboard_use_only_metrics_that_the_service_exposes(scraped: Server) -> None:
    used = {name for text in [*expressions(), RULES.read_text()] for name in METRIC.findall(text)}
    assert used - exposed(scraped) - {"platform_key"} == set()


@pytest.mark.requirement("MON-1")
def test_prometheus_accepts_every_query_of_the_dashboard(scraped: Server, tmp_path: Path) -> None:
    prometheus, port = program("prometheus"), reserve_port()
    configuration = {
        "global": {"scrape_interval": "1s"},
        "scrape_configs": [
            {"job_name": "platform", "static_configs": [{"targets": [scraped.url.removeprefix("http://")]}]}
        ],
    }
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(configuration))
    command = [prometheus, f"--web.listen-address=127.0.0.1:{port}", f"--storage.tsdb.path={tmp_path / 'data'}"]
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen([*command, f"--config.file={tmp_path / 'prometheus.yml'}"], stdout=log, stderr=log)

    def ask(expression: str) -> Any:
        answer = requests.get(f"http://127.0.0.1:{port}/api/v1/query", params={"query": expression}, timeout=10)
        assert answer.json()["status"] == "success", f"{expression}: {answer.text}"
        return answer.json()["data"]["result"]

    def has_two_samples() -> bool:
        try:
            return bool(ask('rate(process_cpu_seconds_total{job="platform"}[5m])'))
        except requests.RequestException:  # Prometheus does not listen yet, or returns 503 without JSON
            return False

    try:
        wait_until(has_two_samples, lambda: f"Prometheus had scraped: {(tmp_path / 'log').read_text()}")
        found = {expression: ask(expression) for expression in expressions()}
    finally:
        process.kill()
        process.wait()
    # Only the queries about predictions, champions and shadows are empty, because the service has no champion.
    empty = {name for expression, result in found.items() if not result for name in METRIC.findall(expression)}
    assert empty <= {
        *("platform_predictions_total", "platform_prediction_score_bucket", "platform_model_info"),
        *("platform_model_live", "platform_model_failing", "platform_model_reload_failures_total"),
        "platform_features_age_seconds",
        *("platform_shadow_up", "platform_shadow_rows_total", "platform_shadow_dropped_total"),
        "platform_shadow_failures_total",
    }


def test_each_alert_has_a_runbook() -> None:
    for name, rule in rules().items():
        assert rule["annotations"]["runbook"] == f"docs/alerts.md#{name.lower()}"
    assert set(rules()) <= runbooks()
