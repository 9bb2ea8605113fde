"""A real server under load: responses match the OpenAPI description, and stay correct while champions change."""

from __future__ import annotations

import itertools
import subprocess
import sys
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hypothesis
import jsonschema_rs
import pytest
import requests
import schemathesis
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi import checks

from platform_assets.app import application
from platform_assets.domains.credit_risk.model import MODEL
from platform_assets.domains.esios_demand.issued_forecasts import IssuedForecasts
from platform_assets.domains.sensor_maintenance.model import MODEL as SENSORS
from platform_assets.domains.sentence_relevance.model import MODEL as SENTENCES
from platform_assets_tests.approval.evidence_proposals import proposal
from platform_assets_tests.domains.esios_demand.test_forecast_errors import issued
from platform_assets_tests.domains.sensor_maintenance.plant import Plant
from platform_assets_tests.postgres import wait_until
from platform_assets_tests.service import keys_of, served, wait_until_live
from platform_assets_tests.serving import credit, sentences

if TYPE_CHECKING:
    from collections.abc import Iterator

    from schemathesis.generation.case import Case

    from platform_assets.models.fitted_model import FittedModel
    from platform_assets.services import Services

# This module is slow, because a hundred champions are loaded one after the other.
pytestmark = pytest.mark.slow

PREDICTIONS = "/predictions/credit-risk"
CLIENTS = [credit.FIRST_CLIENT + number for number in range(40)]
EXAMPLES = 25
SWAPS = 100
# Pause between two requests of one client. It leaves processor time for loading champions, and each champion still gets
# several requests.
PAUSE_SECONDS = 0.05
THRESHOLDS = (0.3, 0.6)
CONFORMS = [
    not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
]


@pytest.fixture(scope="module")
def models(services: Services) -> tuple[FittedModel, FittedModel]:
    """Two models whose scores differ for every client."""
    credit.publish_features(services, len(CLIENTS))
    return credit.fitted(services), credit.fitted(services, "boosting")


@pytest.fixture(scope="module")
def before(services: Services, models: tuple[FittedModel, FittedModel], key: str) -> Iterator[tuple[str, Any]]:
    """The address of the service, and its responses before there was a champion."""
    assert models
    with served(application(services)) as address:
        asks = {"headers": {"Authorization": f"Bearer {key}"}, "timeout": 60}
        wait_until(lambda: requests.get(f"{address}/health/ready", timeout=60).ok, "the service was ready")
        answer = requests.post(f"{address}{PREDICTIONS}", json={"client_id": CLIENTS[0]}, **asks)  # type: ignore[arg-type]
        ready = requests.get(f"{address}/health/ready", timeout=60).json()
        listed = requests.get(f"{address}/models", **asks).json()  # type: ignore[arg-type]
        yield address, (answer, ready, listed)


@pytest.fixture(scope="module")
def key(services: Services) -> str:
    """A key with all scopes."""
    return keys_of(services).add("all", "all", {"read", "predict", "label", "trace", "approve"})


@pytest.fixture(scope="module")
def address(services: Services, models: tuple[FittedModel, FittedModel], before: tuple[str, Any]) -> str:
    """The address of the service, once all models have a champion."""
    credit.crown(services, models[1], 1, THRESHOLDS[1])
    sentences.crown(services, sentences.fitted(), 1)
    Plant(services).promote(2.0)
    wait_until_live(services, MODEL.name, SENTENCES.name, SENSORS.name)
    return before[0]


@pytest.fixture(scope="module")
def described(address: str) -> dict[str, Any]:
    """The OpenAPI description of the service."""
    found: dict[str, Any] = requests.get(f"{address}/openapi.json", timeout=60).json()
    return found


@pytest.mark.requirement("CRE-4", "PRO-8")
def test_the_503_for_a_prediction_request_without_a_champion_names_the_approval_page(before: tuple[str, Any]) -> None:
    answer, ready, listed = before[1]
    assert answer.status_code == 503
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["retry-after"] == "5"
    found = answer.json()
    assert found["type"] == "urn:platform-assets:no-champion"
    assert "/approvals" in found["detail"]
    assert ready["status"] == "ready"
    assert MODEL.name in ready["without_champion"]
    assert {"model": MODEL.name, "champion": None, "failure": None, "shadow": None} in listed


