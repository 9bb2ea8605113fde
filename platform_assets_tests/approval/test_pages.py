"""The HTML pages of approval requests."""

from __future__ import annotations

from dataclasses import replace
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any

import pytest
from starlette.requests import Request

from platform_assets.approval.pages import Consoles, find_consoles
from platform_assets.approval.policy import ApprovalPolicy
from platform_assets.approval.requests import Actor, State
from platform_assets.services import Services
from platform_assets.settings import Settings
from platform_assets_tests.approval.evidence_proposals import MODEL, PNG, SCRIPT, digest, evidence, proposal
from platform_assets_tests.approval.proposals import BERT, owner_at
from platform_assets_tests.service import People, Visitor, api, keys_of

if TYPE_CHECKING:
    from pathlib import Path

    from fastapi import FastAPI

LIVE = {"env": "production", "sources": "live", "database_url": "postgresql://me:pw@127.0.0.1:1/x"}
PUBLIC = {
    "dagster_url": "https://runs.example/dagster/",
    "mlflow_url": "https://m.example",
    "service_url": "https://a.example",
}
APPROVAL = {"decision": "approve", "reason": "Better in every respect."}


def kinds(services: Services, number: int) -> list[str]:
    return [event.kind for event in services.ledger.history(number)]


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


# One request


@pytest.mark.requirement("PRO-4")
def test_page_compares_challenger_and_champion(app: FastAPI, services: Services, people: People) -> None:
    first = services.ledger.open_request(proposal(1, model=MODEL)).id
    services.ledger.decide(first, "approve", BERT, "The first.")
    services.ledger.promoted(first)
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
        "Model type forest",
        "3,600 for training, 1,200 in the test set",
        "schedule:train_breakage_model",
        "Which device will break?",
        "sample data",
        "Requested by schedule:train_breakage_model (identity not verified)",
    ):
        assert expected in shown
    assert (
        f'<img src="/approvals/{number}/plots/roc.png"'
        in Visitor(app).sign_in(people.anna).see(f"/approvals/{number}").text
    )


@pytest.mark.requirement("PRO-4")
def test_evidence_links_to_runs_and_tables(app: FastAPI, services: Services, people: People) -> None:
    frozen = evidence(runs={"dagster": "5f3a", "mlflow": "ab/c"})
    request = services.ledger.open_request(proposal(1, evidence=frozen))
    number = request.id
    page = Visitor(app).sign_in(people.anna).see(f"/approvals/{number}").text
    links = {attributes.get("href") for tag, attributes in tags(page) if tag == "a"}
    assert links >= {
        "http://localhost:3000/runs/5f3a",
        "http://localhost:5000/#/runs/ab%2Fc",
        f"http://localhost:5000/#/models/{request.model}/versions/1",
        "http://localhost:3000/assets/somewhere/readings?view=events",
    }
    assert services.ledger.page(number) == f"http://localhost:8000/approvals/{number}"


@pytest.mark.requirement("PRO-4")
@pytest.mark.parametrize(
    ("host", "given", "dagster", "mlflow", "page"),
    [
        ("[::1]:8000", {}, "http://[::1]:3000", "http://[::1]:5000", "http://localhost:8000/approvals/7"),
        ("a.example", LIVE, "", "", ""),
        (
            "a.example",
            LIVE | PUBLIC,
            "https://runs.example/dagster",
            "https://m.example",
            "https://a.example/approvals/7",
        ),
        ("a.example", PUBLIC, "https://runs.example/dagster", "https://m.example", "https://a.example/approvals/7"),
    ],
)
def test_links_lead_to_the_addresses_in_the_settings(
    tmp_path: Path, host: str, given: dict[str, str], dagster: str, mlflow: str, page: str
) -> None:
    settings = Settings(home=tmp_path, **given)  # type: ignore[arg-type]
    scope = {"type": "http", "scheme": "http", "path": "/", "query_string": b"", "headers": [(b"host", host.encode())]}
    assert find_consoles(settings, Request(scope)) == Consoles(dagster, mlflow)
    assert Services(settings).ledger.page(7) == page


@pytest.mark.requirement("PRO-4", "PRO-9")
def test_invisible_characters_from_older_releases_are_shown_escaped(
    app: FastAPI, services: Services, people: People
) -> None:
    number = services.ledger.open_request(proposal(1)).id
    with owner_at(services.settings.database_url.get_secret_value()) as owner:
        owner.execute(
            "insert into platform.approval_events values (0, %s, 'REJECTED', 'reject', %s, false, %s, false, null,"
            " '{}', now(), '', '', '')",
            [number, "an\u202ena\x1b[2K", "line\nother \x1b[31m\u202eline"],
        )
    page = Visitor(app).sign_in(people.anna).see(f"/approvals/{number}").text
    assert r"an\u202ena\x1b[2K" in page
    assert "line\nother \\x1b[31m\\u202eline" in page
    told = services.ledger.history(number)[-1].told
    for text in (page, told):
        assert not {"\x1b", "\u202e"} & set(text)


def test_page_without_a_champion_shows_no_comparison(app: FastAPI, services: Services, people: People) -> None:
    number = services.ledger.open_request(proposal(1, evidence=evidence(difference=None))).id
    shown = text_of(Visitor(app).sign_in(people.anna).see(f"/approvals/{number}").text)
    assert "There was no champion to compare this version with." in shown
    assert "Conclusion" not in shown
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
def test_incomplete_evidence_is_shown(app: FastAPI, services: Services, people: People, frozen: dict[str, Any]) -> None:
    number = services.ledger.open_request(proposal(1, evidence=frozen, plots={}, launched_by=None)).id
    assert Visitor(app).sign_in(people.anna).see(f"/approvals/{number}").status_code == 200
    assert api(app, people.anna).get(f"/approvals/{number}").json()["evidence"] == frozen


