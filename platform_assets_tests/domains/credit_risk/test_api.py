"""Credit risk over HTTP: features and predictions equal those of training, and invalid requests get a clear error."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest

from platform_assets.app import application
from platform_assets.domains.credit_risk.model import MODEL, NAMES
from platform_assets_tests.service import api, wait_until_live
from platform_assets_tests.serving import credit
from platform_assets_tests.test_app import problem

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fastapi import FastAPI
    from starlette.testclient import TestClient

    from platform_assets.models.fitted_model import FittedModel
    from platform_assets.services import Services
    from platform_assets_tests.service import People

FEATURES, PREDICTIONS = "/features/credit-risk/", "/predictions/credit-risk"
CLIENT = credit.FIRST_CLIENT
THRESHOLD = 0.45
INT64 = 2**63 - 1


@pytest.fixture(scope="module")
def model(services: Services) -> FittedModel:
    credit.publish_features(services)
    return credit.fitted(services)


@pytest.fixture(scope="module")
def champion(services: Services, model: FittedModel) -> int:
    """Make the model the champion, and return the id of its approval request."""
    return credit.crown(services, model, 3, THRESHOLD)


@pytest.fixture(scope="module")
def app(services: Services, champion: int) -> Iterator[FastAPI]:
    assert champion
    app = application(services)
    with api(app):
        wait_until_live(services, MODEL.name)
        yield app


@pytest.fixture(scope="module")
def shop(app: FastAPI, people: People) -> TestClient:
    """HTTP client whose API key has the scope `predict`."""
    return api(app, people.program)


@pytest.fixture(scope="module")
def newest(services: Services, model: FittedModel) -> pd.DataFrame:
    """The training features and the score of each client's newest loan."""
    frame = credit.newest_rows(services)
    scores = dict(
        zip(credit.training_frame(services)["loan_id"], model.scores(credit.training_frame(services)), strict=True)
    )
    return frame.assign(score=frame["loan_id"].map(scores))


def plain(row: Any) -> dict[str, Any]:
    """Return the features of a row as JSON values."""
    return {name: None if pd.isna(row[name]) else row[name] for name in NAMES}


# Answers


@pytest.mark.requirement("CRE-4")
def test_the_features_of_a_client_are_those_of_its_newest_loan(shop: TestClient, newest: pd.DataFrame) -> None:
    for client in newest.index[:20]:
        row: Any = newest.loc[client]
        features = plain(row)
        assert shop.get(f"{FEATURES}{client}").json() == {
            "client_id": client,
            **features,
            "as_of": str(row["loan_date"])[:10],
            "missing": [name for name in NAMES if features[name] is None],
        }


@pytest.mark.requirement("CRE-4")
def test_a_prediction_contains_the_features_that_it_was_computed_from(
    shop: TestClient, champion: int, newest: pd.DataFrame, services: Services
) -> None:
    found = shop.post(PREDICTIONS, json={"client_id": CLIENT}).json()
    row: Any = newest.loc[CLIENT]
    features = plain(row)
    assert found == {
        "client_id": CLIENT,
        "probability": row["score"],
        "decision": "high_risk" if row["score"] >= THRESHOLD else "low_risk",
        "threshold": THRESHOLD,
        "model_version": "3",
        "approval_id": champion,
        "features": features,
        "missing": [name for name in NAMES if features[name] is None],
        "as_of": str(row["loan_date"])[:10],
    }
    assert services.live_models.live(MODEL.name).approval_id == champion


@pytest.mark.requirement("CRE-4", "CRE-5")
def test_scores_and_features_of_a_thousand_clients_equal_those_in_training(
    shop: TestClient, newest: pd.DataFrame
) -> None:
    ids = [int(client) for client in newest.index]
    assert len(ids) == 1_000
    found = shop.post(PREDICTIONS, json={"client_ids": ids}).json()["predictions"]
    assert [one["client_id"] for one in found] == ids
    assert [one["probability"] for one in found] == newest["score"].tolist()
    assert [one["features"] for one in found] == [plain(newest.loc[client]) for client in ids]
    # A request for one client returns the same numbers as a request for many clients.
    alone = [shop.post(PREDICTIONS, json={"client_id": client}).json() for client in ids[:50]]
    assert alone == found[:50]


