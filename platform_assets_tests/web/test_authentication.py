"""Keys of programs, sessions of people, and CSRF tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from pydantic import SecretStr
from starlette.requests import Request

from platform_assets.app import application
from platform_assets.services import Services
from platform_assets.settings import Settings
from platform_assets.web.api_keys import hashed
from platform_assets.web.browser_sessions import SESSION_SECONDS
from platform_assets.web.pages import safe_next, wants_page
from platform_assets_tests.approval.proposals import owner_at
from platform_assets_tests.service import HTML, People, Visitor, api, keys_of
from platform_assets_tests.test_app import NOWHERE, problem

if TYPE_CHECKING:
    from pathlib import Path

    from fastapi import FastAPI

COOKIE = "platform_session"


# Keys of programs


@pytest.mark.requirement("SRV-1")
@pytest.mark.parametrize(
    ("header", "error"),
    [
        ("", ""),
        ("Bearer", "invalid_request"),
        ("Bearer ", "invalid_request"),
        ("Bearer two words", "invalid_request"),
        ("Basic YW5uYTpwdw==", "invalid_request"),
        ("Bearer nonsense", "invalid_token"),
        ("Bearer ' or 1=1 --", "invalid_request"),
        ("Bearer 'or(1=1)--", "invalid_token"),
        ("Bearer " + "x" * 5_000, "invalid_token"),
        ("Bearer ä", "invalid_token"),
    ],
)
@pytest.mark.parametrize("path", ["/approvals", "/approvals/1", "/approvals/1/plots/roc.png"])
@pytest.mark.usefixtures("pending")
def test_request_without_a_valid_key_is_refused(app: FastAPI, header: str, error: str, path: str) -> None:
    headers: Any = {"Authorization": header.encode("latin-1")} if header else {}
    response = api(app).get(path, headers=headers)
    assert response.status_code == 401
    challenge = response.headers["www-authenticate"]
    assert challenge.startswith('Bearer realm="platform-assets"')
    assert (f'error="{error}"' in challenge) if error else ("error" not in challenge)
    assert problem(response)["type"] == "urn:platform-assets:key-needed"
    assert "model_" not in response.text


@pytest.mark.requirement("SRV-1")
@pytest.mark.parametrize("word", ["Bearer", "bearer", "BEARER "])
def test_valid_key_is_accepted(app: FastAPI, people: People, word: str) -> None:
    assert api(app).get("/approvals", headers={"Authorization": f"{word} {people.rita}"}).status_code == 200


@pytest.mark.requirement("SRV-1")
def test_revoked_key_is_refused(app: FastAPI, services: Services) -> None:
    keys = keys_of(services)
    client = api(app, keys.add("lost", "rita", {"read"}))
    assert client.get("/approvals").status_code == 200
    keys.revoke("lost")
    assert client.get("/approvals").status_code == 401


@pytest.mark.requirement("SRV-1", "PRO-4")
def test_scopes_of_a_key_are_enforced(app: FastAPI, people: People, pending: int) -> None:
    decision = {"decision": "approve", "reason": "fine"}
    allowed = {
        name: (
            api(app, secret).get("/approvals").status_code,
            api(app, secret).get(f"/approvals/{pending}").status_code,
            api(app, secret).get(f"/approvals/{pending}/plots/roc.png").status_code,
            api(app, secret).post(f"/approvals/{pending}/decision", json=decision).status_code,
        )
        for name, secret in (("shop", people.program), ("rita", people.rita), ("bert", people.bert))
    }
    assert allowed == {"shop": (403, 403, 403, 403), "rita": (200, 200, 200, 403), "bert": (200, 200, 200, 200)}


def test_the_refusal_names_the_missing_scope(app: FastAPI, people: People, pending: int) -> None:
    response = api(app, people.rita).post(f"/approvals/{pending}/decision", json={"decision": "approve", "reason": "x"})
    found = problem(response)
    assert found["type"] == "urn:platform-assets:scope-missing"
    assert found["scopes_needed"] == ["approve"]
    assert "needs `approve`" in found["detail"]
    assert 'error="insufficient_scope"' in response.headers["www-authenticate"]


# Sessions of people


def test_sign_in_returns_to_the_requested_page(app: FastAPI, people: People, pending: int) -> None:
    visitor = Visitor(app)
    response = visitor.see(f"/approvals/{pending}?x=1")
    assert response.status_code == 303
    assert response.headers["location"] == f"/sign-in?next=%2Fapprovals%2F{pending}%3Fx%3D1"
    visitor.see(response.headers["location"])
    response = visitor.send("/sign-in", key=f" {people.anna}\n", next=f"/approvals/{pending}?x=1")
    assert (response.status_code, response.headers["location"]) == (303, f"/approvals/{pending}?x=1")
    assert "Signed in as <strong>anna</strong>" in visitor.see(f"/approvals/{pending}").text


@pytest.mark.parametrize("key", ["", "  ", "nonsense", "\0", "x" * 5_000, "\N{PILE OF POO}"])
@pytest.mark.usefixtures("people")
def test_unknown_key_is_reported_next_to_the_field_of_the_sign_in_form(app: FastAPI, key: str) -> None:
    visitor = Visitor(app)
    visitor.see("/sign-in")
    response = visitor.send("/sign-in", key=key)
    assert response.status_code == 422
    assert '<p class="error" id="key-error">' in response.text or "1000 characters" in response.text
    assert visitor.see("/approvals").status_code == 303


@pytest.mark.requirement("SRV-1")
@pytest.mark.parametrize(
    ("base", "env", "name", "secure"),
    [
        ("http://localhost:8000", "development", COOKIE, False),
        ("http://127.0.0.1:8000", "development", COOKIE, False),
        ("http://[::1]:8000", "development", COOKIE, False),
        ("https://localhost", "development", f"__Host-{COOKIE}", True),
        ("http://elsewhere", "development", f"__Host-{COOKIE}", True),
        ("http://localhost:8000", "production", f"__Host-{COOKIE}", True),
        ("https://models.example", "production", f"__Host-{COOKIE}", True),
    ],
)
def test_the_cookie_has_the_flags_that_protect_it(tmp_path: Path, base: str, env: Any, name: str, secure: bool) -> None:
    settings = Settings(home=tmp_path, database_url=SecretStr(NOWHERE), env=env, sources="live", lake_uri=str(tmp_path))
    page = Visitor(application(Services(settings)), base).see("/sign-in")
    assert ("was loaded without TLS" in page.text) is (secure and base.startswith("http:"))
    cookie = page.headers["set-cookie"]
    assert cookie.startswith(f"{name}=")
    flags = {flag.strip().lower() for flag in cookie.split(";")[1:]}
    wanted = {"httponly", "samesite=strict", "path=/", f"max-age={SESSION_SECONDS}"}
    assert flags == wanted | ({"secure"} if secure else set())


def test_the_cookie_contains_no_secret_and_changes_at_sign_in(app: FastAPI, people: People) -> None:
    visitor = Visitor(app)
    visitor.see("/sign-in")
    before = visitor.client.cookies[COOKIE]
    visitor.sign_in(people.anna)
    after = visitor.client.cookies[COOKIE]
    assert before != after
    assert people.anna not in after


@pytest.mark.requirement("SRV-1")
def test_revoking_a_key_ends_its_sessions(app: FastAPI, services: Services) -> None:
    keys = keys_of(services)
    visitor = Visitor(app).sign_in(keys.add("stolen", "anna", {"read"}))
    keys.revoke("stolen")
    assert visitor.see("/approvals").status_code == 303


def test_a_new_key_with_the_same_name_does_not_restore_the_session(app: FastAPI, services: Services) -> None:
    keys = keys_of(services)
    visitor = Visitor(app).sign_in(keys.add("old", "rita", {"read"}))
    keys.revoke("old")
    keys.add("old", "somebody else", {"read", "approve"})
    assert visitor.see("/approvals").status_code == 303


def test_session_ends_at_its_expiry_time(app: FastAPI, services: Services, people: People) -> None:
    visitor = Visitor(app).sign_in(people.anna)
    assert visitor.see("/approvals").status_code == 200
    with owner_at(services.settings.database_url.get_secret_value()) as owner:
        lasts = owner.execute(
            "update platform.sessions set expires_at = now() where hash = %s returning expires_at - created_at"
            " < interval '1 hour'",
            [hashed(visitor.client.cookies[COOKIE])],
        ).fetchone()
    assert lasts == (True,)
    assert visitor.see("/approvals").status_code == 303


@pytest.mark.requirement("SRV-1")
def test_forged_cookie_is_rejected(app: FastAPI, people: People) -> None:
    visitor = Visitor(app).sign_in(people.anna)
    good = visitor.client.cookies[COOKIE]
    elsewhere = Visitor(app).see("/sign-in").cookies[COOKIE]
    for forged in (
        "",
        "x",
        good[:-1],
        good + "x",
        hashed(good),
        elsewhere,
        people.anna,
        "ps_" + "x" * 43,
        "%00",
        "a.b",
    ):
        visitor.client.cookies.clear()
        visitor.client.cookies[COOKIE] = forged
        assert visitor.see("/approvals").status_code == 303, forged


@pytest.mark.requirement("SRV-1", "PRO-9")
def test_signing_out_ends_the_session_on_the_server(app: FastAPI, people: People, pending: int) -> None:
    visitor, thief = Visitor(app).sign_in(people.anna), Visitor(app)
    copied = visitor.client.cookies[COOKIE]
    thief.client.cookies[COOKIE] = copied
    assert visitor.client.post("/sign-out").status_code == 403
    assert visitor.see("/approvals").status_code == 200
    assert thief.see("/approvals").status_code == 200
    response = visitor.send("/sign-out")
    assert (response.status_code, response.headers["location"]) == (303, "/sign-in")
    assert COOKIE not in visitor.client.cookies
    assert visitor.see("/approvals").status_code == 303
    thief.client.cookies[COOKIE] = copied
    decision = {"decision": "approve", "reason": "stolen"}
    assert thief.send(f"/approvals/{pending}/decision", **decision).status_code in {303, 401}
    assert thief.see("/approvals").status_code == 303


# CSRF tokens


@pytest.mark.requirement("SRV-1")
@pytest.mark.parametrize("forged", ["missing", "empty", "nonsense", "of another session", "of before sign-in"])
def test_form_without_the_csrf_token_of_its_session_is_refused(
    app: FastAPI, services: Services, people: People, pending: int, forged: str
) -> None:
    visitor = Visitor(app)
    visitor.see("/sign-in")
    before = visitor.token
    visitor.sign_in(people.anna)
    other = Visitor(app).sign_in(people.bert).token
    tokens = {"empty": "", "nonsense": "ä\0x", "of another session": other, "of before sign-in": before}
    fields = {"decision": "approve", "reason": "forged"}
    if forged != "missing":
        fields["csrf_token"] = tokens[forged]
    response = visitor.client.post(f"/approvals/{pending}/decision", data=fields)
    assert response.status_code == 403
    assert [event.kind for event in services.ledger.history(pending)] == ["request"]


def test_json_with_a_session_instead_of_a_key_is_refused(
    app: FastAPI, services: Services, people: People, pending: int
) -> None:
    visitor = Visitor(app).sign_in(people.anna)
    response = visitor.client.post(f"/approvals/{pending}/decision", json={"decision": "approve", "reason": "forged"})
    assert response.status_code == 403
    assert [event.kind for event in services.ledger.history(pending)] == ["request"]


def test_sign_in_form_without_a_csrf_token_is_refused(app: FastAPI, people: People) -> None:
    response = Visitor(app).client.post("/sign-in", data={"key": people.anna})
    assert response.status_code == 403
    assert COOKIE not in response.cookies or "anna" not in response.cookies[COOKIE]


# Links


@pytest.mark.parametrize(
    ("asked", "target"),
    [
        ("/approvals", "/approvals"),
        ("/approvals/12", "/approvals/12"),
        ("/approvals?state=PENDING&page=1", "/approvals?state=PENDING&page=1"),
        ("", "/approvals"),
        ("https://evil.example", "/approvals"),
        ("//evil.example", "/approvals"),
        ("/\\evil.example", "/approvals"),
        ("/approvals@evil.example", "/approvals"),
        ("/approvals/../sign-out", "/approvals"),
        ("/approvals\r\nSet-Cookie: a=b", "/approvals"),
        ("javascript:alert(1)", "/approvals"),
    ],
)
def test_sign_in_redirects_only_to_pages_of_this_site(asked: str, target: str) -> None:
    assert safe_next(asked) == target


def test_link_from_another_site_keeps_the_session(app: FastAPI, people: People, pending: int) -> None:
    """A browser does not send the session cookie in a cross-site request, so the page reloads itself to get it."""
    signed_in, path = Visitor(app).sign_in(people.anna), f"/approvals/{pending}?a=%3Cb%3E"
    for page in (path, "/sign-in"):
        response = Visitor(app).see(page, **{"Sec-Fetch-Site": "cross-site"})
        assert response.status_code == 200
        assert '<meta http-equiv="refresh" content="0">' in response.text
        # A new cookie would replace the session of the browser.
        assert "set-cookie" not in response.headers
        assert "<b>" not in response.text
    assert signed_in.see(path, **{"Sec-Fetch-Site": "same-origin"}).status_code == 200


@pytest.mark.parametrize(
    ("accept", "page"),
    [
        (None, False),
        ("*/*", False),
        ("application/json", False),
        (HTML, True),
        ("text/html", True),
        ("TEXT/HTML;level=1", True),
        ("text/html;q=0", False),
        ("text/html;q=0.5, application/json", False),
        ("application/json;q=0.5, text/html", True),
        ("text/html;q=nonsense", True),
        (";;,,q=", False),
    ],
)
def test_browsers_get_pages_and_programs_get_json(accept: str | None, page: bool) -> None:
    headers = [(b"accept", accept.encode())] if accept is not None else []
    assert wants_page(Request({"type": "http", "headers": headers})) is page