UNREADABLE: list[dict[str, Any]] = [
    {"metrics": {"roc_auc": 5}},
    {"metrics": {"roc_auc": {"value": "x"}}},
    {"verdict": {"passed": True, "reasons": ["text"]}},
    {"subgroups": {"site": 5}},
    {"subgroups": {"site": {"9" * 5_000: {"recall": {"value": 1}}}}},
    {"runs": {"dagster": 5}},
    {"record": {"split": 5}},
]


@pytest.mark.requirement("PRO-4", "PRO-9")
def test_unreadable_evidence_is_reported_on_the_page(app: FastAPI, services: Services, people: People) -> None:
    """The ledger does not check all of the evidence. A person must be able to reject a request with bad evidence."""
    anna = Visitor(app).sign_in(people.anna)
    for change in UNREADABLE:
        number = services.ledger.open_request(proposal(evidence=evidence(**change))).id
        answer = anna.see(f"/approvals/{number}")
        assert (answer.status_code, "The evidence cannot be read" in text_of(answer.text)) == (200, True), change
        assert anna.send(f"/approvals/{number}/decision", decision="reject", reason="unreadable").status_code == 303
    readable = services.ledger.open_request(proposal()).id
    assert "The evidence cannot be read" not in anna.see(f"/approvals/{readable}").text


def test_untrusted_text_is_escaped_in_the_page(app: FastAPI, services: Services) -> None:
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
    wanted = replace(
        proposal(1), model=bad, launched_by=bad, requested_by=Actor(bad), evidence=frozen, plots={"x.png": PNG}
    )
    number = services.ledger.open_request(wanted).id
    secret = keys_of(services).add("evil", bad, {"read", "approve"})
    visitor = Visitor(app).sign_in(secret)
    pages = [visitor.see("/approvals").text, visitor.see(f"/approvals/{number}").text]
    pages.append(visitor.send(f"/approvals/{number}/decision", decision=bad, reason=bad, delivery=bad).text)
    services.ledger.decide(number, "reject", Actor(bad, secret), bad)
    pages += [visitor.see(f"/approvals/{number}").text, visitor.see(f"/nothing{bad}").text]
    for page in pages:
        assert "alert(" in page or "nothing" in page
        assert "<script" not in page.lower()
        assert 'href="javascript' not in page
        assert "2469134" not in page
        assert not [attribute for _, attributes in tags(page) for attribute in attributes if attribute.startswith("on")]


# Decisions of people


@pytest.mark.requirement("PRO-4", "PRO-5")
@pytest.mark.parametrize(("decision", "state"), [("approve", State.APPROVED), ("reject", State.REJECTED)])
def test_a_decision_on_the_page_is_recorded(
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
def test_incomplete_form_is_shown_again_with_its_contents(
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
def test_a_second_decision_is_refused_and_the_page_shows_the_first(
    app: FastAPI, services: Services, people: People, pending: int
) -> None:
    anna, bert = Visitor(app).sign_in(people.anna), Visitor(app).sign_in(people.bert)
    for visitor in (anna, bert):
        visitor.see(f"/approvals/{pending}")
    assert anna.send(f"/approvals/{pending}/decision", **APPROVAL).status_code == 303
    response = bert.send(f"/approvals/{pending}/decision", decision="reject", reason="Too late.")
    assert response.status_code == 409
    assert "Your decision was not recorded" in response.text
    assert "Approved by <strong>anna</strong>" in response.text
    assert kinds(services, pending) == ["request", "approve"]


def test_double_click_records_one_decision(app: FastAPI, services: Services, people: People, pending: int) -> None:
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
def test_an_override_is_offered_only_if_the_gate_failed_and_the_policy_allows_it(
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


def test_the_decision_form_is_hidden_from_a_person_without_the_scope_approve(
    app: FastAPI, people: People, pending: int
) -> None:
    shown = Visitor(app).sign_in(people.rita).see(f"/approvals/{pending}").text
    assert "<textarea" not in shown
    assert "a key that has the scope <code>approve</code>" in shown


def test_the_page_shows_how_many_of_the_required_approvals_were_given(
    app: FastAPI, services: Services, people: People
) -> None:
    number = services.ledger.open_request(proposal(1, policy=ApprovalPolicy(approvals=2))).id
    visitor = Visitor(app).sign_in(people.anna)
    visitor.see(f"/approvals/{number}")
    assert visitor.send(f"/approvals/{number}/decision", **APPROVAL).status_code == 303
    assert "1 of 2 approvals given" in text_of(visitor.see(f"/approvals/{number}").text)
    assert services.ledger.request(number).state is State.PENDING
    response = api(app, people.bert).post(f"/approvals/{number}/decision", json=APPROVAL)
    assert response.json()["decision"]["actor"] == "bert"


# All pages


@pytest.mark.requirement("PRO-4")
@pytest.mark.parametrize("path", ["/sign-in", "/approvals", "request", "error", "/docs", "/nothing"])
def test_pages_are_accessible(app: FastAPI, people: People, pending: int, path: str) -> None:
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
