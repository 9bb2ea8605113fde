"""Shadows of two models in a running service: answers do not change, and scores are stored and shown on the page."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
import requests

from platform_assets.app import application
from platform_assets.domains.credit_risk.model import MODEL
from platform_assets.domains.sentence_relevance.model import MODEL as SENTENCES
from platform_assets.serving import shadow_store
from platform_assets_tests.approval.proposals import SOMEBODY, proposal
from platform_assets_tests.approval.test_pages import text_of
from platform_assets_tests.postgres import wait_until
from platform_assets_tests.service import People, Visitor, keys_of, served, wait_until_live
from platform_assets_tests.serving import credit, sentences

if TYPE_CHECKING:
    from platform_assets.models.fitted_model import FittedModel
    from platform_assets.services import Services

pytestmark = pytest.mark.slow
CLIENTS = [credit.FIRST_CLIENT + number for number in range(8)]
TEXTS = [*sentences.TAUGHT[0], *sentences.TAUGHT[1]]
ROWS = b"select model, request_id, item, subject, champion_score from platform.shadow_predictions order by 1, 2, 3"


def challenge(services: Services, model: str, found: FittedModel) -> int:
    """Open an approval request for version 2 of a model, and return the number of the request."""
    champion = services.ledger.champion(model)
    assert champion is not None
    fields = {"model": model, "digest": services.artefacts.save(found), "threshold": 0.4, "evidence": credit.EVIDENCE}
    return services.ledger.open_request(proposal(2, champion=(1, champion.digest), **fields)).id


class Client:
    """A client that requests predictions from both models."""

    def __init__(self, address: str, secret: str) -> None:
        self.address, self.headers = address, {"Authorization": f"Bearer {secret}"}

    def get(self, path: str) -> Any:
        return requests.get(self.address + path, headers=self.headers | {"Accept": "application/json"}, timeout=60)

    def predict(self) -> list[Any]:
        """Request predictions from both models, and return the answers."""
        bodies = {"credit-risk": {"client_ids": CLIENTS}, "sentence-relevance": {"sentences": TEXTS}}
        answers = []
        for name, body in bodies.items():
            found = requests.post(f"{self.address}/predictions/{name}", json=body, headers=self.headers, timeout=60)
            assert found.status_code == 200, found.text
            answers.append(found.json())
        return answers

    def shadows(self) -> dict[str, Any]:
        return {one["model"]: one["shadow"] for one in self.get("/models").json() if one["shadow"]}


@pytest.mark.requirement("PRO-4", "PRO-5", "PRO-6", "MON-1", "SRV-1")
def test_shadows_of_two_models_score_the_requests_of_their_champions(
    services: Services, people: People, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shadow_store, "FIRST_REPORT", timedelta(0))
    credit.publish_features(services, len(CLIENTS))
    credit.crown(services, credit.fitted(services), 1)
    sentences.crown(services, sentences.fitted(), 1)
    number = challenge(services, MODEL.name, credit.fitted(services, "boosting"))
    other = challenge(services, SENTENCES.name, sentences.fitted())
    app = application(services)
    with served(app) as address:
        client = Client(address, keys_of(services).add("all", "all", {"predict", "read"}))
        wait_until_live(services, MODEL.name, SENTENCES.name)
        before = client.predict()
        for model in (MODEL.name, SENTENCES.name):
            services.shadow_ledger.start(model, 2, 3, SOMEBODY)
        wait_until(
            lambda: [one["loaded"] for one in client.shadows().values()] == [True, True],
            lambda: f"both shadows were loaded: {client.shadows()}",
        )
        assert [client.shadows()[name]["approval_id"] for name in (MODEL.name, SENTENCES.name)] == [number, other]
        assert client.predict() == before
        rows = stored(services, len(CLIENTS) + len(TEXTS))[: len(CLIENTS)]
        assert [row[3] for row in rows] == [str(client) for client in CLIENTS]
        assert [row[4] for row in rows] == pytest.approx([one["probability"] for one in before[0]["predictions"]])
        metrics = client.get("/metrics").text
        assert f'platform_shadow_rows_total{{model="{MODEL.name}"}} {len(CLIENTS)}.0' in metrics
        assert f'platform_shadow_up{{model="{SENTENCES.name}",version="2"}} 1.0' in metrics
        reject_after_the_report(Visitor(app).sign_in(people.anna), services, number, rows[0][1])
        wait_until(
            lambda: [*client.shadows()] == [SENTENCES.name],
            lambda: f"the rejected shadow ended: {client.shadows()}",
        )
        shown = client.get(f"/approvals/{number}").json()
        [report] = [one for one in shown["history"] if one["shadow_report"]]
        assert report["shadow_report"]["rows"] == len(CLIENTS)
        assert shown["decision"]["seen_report"] == report["sequence"]
    assert services.ledger.audit() == []


def reject_after_the_report(visitor: Visitor, services: Services, number: int, request_id: str) -> None:
    """Wait for a shadow report, and reject the approval request on the page that shows the report."""
    wait_until(
        lambda: "report_shadow" in [event.kind for event in services.ledger.history(number)],
        "the service recorded a report",
    )
    page = visitor.see(f"/approvals/{number}").text
    seen = re.findall(r'name="seen_report" value="(\d+)"', page)[0]
    shown = text_of(page)
    for expected in ("Shadow of the champion", f"Report {seen} of", "8 rows of 1 request", request_id):
        assert expected in shown
    fields = {"decision": "reject", "reason": "too many disagree", "seen_report": seen}
    assert visitor.send(f"/approvals/{number}/decision", **fields).status_code == 303
    assert f"having seen shadow report {seen}" in text_of(visitor.see(f"/approvals/{number}").text)


def stored(services: Services, number: int) -> list[Any]:
    """Wait until this number of shadow scores is stored, and return them as rows."""

    def rows() -> list[Any]:
        with services.database.pooled() as connection:
            return connection.execute(ROWS).fetchall()

    wait_until(lambda: len(rows()) == number, lambda: f"{number} scores were stored, not {len(rows())}")
    return rows()