@pytest.mark.requirement("SRV-2")
def test_predictions_are_in_request_order_and_mark_unknown_clients(shop: TestClient) -> None:
    asked = [CLIENT + 5, credit.NOBODY, CLIENT, CLIENT + 5, -1, 0, INT64]
    found = shop.post(PREDICTIONS, json={"client_ids": asked}).json()["predictions"]
    assert [one["client_id"] for one in found] == asked
    unknown = [one for one in found if "error" in one]
    assert unknown == [{"client_id": client, "error": "not_found"} for client in (credit.NOBODY, -1, 0, INT64)]
    assert found[0] == found[3] == shop.post(PREDICTIONS, json={"client_id": CLIENT + 5}).json()


@pytest.mark.parametrize("ids", [[], [credit.NOBODY]])
def test_a_list_of_clients_may_be_empty_or_contain_only_unknown_clients(shop: TestClient, ids: list[int]) -> None:
    response = shop.post(PREDICTIONS, json={"client_ids": ids})
    assert response.json() == {"predictions": [{"client_id": client, "error": "not_found"} for client in ids]}


@pytest.mark.requirement("CRE-4")
@pytest.mark.parametrize("client", [credit.NOBODY, 0, -1, INT64, -INT64 - 1])
def test_a_request_for_an_unknown_client_returns_404(shop: TestClient, client: int) -> None:
    for response in (shop.get(f"{FEATURES}{client}"), shop.post(PREDICTIONS, json={"client_id": client})):
        found = problem(response)
        assert (found["status"], found["type"]) == (404, "urn:platform-assets:not-found")
        assert f"no client {client}" in found["detail"]


# Permissions


@pytest.mark.requirement("SRV-1")
def test_a_key_permits_only_the_routes_of_its_scopes(app: FastAPI, people: People) -> None:
    def statuses(secret: str) -> tuple[int, ...]:
        client = api(app, secret)
        asked = client.post(PREDICTIONS, json={"client_id": CLIENT})
        return (
            client.get(f"{FEATURES}{CLIENT}").status_code,
            asked.status_code,
            client.get("/models").status_code,
            client.get("/metrics").status_code,
        )

    assert statuses(people.program) == (200, 200, 200, 403)
    assert statuses(people.rita) == (200, 403, 200, 200)
    assert statuses(people.bert) == (403, 403, 403, 403)
    assert statuses("") == (401, 401, 401, 401)
    assert statuses("nonsense") == (401, 401, 401, 401)


# Hostile requests

