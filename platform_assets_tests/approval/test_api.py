"""Requests and decisions over HTTP: as JSON for programs, and as pages for people."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from html.parser import HTMLParser
from threading import Barrier
from typing import TYPE_CHECKING, Any

import pytest

from platform_assets.approval.api import MAX_REASON
from platform_assets.approval.policy import ApprovalPolicy
from platform_assets.approval.requests import Actor, State
from platform_assets_tests.approval.evidence_proposals import MODEL, OVER, PNG, SCRIPT, digest, evidence, proposal
from platform_assets_tests.service import People, Visitor, api, keys_of
from platform_assets_tests.test_app import problem

if TYPE_CHECKING:
    from fastapi import FastAPI

    from platform_assets.services import Services

BERT = Actor("bert", authenticated=True, scopes=frozenset({"approve"}))
APPROVAL = {"decision": "approve", "reason": "Better in every respect."}


def kinds(services: Services, number: int) -> list[str]:
    return [event.kind for event in services.ledger.history(number)]


# One request


@pytest.mark.requirement("PRO-4")
def test_a_request_as_json_holds_all_evidence(app: FastAPI, people: People, pending: int) -> None:
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
def test_what_is_not_there_is_told(app: FastAPI, people: People, accept: str, path: str, status: int) -> None:
    response = api(app, people.rita).get(path, headers={"Accept": accept})
    assert response.status_code == status
    assert response.headers["content-type"].startswith("text/html" if accept == "text/html" else "application/problem")


@pytest.mark.requirement("PRO-4")
def test_a_plot_is_an_image(app: FastAPI, people: People, pending: int) -> None:
    response = api(app, people.rita).get(f"/approvals/{pending}/plots/roc.png")
    assert (response.headers["content-type"], response.content) == ("image/png", PNG)


@pytest.mark.requirement("PRO-4")
def test_the_page_shows_challenger_beside_champion(app: FastAPI, services: Services, people: People) -> None:
    first = services.ledger.open_request(proposal(1, model=MODEL)).id
    services.ledger.decide(first, "approve", BERT, "The first.")
    services.ledger.promoted(first, BERT)
    number = services.ledger.open_request(proposal(2, model=MODEL, champion=(1, digest(1)))).id
    shown = text_of(Visitor(app).sign_in(people.anna).see(f"/approvals/{number}").text)
    for expected in (
        "breakage_model version 2",
        "Metrics of version 2 and of the champion, version 1",
        "ROC AUC",
        "0.75 0.77 [0.75 to 0.79] +0.02 [+0.01 to +0.03] better",
        "worse",
        "no clear difference",
        "Quality gate: passed",
        "Met: Recall is 0.8 (0.77 to 0.83).",
        "By site, 2 values",
        "version 3, duckdb2:00ff",
        "0.1.0+1a2b3c4d5e6f",
        "Kind of model forest",
        "3,600 to train on, 1,200 held out",
        "schedule:train_breakage_model",
        "Which device will break?",
        "sample data",
        "Requested by schedule:train_breakage_model",
    ):
        assert expected in shown
    assert (
        f'<img src="/approvals/{number}/plots/roc.png"'
        in Visitor(app).sign_in(people.anna).see(f"/approvals/{number}").text
    )


def test_without_a_champion_the_page_compares_nothing(app: FastAPI, services: Services, people: People) -> None:
    number = services.ledger.open_request(proposal(1, evidence=evidence(difference=None))).id
    shown = text_of(Visitor(app).sign_in(people.anna).see(f"/approvals/{number}").text)
    assert "There was no champion to compare with." in shown
    assert "Reading" not in shown
    assert "Challenger" in shown


@pytest.mark.parametrize(
    "frozen",
    [
        {},
        {"metrics": {}},
        evidence(difference=None),
        evidence(demo="yes", card=5, tables=None, verdict=None),
    ],
)
def test_evidence_that_lacks_something_is_still_shown(
    app: FastAPI, services: Services, people: People, frozen: dict[str, Any]
) -> None:
    number = services.ledger.open_request(proposal(1, evidence=frozen, plots={}, launched_by=None)).id
    assert Visitor(app).sign_in(people.anna).see(f"/approvals/{number}").status_code == 200
    assert api(app, people.anna).get(f"/approvals/{number}").json()["evidence"] == frozen


def test_text_of_others_is_never_markup(app: FastAPI, services: Services) -> None:
    bad = f'{SCRIPT}"onload="x" {{{{1234567*2}}}}'
    frozen = evidence(
        passed=False,
        card=f"**{bad}** [a](javascript:alert(1)) ![b](x)",
        subgroups={bad: {bad: {"recall": {"value": 0.1, "low": None, "high": None}}}},
        tables={bad: bad},
        table_digests={bad: bad},
        git_commit=bad,
        verdict={"passed": False, "reasons": [{"name": bad, "passed": False, "told": bad}]},
        metrics={bad: {"value": 0.1, "low": None, "high": None}},
    )
    wanted = replace(proposal(1), model=bad, launched_by=bad, requested_by=bad, evidence=frozen, plots={"x.png": PNG})
    number = services.ledger.open_request(wanted).id
    secret = keys_of(services).add("evil", bad, {"read", "approve"})
    visitor = Visitor(app).sign_in(secret)
    pages = [visitor.see("/approvals").text, visitor.see(f"/approvals/{number}").text]
    pages.append(visitor.send(f"/approvals/{number}/decision", decision=bad, reason=bad, delivery=bad).text)
    services.ledger.decide(number, "reject", replace(BERT, name=bad), bad)
    pages += [visitor.see(f"/approvals/{number}").text, visitor.see(f"/nothing{bad}").text]
    for page in pages:
        assert "alert(" in page or "nothing" in page
        assert "<script" not in page.lower()
        assert 'href="javascript' not in page
        assert "2469134" not in page
        assert not [attribute for _, attributes in tags(page) for attribute in attributes if attribute.startswith("on")]


# Decisions of programs


@pytest.mark.requirement("PRO-4", "PRO-5")
@pytest.mark.parametrize(
    ("decision", "state"), [("approve", "APPROVED"), ("reject", "REJECTED"), ("withdraw", "WITHDRAWN")]
)
def test_a_decision_is_recorded_with_the_name_that_the_key_proves(
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
def test_a_senseless_decision_names_the_field_and_is_not_recorded(
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
def test_other_bodies_are_not_read(app: FastAPI, people: People, pending: int, kind: str) -> None:
    response = api(app, people.anna).post(
        f"/approvals/{pending}/decision", content=b"x", headers={"Content-Type": kind} if kind else {}
    )
    assert problem(response)["status"] == 415


@pytest.mark.parametrize("body", [b"", b"--x\r\n", b"--x\r\nContent-Disposition: form-data\r\n\r\nx\r\n--x--", b"\xff"])
def test_a_broken_form_is_no_defect(app: FastAPI, people: People, pending: int, body: bytes) -> None:
    for kind in ("multipart/form-data; boundary=x", "multipart/form-data", "application/x-www-form-urlencoded"):
        response = api(app, people.anna).post(
            f"/approvals/{pending}/decision", content=body, headers={"Content-Type": kind}
        )
        assert response.status_code in {400, 422}, response.text


@pytest.mark.requirement("PRO-5")
def test_a_second_decision_is_told_which_one_stands(
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
def test_of_two_people_at_the_same_moment_one_wins_and_the_other_is_told(
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
def test_a_decision_that_is_delivered_twice_counts_once(
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
        ({"policy": ApprovalPolicy(four_eyes=True), "launched_by": "anna"}, {}, "four eyes"),
        ({"policy": ApprovalPolicy(four_eyes=True), "launched_by": None}, {}, "nobody knows who launched"),
        ({"policy": ApprovalPolicy(approvers=("bert",))}, {}, "bert may"),
        ({"evidence": evidence(passed=False)}, {}, "did not pass the gate"),
        ({"evidence": evidence(passed=False)}, {"override": True}, "may not override"),
    ],
)
def test_what_the_policy_forbids_is_refused_with_the_reason(
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


# Decisions of people


@pytest.mark.requirement("PRO-4", "PRO-5")
@pytest.mark.parametrize(("decision", "state"), [("approve", State.APPROVED), ("reject", State.REJECTED)])
def test_a_person_decides_on_the_page(
    app: FastAPI, services: Services, people: People, pending: int, decision: str, state: State
) -> None:
    visitor = Visitor(app).sign_in(people.anna)
    visitor.see(f"/approvals/{pending}")
    response = visitor.send(f"/approvals/{pending}/decision", decision=decision, reason="Grüße \N{PILE OF POO}")
    assert (response.status_code, response.headers["location"]) == (303, f"/approvals/{pending}")
    event = services.ledger.history(pending)[-1]
    assert (event.state, event.actor, event.authenticated, event.reason) == (
        state,
        "anna",
        True,
        "Grüße \N{PILE OF POO}",
    )
    shown = visitor.see(f"/approvals/{pending}").text
    assert f"{decision.capitalize()}{'d' if decision == 'approve' else 'ed'} by <strong>anna</strong>" in shown
    assert "Record my decision" not in shown


@pytest.mark.requirement("PRO-4")
@pytest.mark.parametrize(
    ("sent", "errors"),
    [
        ({}, {"decision", "reason"}),
        ({"reason": "kept"}, {"decision"}),
        ({"decision": "reject", "reason": " "}, {"reason"}),
        ({"decision": "reject", "reason": "k\0ept"}, {"reason"}),
        ({"decision": "nonsense", "reason": "kept"}, {"decision"}),
        ({"decision": "reject", "reason": "kept" * 501}, {"reason"}),
    ],
)
def test_an_incomplete_form_comes_back_with_what_was_written(
    app: FastAPI, services: Services, people: People, pending: int, sent: dict[str, str], errors: set[str]
) -> None:
    visitor = Visitor(app).sign_in(people.anna)
    visitor.see(f"/approvals/{pending}")
    response = visitor.send(f"/approvals/{pending}/decision", **sent)
    assert response.status_code == 422
    assert {field for field in ("decision", "reason") if f'id="{field}-error"' in response.text} == errors
    assert {field for field in ("decision", "reason") if f'<a href="#{field}">' in response.text} == errors
    assert "<title>Error: " in response.text
    assert f">\n{sent.get('reason', '')}</textarea>" in response.text
    assert ('value="reject" required aria-describedby="decision-reject-hint" checked' in response.text) == (
        sent.get("decision") == "reject"
    )
    assert kinds(services, pending) == ["request"]


@pytest.mark.requirement("PRO-5")
def test_whoever_comes_second_sees_what_stands(app: FastAPI, services: Services, people: People, pending: int) -> None:
    anna, bert = Visitor(app).sign_in(people.anna), Visitor(app).sign_in(people.bert)
    for visitor in (anna, bert):
        visitor.see(f"/approvals/{pending}")
    assert anna.send(f"/approvals/{pending}/decision", **APPROVAL).status_code == 303
    response = bert.send(f"/approvals/{pending}/decision", decision="reject", reason="Too late.")
    assert response.status_code == 409
    assert "Your decision was not recorded" in response.text
    assert "Approved by <strong>anna</strong>" in response.text
    assert kinds(services, pending) == ["request", "approve"]


def test_a_double_click_is_one_decision(app: FastAPI, services: Services, people: People, pending: int) -> None:
    visitor = Visitor(app).sign_in(people.anna)
    shown = visitor.see(f"/approvals/{pending}").text
    delivery = shown.split('name="delivery" value="')[1].split('"')[0]
    for _ in range(2):
        response = visitor.send(f"/approvals/{pending}/decision", **APPROVAL, delivery=delivery)
        assert response.status_code == 303
    assert kinds(services, pending) == ["request", "approve"]
    assert delivery not in visitor.see(f"/approvals/{pending}").text


@pytest.mark.requirement("PRO-4")
@pytest.mark.parametrize(
    ("passed", "allowed", "offered"), [(False, ("Anna",), True), (False, ("bert",), False), (True, ("anna",), False)]
)
def test_an_override_is_offered_where_it_is_needed_and_allowed(
    app: FastAPI, services: Services, people: People, passed: bool, allowed: tuple[str, ...], offered: bool
) -> None:
    policy = ApprovalPolicy(may_override=allowed)
    number = services.ledger.open_request(proposal(1, evidence=evidence(passed=passed), policy=policy)).id
    visitor = Visitor(app).sign_in(people.anna)
    shown = visitor.see(f"/approvals/{number}").text
    assert ('name="override"' in shown) is offered
    assert ("you may not override it" in shown) is (not passed and not offered)
    if offered:
        response = visitor.send(f"/approvals/{number}/decision", **APPROVAL, override="true")
        assert response.status_code == 303
        assert services.ledger.history(number)[-1].override
        assert "overriding the failed gate" in visitor.see(f"/approvals/{number}").text


def test_who_may_only_read_is_offered_no_form(app: FastAPI, people: People, pending: int) -> None:
    shown = Visitor(app).sign_in(people.rita).see(f"/approvals/{pending}").text
    assert "<textarea" not in shown
    assert "one that has the scope approve" in shown


def test_votes_are_counted(app: FastAPI, services: Services, people: People) -> None:
    number = services.ledger.open_request(proposal(1, policy=ApprovalPolicy(approvals=2))).id
    visitor = Visitor(app).sign_in(people.anna)
    visitor.see(f"/approvals/{number}")
    assert visitor.send(f"/approvals/{number}/decision", **APPROVAL).status_code == 303
    assert "1 of 2 approvals given" in text_of(visitor.see(f"/approvals/{number}").text)
    assert services.ledger.request(number).state is State.PENDING
    response = api(app, people.bert).post(f"/approvals/{number}/decision", json=APPROVAL)
    assert response.json()["decision"]["actor"] == "bert"


# Pages for everybody


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def read(page: str) -> _Reader:
    reader = _Reader()
    reader.feed(page)
    return reader


def tags(page: str) -> list[tuple[str, dict[str, str | None]]]:
    return read(page).tags


def text_of(page: str) -> str:
    return " ".join(" ".join(read(page).text).split())


@pytest.mark.requirement("PRO-4")
@pytest.mark.parametrize("path", ["/sign-in", "/approvals", "request", "error", "/docs", "/nothing"])
def test_pages_can_be_read_by_everybody(app: FastAPI, people: People, pending: int, path: str) -> None:
    visitor = Visitor(app).sign_in(people.anna)
    page = visitor.see(f"/approvals/{pending}" if path in {"request", "error"} else path).text
    if path == "error":
        page = visitor.send(f"/approvals/{pending}/decision").text
    found = tags(page)
    ids = [attributes["id"] for _, attributes in found if "id" in attributes]
    assert len(ids) == len(set(ids))
    named = dict(found)
    assert named["html"]["lang"] == "en"
    assert named["meta"]
    levels = [int(tag[1]) for tag, _ in found if tag in {"h1", "h2", "h3"}]
    assert levels.count(1) == 1
    first = next(attributes for tag, attributes in found if tag == "a")
    assert (first["href"], "content" in ids) == ("#content", True)
    labels = {attributes.get("for") for tag, attributes in found if tag == "label"}
    fields = [
        attributes
        for tag, attributes in found
        if tag in {"input", "textarea", "select"} and attributes.get("type") != "hidden"
    ]
    assert {attributes["id"] for attributes in fields} == labels
    for tag, attributes in found:
        for reference in ("aria-describedby", "aria-labelledby"):
            assert set((attributes.get(reference) or "").split()) <= set(ids), attributes
        if attributes.get("href", "").startswith("#"):  # type: ignore[union-attr]
            assert attributes["href"][1:] in ids  # type: ignore[index]
        assert "style" not in attributes
        assert tag not in {"script", "style", "iframe"}
        assert tag != "img" or attributes["alt"]
        assert tag != "th" or attributes["scope"] in {"row", "col"}
    assert [tag for tag, _ in found].count("table") == [tag for tag, _ in found].count("caption")
