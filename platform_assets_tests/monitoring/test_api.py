"""Labels over HTTP: clients send labels of predictions, and a check evaluates the champion on these labels."""

from __future__ import annotations

import random
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import dagster as dg
import pytest

from platform_assets.app import application
from platform_assets.domains.credit_risk.model import MODEL
from platform_assets.monitoring.assets import REAL_PERFORMANCE, real_performance_check
from platform_assets_tests.instances import empty_instance
from platform_assets_tests.postgres import wait_until
from platform_assets_tests.service import api, keys_of, wait_until_live
from platform_assets_tests.serving import credit
from platform_assets_tests.test_app import problem

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fastapi import FastAPI
    from starlette.testclient import TestClient

    from platform_assets.services import Services
    from platform_assets_tests.service import People

ROUTE = f"/labels/{MODEL.name}"
CLIENTS = [credit.FIRST_CLIENT + number for number in range(90)]
THRESHOLD = 0.5


@pytest.fixture(scope="module")
def app(services: Services) -> Iterator[FastAPI]:
    credit.publish_features(services, len(CLIENTS))
    credit.crown(services, credit.fitted(services), 3, THRESHOLD)
    app = application(services)
    with api(app):
        wait_until_live(services, MODEL.name)
        yield app


@pytest.fixture(scope="module")
def workshop(app: FastAPI, services: Services) -> TestClient:
    """Client with a key that has only the scope `label`."""
    return api(app, keys_of(services).add("workshop", "workshop", {"label"}))


@pytest.fixture(scope="module")
def shop(app: FastAPI, people: People) -> TestClient:
    """Client with a key that has the scope `predict`."""
    return api(app, people.program)


def predict(shop: TestClient, services: Services, clients: list[int]) -> tuple[str, list[float]]:
    """Request predictions and wait until they are logged; return the request id and the probabilities."""
    before = services.prediction_log.written
    response = shop.post("/predictions/credit-risk", json={"client_ids": clients})
    wait_until(lambda: services.prediction_log.written >= before + len(clients), "the predictions were logged")
    return response.headers["X-Request-ID"], [one["probability"] for one in response.json()["predictions"]]


def now(**shift: float) -> str:
    return (datetime.now(UTC) + timedelta(**shift)).isoformat()


def label(value: float = 1, **others: Any) -> dict[str, Any]:
    return {"label": value, "observed_at": now(), **others}


@pytest.mark.requirement("MON-5", "SRV-1")
def test_one_label_is_stored_and_sending_it_again_changes_nothing(
    workshop: TestClient, shop: TestClient, services: Services
) -> None:
    request_id, _ = predict(shop, services, CLIENTS[:1])
    sent = label(request_id=request_id)
    first, second = (workshop.post(ROUTE, json=sent) for _ in range(2))
    assert (first.status_code, second.status_code) == (200, 200)
    assert first.json() == {"outcome": "stored", "standing": "current", "reason": None}
    assert second.json() == {"outcome": "already_stored", "standing": "current", "reason": None}
    kept = shop.get(ROUTE, params={"request_id": request_id})
    [found] = kept.json()
    assert kept.headers["X-Total-Count"] == "1"
    assert (found["label"], found["sender"], found["standing"]) == (1, "workshop", "current")
    assert datetime.fromisoformat(found["observed_at"]) == datetime.fromisoformat(sent["observed_at"])


@pytest.mark.requirement("MON-5", "SRV-1")
def test_each_label_of_a_list_has_its_own_outcome_and_valid_labels_are_stored(
    workshop: TestClient, shop: TestClient, services: Services
) -> None:
    request_id, _ = predict(shop, services, CLIENTS[:3])
    sent = [
        label(0, request_id=request_id, subject=CLIENTS[0]),
        label(1, request_id="no-such-request"),
        label(1, request_id=request_id),
        label(1, request_id=request_id, subject=str(CLIENTS[1]), observed_at=now(hours=-1)),
        label(1, subject=float(CLIENTS[2]), at=now(seconds=-1)),
    ]
    response = workshop.post(ROUTE, json={"labels": sent})
    assert response.status_code == 200
    body = response.json()
    assert (body["stored"], body["already_stored"], body["not_stored"]) == (2, 0, 3)
    assert [one["outcome"] for one in body["labels"]] == ["stored", "unknown", "refused", "refused", "stored"]
    assert len(shop.get(ROUTE, params={"subject": str(CLIENTS[2])}).json()) == 1
    assert [bool(one["reason"]) for one in body["labels"]] == [False, True, True, True, False]
    assert "before the prediction" in body["labels"][3]["reason"]