@pytest.mark.requirement("SRV-1")
@pytest.mark.parametrize("mode", GenerationMode)
def test_all_responses_match_the_openapi_description(address: str, key: str, mode: GenerationMode) -> None:
    schema = schemathesis.openapi.from_url(f"{address}/openapi.json")
    session = requests.Session()
    asked: Counter[str] = Counter()
    for result in schema.get_all_operations():
        assert isinstance(result, Ok)
        operation = result.ok()

        def ask(case: Case[Any]) -> None:
            response = case.call(session=session, headers={"Authorization": f"Bearer {key}"})
            # A body for one of these routes can match the schema and still be invalid, because a schema cannot express
            # all rules. For example, a period must end after its start.
            ruled = case.path.endswith(("/decision", "/queries", "/labels/{model}"))
            wanted = [] if ruled else [checks.positive_data_acceptance]
            case.validate_response(response, checks=[*CONFORMS, *wanted])
            asked[f"{case.method} {case.path}"] += 1

        try:
            strategy = operation.as_strategy(mode)
            hypothesis.settings(
                max_examples=EXAMPLES, database=None, suppress_health_check=list(hypothesis.HealthCheck)
            )(hypothesis.given(case=strategy)(ask))()
        except hypothesis.errors.Unsatisfiable:
            # For an operation without parameters, no invalid request can be generated.
            assert mode is GenerationMode.NEGATIVE
            assert not operation.path_parameters
    assert {
        "GET /features/credit-risk/{client_id}",
        "POST /predictions/credit-risk",
        "POST /predictions/sentence-relevance",
    } <= set(asked)


@pytest.mark.requirement("SRV-1")
def test_successful_responses_match_the_openapi_description(address: str, key: str, services: Services) -> None:
    """Valid requests are sent, because random ones to most of these routes never succeed."""
    pending = services.ledger.open_request(proposal()).id
    [plot, *_] = services.ledger.request(pending).plot_digests
    IssuedForecasts(lambda: services.database).add(issued(date(2017, 3, 25)), {})
    session = requests.Session()
    session.headers["Authorization"] = f"Bearer {key}"
    session.post(f"{address}{PREDICTIONS}", json={"client_id": CLIENTS[0]}, headers={"X-Request-ID": "known"})
    wait_until(lambda: services.prediction_log.queued == 0, "the prediction was logged")
    known: dict[tuple[str, str], dict[str, Any]] = {
        ("GET", "/features/credit-risk/{client_id}"): {"path_parameters": {"client_id": CLIENTS[0]}},
        ("GET", "/forecasts/demand"): {"query": {"date": "2017-03-25"}},
        ("GET", "/trace/{request_id}"): {"path_parameters": {"request_id": "known"}},
        ("POST", "/labels/{model}"): {
            "path_parameters": {"model": MODEL.name},
            "body": {"label": 1, "observed_at": datetime.now(UTC).isoformat(), "request_id": "known"},
        },
        # The sample papers contain papers on helium.
        ("POST", "/arxiv"): {"body": {"title": "helium"}},
        ("POST", "/queries"): {"body": {"query_timestamp_start": "2026-01-01T00:00:00"}},
        ("GET", "/results"): {},
        ("GET", "/approvals/{id}/plots/{name}"): {"path_parameters": {"id": pending, "name": plot}},
        ("POST", "/approvals/{id}/decision"): {
            "path_parameters": {"id": pending},
            "body": {"decision": "approve", "reason": "Its recall is high."},
        },
    }
    schema = schemathesis.openapi.from_url(f"{address}/openapi.json")
    for (method, path), given in known.items():
        case = schema[path][method].Case(**given, media_type="application/json" if "body" in given else None)
        response = case.call(session=session)
        assert response.status_code == (201 if path == "/arxiv" else 200), response.text
        assert response.content != b"[]"
        case.validate_response(response, checks=CONFORMS)