NESTED = b'{"client_id": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"
BODIES: dict[str, tuple[bytes, int, str]] = {
    "nothing": (b"", 422, "body"),
    "blank": (b" ", 422, "body"),
    "no object": (b"[1]", 422, "body"),
    "null": (b"null", 422, "body"),
    "cut off": (b'{"client_id": 5', 422, "body"),
    "NaN": (b'{"client_id": NaN}', 422, "body"),
    "Infinity": (b'{"client_id": Infinity}', 422, "body"),
    "minus Infinity in a list": (b'{"client_ids": [1, -Infinity]}', 422, "body"),
    "a huge float": (b'{"client_id": 1e999}', 422, "client_id"),
    "a fraction": (b'{"client_id": 1.5}', 422, "client_id"),
    "text": (b'{"client_id": "5008804"}', 422, "client_id"),
    "a truth": (b'{"client_id": true}', 422, "client_id"),
    "a null": (b'{"client_id": null}', 422, "client_id"),
    "a null as list": (b'{"client_ids": null}', 422, "client_ids"),
    "an object": (b'{"client_id": {"$ne": 1}}', 422, "client_id"),
    "SQL": (b'{"client_id": "1; drop table credit_risk.client_features --"}', 422, "client_id"),
    "emoji": ('{"client_id": "\N{PILE OF POO}"}'.encode(), 422, "client_id"),
    "NUL": (b'{"client_id": "\\u0000"}', 422, "client_id"),
    "a raw NUL": (b'{"client_id": "\0"}', 422, "body"),
    "half a pair": (b'{"client_id": "\\ud800"}', 422, "client_id"),
    "half a pair as field": (b'{"\\ud800": 1}', 422, "body"),
    "half a pair beside": (b'{"client_id": 1, "\\ud800": 1}', 422, "body"),
    "beyond int64": (str({"client_id": 2**63}).replace("'", '"').encode(), 422, "client_id"),
    "below int64": (str({"client_id": -(2**63) - 1}).replace("'", '"').encode(), 422, "client_id"),
    "beyond int64 in a list": (b'{"client_ids": [9223372036854775808]}', 422, "client_ids.0"),
    "thousands of digits": (b'{"client_id": ' + b"9" * 20_000 + b"}", 422, "body"),
    "nested deeply": (NESTED, 422, "body"),
    "both": (b'{"client_id": 1, "client_ids": [1]}', 422, "body"),
    "neither": (b"{}", 422, "body"),
    "one more field": (b'{"client_id": 1, "is_admin": true}', 422, "is_admin"),
    "a prototype": (b'{"client_id": 1, "__proto__": {}}', 422, "__proto__"),
    "too many": (json.dumps({"client_ids": [1] * 1_001}).encode(), 422, "client_ids"),
    "no UTF-8": (b'{"client_id": "\xff\xfe"}', 422, "body"),
    "UTF-16 without end": (b"\xff\xfe{\x00", 422, "body"),
    "form in JSON's name": (b"client_id=1", 422, "body"),
    "huge": (b'{"client_ids": [' + b"1," * 600_000 + b"1]}", 413, ""),
}


@pytest.mark.requirement("SRV-1")
@pytest.mark.parametrize("name", BODIES)
def test_the_error_for_an_invalid_body_names_the_field(shop: TestClient, name: str) -> None:
    body, status, field = BODIES[name]
    response = shop.post(PREDICTIONS, content=body, headers={"Content-Type": "application/json"})
    assert response.status_code == status, response.text
    found = problem(response)
    assert [one["field"] for one in found.get("errors", [])] == ([field] if field else [])


@pytest.mark.requirement("SRV-1")
@pytest.mark.parametrize(
    "kind", ["", "text/plain", "application/x-www-form-urlencoded", "application/xml", "\xff", ";"]
)
def test_media_types_other_than_json_are_rejected(shop: TestClient, kind: str) -> None:
    headers: Any = {"Content-Type": kind.encode("latin-1")}
    found = problem(shop.post(PREDICTIONS, content=b'{"client_id": 1}', headers=headers))
    assert (found["status"], found["type"]) == (415, "urn:platform-assets:not-json")


@pytest.mark.requirement("SRV-1")
@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("abc", 422),
        ("1.5", 422),
        ("NaN", 422),
        ("Infinity", 422),
        ("9223372036854775808", 422),
        ("-9223372036854775809", 422),
        ("9" * 5_000, 422),
        ("1e3", 422),
        ("%00", 422),
        ("%ff", 422),
        ("%F0%9F%92%A9", 422),
        ("%ED%A0%80", 422),
        ("1%27%20or%201=1--", 422),
        ("'; drop table loans --", 422),
        ("null", 422),
        ("true", 422),
        ("..%2f..%2fetc%2fpasswd", 404),
        ("1/2", 404),
        ("", 404),
        ("%20", 422),
        ("{client_id}", 422),
        ("5_000_001", 422),
        ("+5000001", 422),
        ("5000001.0", 422),
        ("5000001?client_id=9", 200),
    ],
)
def test_the_error_for_an_invalid_path_names_the_field(shop: TestClient, path: str, status: int) -> None:
    response = shop.get(f"{FEATURES}{path}")
    assert response.status_code == status, response.text
    if status == 422:
        assert [one["field"] for one in problem(response)["errors"]] == ["client_id"]