@pytest.mark.requirement("MON-5", "SRV-1")
def test_an_unknown_model_or_request_gets_404_and_a_label_before_its_prediction_gets_422(
    workshop: TestClient, shop: TestClient, services: Services
) -> None:
    unknown = workshop.post("/labels/no_such_model", json=label(request_id="r"))
    assert unknown.status_code == 404
    assert MODEL.name in problem(unknown)["detail"]
    response = workshop.post(ROUTE, json=label(request_id="no-such-request"))
    assert response.status_code == 404
    assert "with the request id no-such-request" in problem(response)["detail"]
    request_id, _ = predict(shop, services, CLIENTS[:1])
    response = workshop.post(ROUTE, json=label(request_id=request_id, observed_at=now(hours=-1)))
    assert response.status_code == 422
    assert "before the prediction" in problem(response)["detail"]


@pytest.mark.requirement("MON-5", "SRV-1")
@pytest.mark.parametrize(
    ("sent", "told"),
    [
        ({"label": 2, "observed_at": now(), "request_id": "r"}, "the label is 2; send 0 or 1"),
        ({"label": 0.5, "observed_at": now(), "request_id": "r"}, "the label is 0.5"),
        ({"label": "1", "observed_at": now(), "request_id": "r"}, "label: Input should be a valid number"),
        ({"label": True, "observed_at": now(), "request_id": "r"}, "label: Input should be a valid number"),
        ({"label": None, "observed_at": now(), "request_id": "r"}, "label: Input should be a valid number"),
        ({"label": 1, "request_id": "r"}, "Give either label and observed_at for a single item, or labels"),
        ({"observed_at": now(), "request_id": "r"}, "Give either label and observed_at"),
        ({"label": 1, "observed_at": "2026-01-31T12:00:00", "request_id": "r"}, "has no time zone; add Z"),
        ({"label": 1, "observed_at": "yesterday", "request_id": "r"}, "observed_at: Send the time in ISO 8601 format"),
        ({"label": 1, "observed_at": 1_700_000_000, "request_id": "r"}, "observed_at: Send the time as text"),
        ({"label": 1, "observed_at": "0001-01-01T00:00:00+14:00", "request_id": "r"}, "The time is out of range"),
        ({"label": 1, "observed_at": "9999-12-31T23:59:59Z", "request_id": "r"}, "which is in the future"),
        ({"label": 1, "observed_at": now()}, "send either `request_id`, or both `subject` and `at`"),
        ({"label": 1, "observed_at": now(), "subject": "7"}, "send either `request_id`, or both `subject` and `at`"),
        ({"label": 1, "observed_at": now(hours=-1), "subject": "7", "at": now()}, ") is before `at` ("),
        ({"label": 1, "observed_at": now(), "request_id": "a b"}, "request_id: String should match pattern"),
        ({"label": 1, "observed_at": now(), "request_id": "r", "place": -1}, "place: Input should be greater than"),
        ({"label": 1, "observed_at": now(), "subject": "", "at": now()}, "subject: Value should have at least 1 item"),
        ({"label": 1, "observed_at": now(), "subject": "a\0", "at": now()}, "control or invisible characters"),
        ({"label": 1, "observed_at": now(), "request_id": "r", "lable": 1}, "lable: Extra inputs are not permitted"),
    ],
)
def test_an_invalid_label_gets_422_and_the_reason(workshop: TestClient, sent: dict[str, Any], told: str) -> None:
    response = workshop.post(ROUTE, json=sent)
    assert response.status_code == 422
    assert told in problem(response)["detail"]


@pytest.mark.requirement("MON-5", "SRV-1")
def test_the_error_names_the_invalid_label_in_a_list_and_no_label_is_stored(
    workshop: TestClient, shop: TestClient
) -> None:
    good = label(1, subject="sent-with-bad-ones", at=now(hours=-1))
    for bad in (label(3, request_id="r"), {**good, "at": "2026-01-31"}):
        response = workshop.post(ROUTE, json={"labels": [good, bad]})
        assert response.status_code == 422
        assert str(problem(response)["errors"][0]["field"]).startswith("labels.1")
    assert shop.get(ROUTE, params={"subject": "sent-with-bad-ones"}).json() == []


