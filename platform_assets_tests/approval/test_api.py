"""Approval requests and decisions over HTTP, as JSON."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import TYPE_CHECKING, Any

import pytest

from platform_assets.approval.pages import MAX_REASON
from platform_assets.approval.policy import ApprovalPolicy
from platform_assets.approval.requests import State
from platform_assets_tests.approval.evidence_proposals import OVER, PNG, evidence, proposal
from platform_assets_tests.service import People, Visitor, api
from platform_assets_tests.test_app import problem

if TYPE_CHECKING:
    from fastapi import FastAPI

    from platform_assets.services import Services

APPROVAL = {"decision": "approve", "reason": "Better in every respect."}


def kinds(services: Services, number: int) -> list[str]:
    return [event.kind for event in services.ledger.history(number)]


# One request


@pytest.mark.requirement("PRO-4")
def test_a_request_as_json_contains_all_evidence(app: FastAPI, people: People, pending: int) -> None:
    found = api(app, people.rita).get(f"/approvals/{pending}").json()
    assert (found["version"], found["state"], found["gate_passed"]) == (1, "PENDING", True)
    assert found["evidence"] == evidence()
    assert found["plots"] == [f"/approvals/{pending}/plots/{name}" for name in ("roc.png", "scores.png", "of_ours.png")]
    assert [event["kind"] for event in found["history"]] == ["request"]
    assert found["champion"] is None
    assert found["decision"] is None


@pytest.mark.parametrize("accept", ["text/html", "application/json"])
@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/approvals/99999", 404),
        ("/approvals/9223372036854775807", 404),
        ("/approvals/9223372036854775808", 422),
        ("/approvals/0", 422),
        ("/approvals/-1", 422),
        ("/approvals/1e0", 422),
        ("/approvals/one", 422),
        ("/approvals/%00", 422),
        ("/approvals/1;drop table x", 422),
        ("/approvals/1/plots/nothing.png", 404),
        ("/approvals/1/plots/%00", 404),
        ("/approvals/1/plots/..%2f..%2fapp.py", 404),
        ("/approvals/99999/plots/roc.png", 404),
    ],
)
@pytest.mark.usefixtures("pending")
def test_an_unknown_request_or_plot_gets_an_error(
    app: FastAPI, people: People, accept: str, path: str, status: int
) -> None:
    response = api(app, people.rita).get(path, headers={"Accept": accept})
    assert response.status_code == status
    assert response.headers["content-type"].startswith("text/html" if accept == "text/html" else "application/problem")


@pytest.mark.requirement("PRO-4")
def test_a_plot_is_returned_as_png(app: FastAPI, people: People, pending: int) -> None:
    response = api(app, people.rita).get(f"/approvals/{pending}/plots/roc.png")
    assert (response.headers["content-type"], response.content) == ("image/png", PNG)


# Decisions of programs


@pytest.mark.requirement("PRO-4", "PRO-5")
@pytest.mark.parametrize(
    ("decision", "state"), [("approve", "APPROVED"), ("reject", "REJECTED"), ("withdraw", "WITHDRAWN")]
)
def test_a_decision_is_recorded_with_the_owner_of_the_key(
    app: FastAPI, services: Services, people: People, pending: int, decision: str, state: str
) -> None:
    sent = {"decision": decision, "reason": "  It is \N{PILE OF POO} and\r\nmore. "}
    response = api(app, people.anna).post(f"/approvals/{pending}/decision", json=sent)
    assert response.status_code == 200, response.text
    found = response.json()
    assert (found["state"], found["decision"]["actor"]) == (state, "anna")
    event = services.ledger.history(pending)[-1]
    assert (event.kind, event.actor, event.authenticated) == (decision, "anna", True)
    assert event.reason == "It is \N{PILE OF POO} and\nmore."


@pytest.mark.requirement("SRV-1")
@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b'{"decision": "approve", "reason": ""}', "reason"),
        (b'{"decision": "approve", "reason": " \\n\\t "}', "reason"),
        (b'{"decision": "approve"}', "reason"),
        (b'{"decision": "approve", "reason": null}', "reason"),
        (b'{"decision": "approve", "reason": 5}', "reason"),
        (b'{"decision": "approve", "reason": "a\\u0000b"}', "reason"),
        (b'{"decision": "approve", "reason": "a\\u001bb"}', "reason"),
        (b'{"decision": "approve", "reason": "' + b"x" * (MAX_REASON + 1) + b'"}', "reason"),
        (b'{"decision": "promote", "reason": "x"}', "decision"),
        (b'{"decision": ["approve"], "reason": "x"}', "decision"),
        (b'{"decision": {}, "reason": "x"}', "decision"),
        (b'{"reason": "x"}', "decision"),
        (b'{"decision": "approve", "reason": "x", "override": NaN}', "override"),
        (b'{"decision": "approve", "reason": "x", "override": 1e999}', "override"),
        (b'{"decision": "approve", "reason": "x", "delivery": "\\u0000"}', "delivery"),
        (b'{"decision": "approve", "reason": "x", "delivery": "' + b"x" * 101 + b'"}', "delivery"),
        (b'{"decision": "approve", "reason": "x", "approver": "somebody else"}', "approver"),
        (b'{"decision": "approve", "reason": NaN}', "reason"),
        (b'{"decision": "approve", "reason": "\\ud800"}', "body"),
        (b'{"decision": "approve", "reason": "\xff"}', "body"),
        (b'{"decision": "approve", "reason": "x"', "body"),
        (b"[" * 10_000, "body"),
        (b"[]", "body"),
        (b"NaN", "body"),
        (b"null", "body"),
        (b"", "body"),
        (b"\0", "body"),
    ],
)
def test_an_invalid_decision_is_refused_with_the_name_of_the_field(
    app: FastAPI, services: Services, people: People, pending: int, body: bytes, field: str
) -> None:
    response = api(app, people.anna).post(
        f"/approvals/{pending}/decision", content=body, headers={"Content-Type": "application/json"}
    )
    found = problem(response)
    assert found["status"] == 422
    assert [one["field"] for one in found["errors"]] == [field]
    assert kinds(services, pending) == ["request"]


@pytest.mark.parametrize("kind", ["", "text/plain", "application/xml", "application/json-patch+json"])
def test_a_body_with_an_unsupported_content_type_is_refused(
    app: FastAPI, people: People, pending: int, kind: str
) -> None:
    response = api(app, people.anna).post(
        f"/approvals/{pending}/decision", content=b"x", headers={"Content-Type": kind} if kind else {}
    )
    assert problem(response)["status"] == 415


@pytest.mark.parametrize("body", [b"", b"--x\r\n", b"--x\r\nContent-Disposition: form-data\r\n\r\nx\r\n--x--", b"\xff"])
def test_a_malformed_form_gets_a_client_error(app: FastAPI, people: People, pending: int, body: bytes) -> None:
    for kind in ("multipart/form-data; boundary=x", "multipart/form-data", "application/x-www-form-urlencoded"):
        response = api(app, people.anna).post(
            f"/approvals/{pending}/decision", content=body, headers={"Content-Type": kind}
        )
        assert response.status_code in {400, 422}, response.text


@pytest.mark.requirement("PRO-5")
def test_second_decision_is_refused_with_a_message_about_the_first(
    app: FastAPI, services: Services, people: People, pending: int
) -> None:
    path = f"/approvals/{pending}/decision"
    assert api(app, people.anna).post(path, json=APPROVAL).status_code == 200
    found = problem(api(app, people.bert).post(path, json={"decision": "reject", "reason": "Too late."}))
    assert (found["status"], found["type"]) == (409, "urn:platform-assets:already-decided")
    assert found["state"] == "APPROVED"
    assert {"actor": "anna", "kind": "approve", "reason": APPROVAL["reason"]}.items() <= found["decision"].items()
    assert "approved by anna" in found["detail"]
    assert kinds(services, pending) == ["request", "approve"]


@pytest.mark.requirement("PRO-5")
def test_only_one_of_two_concurrent_decisions_over_http_is_recorded(
    app: FastAPI, services: Services, people: People
) -> None:
    def decide(secret: str, number: int) -> int:
        ready.wait()
        return api(app, secret).post(f"/approvals/{number}/decision", json=APPROVAL).status_code

    with ThreadPoolExecutor(2) as threads:
        for _ in range(10):
            number, ready = services.ledger.open_request(proposal()).id, Barrier(2)
            found = [threads.submit(decide, secret, number) for secret in (people.anna, people.bert)]
            assert sorted(one.result() for one in found) == [200, 409]
            assert kinds(services, number) == ["request", "approve"]


@pytest.mark.requirement("PRO-5")
def test_a_decision_that_is_delivered_twice_is_recorded_once(
    app: FastAPI, services: Services, people: People, pending: int
) -> None:
    for _ in range(2):
        response = api(app, people.anna).post(f"/approvals/{pending}/decision", json=APPROVAL | {"delivery": "6f1d"})
        assert (response.status_code, response.json()["state"]) == (200, "APPROVED")
    assert kinds(services, pending) == ["request", "approve"]


@pytest.mark.requirement("PRO-6")
@pytest.mark.parametrize(
    ("changes", "sent", "told"),
    [
        ({"policy": ApprovalPolicy(four_eyes=True), "launched_by": "anna"}, {}, "four-eyes"),
        (
            {"policy": ApprovalPolicy(four_eyes=True), "launched_by": None},
            {},
            "it is unknown who launched the training",
        ),
        ({"policy": ApprovalPolicy(approvers=("bert",))}, {}, "approvers: bert"),
        ({"evidence": evidence(passed=False)}, {}, "did not pass the gate"),
        ({"evidence": evidence(passed=False)}, {"override": True}, "may not override"),
    ],
)
def test_a_decision_that_the_policy_forbids_is_refused_with_the_reason(
    app: FastAPI, services: Services, people: People, changes: dict[str, Any], sent: dict[str, Any], told: str
) -> None:
    number = services.ledger.open_request(proposal(1, **changes)).id
    found = problem(api(app, people.anna).post(f"/approvals/{number}/decision", json=APPROVAL | sent))
    assert (found["status"], found["type"]) == (403, "urn:platform-assets:decision-refused")
    assert told in found["detail"]
    visitor = Visitor(app).sign_in(people.anna)
    visitor.see(f"/approvals/{number}")
    response = visitor.send(f"/approvals/{number}/decision", **APPROVAL, **dict.fromkeys(sent, "true"))
    assert response.status_code == 403
    assert told in response.text
    assert f">\n{APPROVAL['reason']}</textarea>" in response.text
    assert kinds(services, number) == ["request"]


@pytest.mark.requirement("PRO-6")
def test_an_expired_request_is_closed(app: FastAPI, services: Services, people: People) -> None:
    number = services.ledger.open_request(proposal(1, policy=OVER)).id
    assert api(app, people.anna).post(f"/approvals/{number}/decision", json=APPROVAL).status_code == 409
    shown = Visitor(app).sign_in(people.anna).see(f"/approvals/{number}").text
    assert "Expired by <strong>platform</strong>" in shown
    assert "Record my decision" not in shown
    assert services.ledger.request(number).state is State.EXPIRED
