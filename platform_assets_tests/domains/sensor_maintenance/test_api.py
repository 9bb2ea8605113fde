"""Tests of the HTTP endpoints: predictions equal the model's scores, and stored predictions are found by file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from pydantic import SecretStr

from platform_assets.app import application
from platform_assets.domains.sensor_maintenance.model import MODEL
from platform_assets.domains.sensor_maintenance.schemas import PREDICTIONS
from platform_assets.services import Services
from platform_assets.serving.stored_predictions import StoredPredictions
from platform_assets.settings import Settings
from platform_assets_tests.domains.sensor_maintenance.plant import THRESHOLD, Plant, model_of
from platform_assets_tests.postgres import empty_databases, owner_of, wait_until
from platform_assets_tests.service import api, wait_until_live
from platform_assets_tests.serving.landed import prediction
from platform_assets_tests.test_app import problem

if TYPE_CHECKING:
    from collections.abc import Iterator

    from starlette.testclient import TestClient

    from platform_assets.database.connections import Database
    from platform_assets_tests.service import People

PATH = "/predictions/sensor-maintenance"
READING = {"sensor_1": 0.5, "sensor_2": -0.25}
DIGESTS = {name: f"{number:064x}" for number, name in enumerate(("first", "second", "third", "fourth", "fifth"))}
FILES = (
    # One entry per file content, in the order of discovery: key, names, state, reason.
    ("first", ["pump_1/a.txt", "pump_1/copy of ü&?.txt"], "processed", None),
    ("second", ["pump_1/a.txt"], "processed", None),
    ("third", ["pump_1/landed.txt"], "landed", None),
    ("fourth", ["pump_1/found.txt"], "found", None),
    ("fifth", ["pump_1/junk.txt"], "set_aside", "pump_1/junk.txt is empty; it needs a header and rows"),
)


@pytest.fixture(scope="module")
def services(postgres_server: Database, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    """Services with landed files and predictions in the database, shared by all tests in the module."""
    with empty_databases(postgres_server) as url:
        home, owner = tmp_path_factory.mktemp("home"), SecretStr(owner_of(url))
        settings = Settings(
            home=home, database_url=SecretStr(url), migration_database_url=owner, rate_limit="off", sources="demo"
        )
        services = Services(settings)
        store(services)
        yield services
        services.close()


def store(services: Services) -> None:
    stored = StoredPredictions(lambda: services.database, PREDICTIONS)
    query = b"insert into platform.landing_files (zone, digest, names, size, state, reason) values (%s,%s,%s,1,%s,%s)"
    with services.database.pooled() as connection, connection.transaction():
        for key, names, state, reason in FILES:
            connection.execute(query, [MODEL.domain, DIGESTS[key], names, state, reason])
        for key in ("first", "second"):
            stored.add(connection, [prediction(DIGESTS[key], line, line / 100) for line in range(80, 1, -1)])


@pytest.fixture(scope="module")
def approval(services: Services) -> int:
    """Make a model the champion, and return the number of its approval request."""
    return Plant(services, versions=4).promote(2.0)


@pytest.fixture(scope="module")
def client(services: Services, people: People, approval: int) -> Iterator[TestClient]:
    """HTTP client whose API key has the scope `predict`."""
    assert approval
    app = application(services)
    with api(app):
        wait_until_live(services, MODEL.name)
        yield api(app, people.program)


# Predictions for readings


@pytest.mark.requirement("SEN-6", "SRV-2")
def test_readings_get_the_scores_of_the_model_in_the_order_of_the_request(client: TestClient, approval: int) -> None:
    readings = [{"sensor_1": number / 100 - 5, "sensor_2": (number % 5) / 4} for number in range(1_000)]
    found = client.post(PATH, json={"readings": readings}).json()["predictions"]
    scores = model_of(2.0).scores(readings).tolist()
    assert found == [
        {
            "probability": score,
            "needs_maintenance": score >= THRESHOLD,
            "threshold": THRESHOLD,
            "outside_training_range": abs(reading["sensor_1"]) > 2,
            "model_version": "5",
            "approval_id": approval,
        }
        for reading, score in zip(readings, scores, strict=True)
    ]
    alone = [client.post(PATH, json=reading).json() for reading in readings[:20]]
    assert alone == found[:20]


@pytest.mark.requirement("SEN-6")
def test_a_prediction_is_logged_with_its_features(client: TestClient, services: Services) -> None:
    reading = {"sensor_1": 0.125, "sensor_2": -0.0625}
    identity = client.post(PATH, json=reading).headers["x-request-id"]
    query = b"select features, model, version, caller from platform.predictions where request_id = %s"
    wait_until(lambda: services.database.reads.rows(query, [identity]), "the prediction was logged")
    assert services.database.reads.rows(query, [identity]) == [(reading, MODEL.name, 5, "shop")]


BODIES: dict[str, tuple[bytes, str]] = {
    "NaN": (b'{"sensor_1": NaN, "sensor_2": 0}', "body"),
    "Infinity": (b'{"readings": [{"sensor_1": 0, "sensor_2": -Infinity}]}', "body"),
    "a huge float": (b'{"sensor_1": 1e999, "sensor_2": 0}', "sensor_1"),
    "a huge integer": (b'{"sensor_1": 1' + b"0" * 400 + b', "sensor_2": 0}', "sensor_1"),
    "beyond the bound": (b'{"sensor_1": 0, "sensor_2": -1000000.1}', "sensor_2"),
    "text": (b'{"sensor_1": "1", "sensor_2": 0}', "sensor_1"),
    "a null": (b'{"sensor_1": 0, "sensor_2": null}', "sensor_2"),
    "a truth": (b'{"sensor_1": true, "sensor_2": 0}', "sensor_1"),
    "one sensor": (b'{"sensor_1": 0}', "body"),
    "one sensor in a list": (b'{"readings": [{"sensor_1": 0, "sensor_2": 0}, {"sensor_2": 0}]}', "readings.1.sensor_1"),
    "a null in a list": (b'{"readings": [{"sensor_1": null, "sensor_2": 0}]}', "readings.0.sensor_1"),
    "true": (b'{"sensor_1": true, "sensor_2": 0}', "sensor_1"),
    "both forms": (b'{"sensor_1": 0, "sensor_2": 0, "readings": []}', "body"),
    "neither form": (b"{}", "body"),
    "one more field": (b'{"sensor_1": 0, "sensor_2": 0, "label": 1}', "label"),
    "one more field in a list": (b'{"readings": [{"sensor_1": 0, "sensor_2": 0, "x": 1}]}', "readings.0.x"),
    "too many": (b'{"readings": [' + b",".join([b'{"sensor_1": 0, "sensor_2": 0}'] * 1_001) + b"]}", "readings"),
}


@pytest.mark.requirement("SRV-1")
@pytest.mark.parametrize("name", BODIES)
def test_the_error_for_an_invalid_body_names_the_field(client: TestClient, name: str) -> None:
    body, field = BODIES[name]
    response = client.post(PATH, content=body, headers={"Content-Type": "application/json"})
    assert response.status_code == 422, response.text
    assert [one["field"] for one in problem(response)["errors"]] == [field]


@pytest.mark.requirement("SRV-1")
def test_each_route_requires_a_key_but_only_new_predictions_require_the_scope_predict(
    client: TestClient, people: People
) -> None:
    def statuses(secret: str) -> tuple[int, int]:
        other = api(client.app, secret)  # type: ignore[arg-type]  # the application of the client
        return other.get(PATH, params={"file": "pump_1/a.txt"}).status_code, other.post(PATH, json=READING).status_code

    assert (statuses(people.program), statuses(people.rita), statuses("")) == ((200, 200), (200, 403), (401, 401))


# Stored predictions


def lines(response: Any) -> list[tuple[str, int]]:
    return [(row["file_digest"], row["line"]) for row in response.json()]


def expected(*keys: str) -> list[tuple[str, int]]:
    return [(DIGESTS[key], line) for key in keys for line in range(2, 81)]


@pytest.mark.requirement("SEN-6")
def test_the_response_contains_all_columns_of_a_stored_prediction(client: TestClient) -> None:
    response = client.get(PATH, params={"file": DIGESTS["first"], "items_per_page": 1})
    [row] = response.json()
    assert row.pop("predicted_at").endswith("Z")
    assert row == {
        "file_digest": DIGESTS["first"],
        "line": 2,
        "file_name": f"{DIGESTS['first']}.txt",
        "device": "pump",
        "recorded_at": "2026-03-01T00:00:00Z",
        "probability": 0.02,
        "needs_maintenance": False,
        "threshold": 0.5,
        "outside_training_range": False,
        "model_version": "1",
        "approval_id": 7,
    }
    assert response.headers["x-total-count"] == "79"


@pytest.mark.requirement("SEN-6")
@pytest.mark.parametrize(
    ("file", "found"),
    [
        (DIGESTS["first"], expected("first")),
        ("pump_1/copy of ü&?.txt", expected("first")),
        ("pump_1/a.txt", expected("second", "first")),
    ],
)
def test_pages_show_the_lines_of_a_file_in_order(client: TestClient, file: str, found: list[tuple[str, int]]) -> None:
    assert lines(client.get(PATH, params={"file": file})) == found[:50]
    seen: list[tuple[str, int]] = []
    response = client.get(PATH, params={"file": file, "items_per_page": 30})
    seen += lines(response)
    while "next" in response.links:
        response = client.get(response.links["next"]["url"])
        seen += lines(response)
    assert seen == found
    assert client.get(PATH, params={"file": file, "page": 1_000}).json() == []


@pytest.mark.requirement("SEN-6")
@pytest.mark.parametrize(
    ("file", "told"),
    [
        ("pump_1/landed.txt", "was loaded, but has no predictions yet"),
        (DIGESTS["third"], f"if {MODEL.name} has a champion"),
        ("pump_1/found.txt", "The next run of predict_sensor_maintenance loads it"),
        ("pump_1/junk.txt", "has no predictions: pump_1/junk.txt is empty"),
        ("pump_1/b.txt", "No file 'pump_1/b.txt' was found in the landing zone"),
        (DIGESTS["first"][:63], "Send the path of the file in that folder, or the SHA-256"),
        ("%", "No file '%' was found"),
    ],
)
def test_a_file_without_predictions_returns_404_with_the_reason(client: TestClient, file: str, told: str) -> None:
    found = problem(client.get(PATH, params={"file": file}))
    assert (found["status"], found["type"]) == (404, "urn:platform-assets:not-found")
    assert told in found["detail"]


@pytest.mark.requirement("SRV-1")
@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("", "file"),
        ("file=", "file"),
        ("file=a%00b", "file"),
        (f"file={'x' * 1_025}", "file"),
        ("file=a&page=-1", "page"),
        ("file=a&page=x", "page"),
        ("file=a&items_per_page=0", "items_per_page"),
        ("file=a&items_per_page=1001", "items_per_page"),
    ],
)
def test_the_error_for_an_invalid_query_names_the_parameter(client: TestClient, query: str, field: str) -> None:
    assert [one["field"] for one in problem(client.get(f"{PATH}?{query}"))["errors"]] == [field]