@pytest.mark.release
@pytest.mark.requirement("SRV-3")
def test_all_checks_of_schemathesis_pass(address: str, key: str, services: Services, tmp_path: Path) -> None:
    pending = services.ledger.open_request(proposal()).id
    [plot, *_] = services.ledger.request(pending).plot_digests
    config = tmp_path / "schemathesis.toml"
    config.write_text(
        f"""
        headers = {{ Authorization = "Bearer {key}" }}
        [parameters]
        "path.id" = {pending}
        "path.name" = "{plot}"
        "path.client_id" = {CLIENTS[0]}
        [[operations]]
        include-path = "/queries"
        checks.positive_data_acceptance.expected-statuses = ["2xx", 422]
        [[operations]]
        include-path = "/labels/{{model}}"
        checks.positive_data_acceptance.expected-statuses = ["2xx", 404, 422]
        """
    )
    done = subprocess.run(
        [
            *(
                Path(sys.executable).with_name("schemathesis"),
                "--config-file",
                config,
                "run",
                f"{address}/openapi.json",
            ),
            *("--checks", "all", "--phases", "examples,coverage,fuzzing,stateful", "--max-examples", str(EXAMPLES)),
            *("--seed", "1", "--workers", "1", "--no-color", "--generation-database", "none"),
        ],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.requirement("SRV-1")
def test_the_examples_in_the_openapi_description_are_valid(address: str, key: str, described: dict[str, Any]) -> None:
    told = 0
    for path, operations in described["paths"].items():
        for operation in operations.values():
            for kind, content in operation.get("requestBody", {}).get("content", {}).items():
                for example in examples(content, described):
                    if kind == "application/json" and path.startswith("/predictions/"):
                        headers = {"Authorization": f"Bearer {key}"}
                        answer = requests.post(f"{address}{path}", json=example, headers=headers, timeout=60)
                        assert answer.status_code in {200, 404}, answer.text
                        told += 1
            for response in operation["responses"].values():
                for content in response.get("content", {}).values():
                    told += len(examples(content, described))
    assert told >= 5


def is_live(services: Services, version: int) -> bool:
    return services.live_models.live(MODEL.name).version == version


def logged(services: Services) -> int:
    with services.database.connect("platform") as connection:
        [(count,)] = connection.execute("select count(*) from platform.predictions").fetchall()
    return int(count)


def examples(content: dict[str, Any], described: dict[str, Any]) -> list[Any]:
    """Validate the examples of a body against its schema, and return them."""
    found = [one["value"] for one in content.get("examples", {}).values()]
    found += [content["example"]] if "example" in content else []
    validator = jsonschema_rs.validator_for({**content.get("schema", {}), "components": described["components"]})
    for one in found:
        validator.validate(one)
    return found


@pytest.mark.requirement("PRO-8", "SRV-2", "CRE-4")
def test_no_prediction_is_lost_or_mixes_versions_while_a_hundred_champions_go_live(
    services: Services, models: tuple[FittedModel, FittedModel], address: str, key: str
) -> None:
    newest = credit.newest_rows(services)
    scores = [dict(zip(newest.index, model.scores(newest), strict=True)) for model in models]
    first = services.live_models.live(MODEL.name).version + 1
    digests = [services.artefacts.save(model) for model in models]
    wait_until(lambda: services.prediction_log.queued == 0, "the earlier predictions were logged")
    logged_before = logged(services)
    stop = threading.Event()
    seen: set[str] = set()

    def ask(number: int) -> int:
        session = requests.Session()
        session.headers["Authorization"] = f"Bearer {key}"
        rows = 0
        for turn in itertools.count(number):
            if stop.wait(PAUSE_SECONDS):
                return rows
            asks = {"client_ids": CLIENTS} if turn % 2 else {"client_id": CLIENTS[turn % len(CLIENTS)]}
            answer = session.post(f"{address}{PREDICTIONS}", json=asks, timeout=60)
            assert answer.status_code == 200, answer.text
            found = answer.json().get("predictions", [answer.json()])
            [version] = {one["model_version"] for one in found}
            which = int(version) % 2
            seen.add(version)
            assert {one["threshold"] for one in found} == {THRESHOLDS[which]}
            assert len({one["approval_id"] for one in found}) == 1
            assert [one["probability"] for one in found] == [scores[which][one["client_id"]] for one in found]
            rows += len(found)
        raise AssertionError

    with ThreadPoolExecutor(3) as threads:
        asking = [threads.submit(ask, number) for number in range(3)]
        try:
            for version in range(first, first + SWAPS):
                credit.crown(services, digests[version % 2], version, THRESHOLDS[version % 2])
                wait_until(partial(is_live, services, version), f"version {version} of {MODEL.name} was live")
        finally:
            stop.set()
        rows = sum(one.result() for one in asking)
    assert len(seen) > SWAPS / 2
    assert rows > SWAPS
    wait_until(lambda: logged(services) == logged_before + rows, "all predictions were logged")