@pytest.mark.requirement("SRV-1")
def test_only_a_key_with_the_scope_label_may_send_labels(
    app: FastAPI, workshop: TestClient, shop: TestClient, people: People
) -> None:
    for client in (shop, api(app, people.rita), api(app, people.anna)):
        response = client.post(ROUTE, json=label(request_id="r"))
        assert response.status_code == 403
        assert problem(response)["scopes_needed"] == ["label"]
    assert api(app).post(ROUTE, json=label(request_id="r")).status_code == 401
    assert workshop.get(ROUTE, params={"subject": "7"}).status_code == 403


@pytest.mark.requirement("SRV-1")
def test_listing_labels_needs_either_a_request_or_a_subject(shop: TestClient) -> None:
    for params in ({}, {"subject": "7", "request_id": "r"}):
        response = shop.get(ROUTE, params=params)
        assert response.status_code == 422
        assert "Give either request_id or subject" in problem(response)["detail"]
    assert shop.get("/labels/no_such_model", params={"subject": "7"}).status_code == 404


@pytest.mark.requirement("SRV-3")
@pytest.mark.parametrize("subject", ["a\0b", "\N{RIGHT-TO-LEFT OVERRIDE}", ""])
def test_an_invalid_subject_gets_422(shop: TestClient, subject: str) -> None:
    response = shop.get(ROUTE, params={"subject": subject})
    assert response.status_code == 422
    assert "the subject" in problem(response)["detail"]


def evaluated(services: Services) -> dg.AssetCheckEvaluation:
    """Run the check that evaluates the champion on labelled predictions, and return its result."""
    definitions = dg.Definitions(
        asset_checks=[real_performance_check(MODEL)],
        jobs=[dg.define_asset_job("check", selection=dg.AssetSelection.all_asset_checks())],
        resources={"ledger": services.ledger, "labels": services.labels},
        executor=dg.in_process_executor,
    )
    with empty_instance() as instance:
        result = definitions.resolve_job_def("check").execute_in_process(instance=instance)
        [found] = result.get_asset_check_evaluations()
    return found


@pytest.mark.requirement("MON-5", "SEN-5", "SRV-1")
def test_predictions_and_their_labels_are_evaluated_by_the_check(
    workshop: TestClient, shop: TestClient, services: Services
) -> None:
    with closing(services.database.connect("platform")) as connection:
        connection.execute("delete from platform.predictions")
    request_id, probabilities = predict(shop, services, CLIENTS)
    before = evaluated(services)
    assert before.passed
    assert str(before.description).startswith("not enough labels: 20 of each class are required; 0 of 90 predictions")
    assert "metrics" not in before.metadata
    # Labels that contradict the predictions: the higher the probability, the more often a loan is paid back.
    chance = random.Random(1)
    order = sorted(probabilities)
    sent = [
        label(int(order.index(probability) + chance.gauss(0, 10) < 45), request_id=request_id, subject=client)
        for client, probability in zip(CLIENTS[:80], probabilities, strict=False)
    ]
    assert workshop.post(ROUTE, json={"labels": sent}).json()["stored"] == 80
    contradiction = {**sent[0], "label": 1 - sent[0]["label"]}
    assert workshop.post(ROUTE, json=contradiction).json()["standing"] == "contradictory"
    check = evaluated(services)
    assert (check.check_name, check.passed, check.severity) == (REAL_PERFORMANCE, False, dg.AssetCheckSeverity.WARN)
    numbers = {name: value.value for name, value in check.metadata.items()}
    assert (numbers["predictions"], numbers["labelled_predictions"], numbers["contradictory_predictions"]) == (
        90,
        79,
        1,
    )
    assert numbers["model_version"] == 3
    assert "| roc_auc" in str(numbers["metrics"])
    assert "95 % interval" in str(numbers["metrics"])
    assert str(numbers["plot_calibration"]).startswith("![calibration.png](data:image/png;base64,")
    assert "ROC AUC is 0." in str(check.description)
    assert "79 of 90 predictions of version 3 have a label" in str(check.description)