@pytest.mark.requirement("SRV-1")
@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "X"])
@pytest.mark.parametrize("path", [PREDICTIONS, f"{FEATURES}{CLIENT}", "/models", "/metrics"])
def test_unsupported_methods_get_405_without_cors_headers(shop: TestClient, method: str, path: str) -> None:
    asks = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
    response = shop.request(method, path, headers=asks)
    assert response.status_code == 405
    assert not [name for name in response.headers if name.startswith("access-control-")]


# Monitoring routes


@pytest.mark.requirement("SRV-1", "PRO-8")
def test_the_models_route_lists_the_live_versions(shop: TestClient, services: Services, champion: int) -> None:
    live = services.live_models.live(MODEL.name)
    response = shop.get("/models")
    [found] = [one for one in response.json() if one["model"] == MODEL.name]
    assert found["failure"] is None
    assert found["champion"] == {
        "version": 3,
        "digest": live.digest,
        "approval_id": champion,
        "threshold": THRESHOLD,
        "metrics": {"roc_auc": 0.8},
        "demo": True,
        "loaded_since": live.loaded_at.isoformat().replace("+00:00", "Z"),
    }
    assert response.headers["x-total-count"] == str(len(response.json()))
    assert shop.get("/models?page=1000&items_per_page=1000").json() == []
    for query in ("page=-1", "items_per_page=0", "items_per_page=1001"):
        assert problem(shop.get(f"/models?{query}"))["errors"][0]["field"] == query.split("=")[0]


@pytest.mark.requirement("SRV-1")
def test_the_readiness_route_lists_the_models(shop: TestClient) -> None:
    found = shop.get("/health/ready").json()
    assert (found["status"], MODEL.name in found["without_champion"]) == ("ready", False)
    [of_model] = [one for one in found["models"] if one["model"] == MODEL.name]
    assert of_model == {
        "model": MODEL.name,
        "version": 3,
        "failure": None,
        "failing_since": None,
        "reload_failures": 0,
    }


@pytest.mark.requirement("SRV-1")
def test_metrics_cover_requests_predictions_models_and_features(app: FastAPI, people: People) -> None:
    shop, rita = api(app, people.program), api(app, people.rita)
    shop.post(PREDICTIONS, json={"client_ids": [CLIENT, CLIENT + 1, credit.NOBODY]})
    shop.get(f"{FEATURES}{credit.NOBODY}")
    shop.get("/nothing/here")
    response = rita.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain; version=")
    values = {
        name: float(value)
        for name, _, value in (line.rpartition(" ") for line in response.text.splitlines() if not line.startswith("#"))
    }
    route = 'route="/predictions/credit-risk"'
    assert values[f'platform_http_requests_total{{method="POST",{route},status="200"}}'] >= 1
    assert values[f'platform_http_request_seconds_count{{method="POST",{route}}}'] >= 1
    assert (
        values['platform_http_requests_total{method="GET",route="/features/credit-risk/{client_id}",status="404"}'] >= 1
    )
    assert values['platform_http_requests_total{method="GET",route="other",status="404"}'] >= 1
    scored = [values[name] for name in values if name.startswith("platform_predictions_total")]
    assert sum(scored) == values['platform_prediction_score_count{model="credit_risk_model"}'] >= 2
    assert any(name.startswith("platform_model_info{") and 'version="3"' in name for name in values)
    assert values['platform_model_live{model="credit_risk_model"}'] == 1
    assert values['platform_model_reload_failures_total{model="credit_risk_model"}'] == 0
    assert 0 <= values['platform_features_age_seconds{table="credit_risk/client_features"}'] < 3_600
    assert values["platform_prediction_log_dropped_total"] == 0
    assert values["platform_prediction_log_queue"] >= 0
    assert values["platform_database_up"] == 1
    assert values["process_cpu_seconds_total"] > 0
    assert str(CLIENT) not in response.text
