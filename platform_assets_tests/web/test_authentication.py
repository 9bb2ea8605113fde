"""Who gets in: keys of programs, sessions of people, and the tokens of their forms."""

from __future__ import annotations

import stat
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from typing import TYPE_CHECKING, Any

import pytest
from itsdangerous import TimestampSigner
from pydantic import SecretStr
from starlette.requests import Request

from platform_assets.app import application
from platform_assets.services import Services
from platform_assets.settings import Settings
from platform_assets.web.authentication import SESSION_SECONDS, installation_secret
from platform_assets.web.pages import safe_next, wants_page
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
def test_without_a_known_key_there_is_nothing_to_see(app: FastAPI, header: str, error: str, path: str) -> None:
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
def test_a_key_opens(app: FastAPI, people: People, word: str) -> None:
    assert api(app).get("/approvals", headers={"Authorization": f"{word} {people.rita}"}).status_code == 200


@pytest.mark.requirement("SRV-1")
def test_a_revoked_key_opens_nothing_any_more(app: FastAPI, services: Services) -> None:
    keys = keys_of(services)
    client = api(app, keys.add("lost", "rita", {"read"}))
    assert client.get("/approvals").status_code == 200
    keys.revoke("lost")
    assert client.get("/approvals").status_code == 401


@pytest.mark.requirement("SRV-1", "PRO-4")
def test_a_key_opens_what_its_scopes_say(app: FastAPI, people: People, pending: int) -> None:
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


def test_a_refusal_names_the_scope_that_is_needed(app: FastAPI, people: People, pending: int) -> None:
    response = api(app, people.rita).post(f"/approvals/{pending}/decision", json={"decision": "approve", "reason": "x"})
    found = problem(response)
    assert found["type"] == "urn:platform-assets:scope-missing"
    assert found["scopes_needed"] == ["approve"]
    assert "needs approve" in found["detail"]
    assert 'error="insufficient_scope"' in response.headers["www-authenticate"]


# Sessions of people


def test_who_is_not_signed_in_is_led_to_the_form_and_back(app: FastAPI, people: People, pending: int) -> None:
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
def test_a_wrong_key_is_told_beside_the_field(app: FastAPI, key: str) -> None:
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
def test_the_cookie_is_for_this_site_and_no_script(
    tmp_path: Path, base: str, env: Any, name: str, secure: bool
) -> None:
    settings = Settings(home=tmp_path, database_url=SecretStr(NOWHERE), env=env, sources="live", lake_uri=str(tmp_path))
    page = Visitor(application(Services(settings)), base).see("/sign-in")
    assert ("came without TLS" in page.text) is (secure and base.startswith("http:"))
    cookie = page.headers["set-cookie"]
    assert cookie.startswith(f"{name}=")
    flags = {flag.strip().lower() for flag in cookie.split(";")[1:]}
    wanted = {"httponly", "samesite=strict", "path=/", f"max-age={SESSION_SECONDS}"}
    assert flags == wanted | ({"secure"} if secure else set())


def test_the_cookie_holds_no_secret_and_changes_at_sign_in(app: FastAPI, people: People) -> None:
    visitor = Visitor(app)
    visitor.see("/sign-in")
    before = visitor.client.cookies[COOKIE]
    visitor.sign_in(people.anna)
    after = visitor.client.cookies[COOKIE]
    assert before.split(".")[0] != after.split(".")[0]
    assert people.anna not in after


@pytest.mark.requirement("SRV-1")
def test_a_revoked_key_loses_its_session_at_once(app: FastAPI, services: Services) -> None:
    keys = keys_of(services)
    visitor = Visitor(app).sign_in(keys.add("stolen", "anna", {"read"}))
    keys.revoke("stolen")
    assert visitor.see("/approvals").status_code == 303


def test_a_new_key_of_the_same_name_does_not_bring_the_session_back(app: FastAPI, services: Services) -> None:
    keys = keys_of(services)
    visitor = Visitor(app).sign_in(keys.add("old", "rita", {"read"}))
    keys.revoke("old")
    keys.add("old", "somebody else", {"read", "approve"})
    assert visitor.see("/approvals").status_code == 303


def test_a_session_ends(app: FastAPI, people: People) -> None:
    class Earlier(TimestampSigner):
        def get_timestamp(self) -> int:
            return super().get_timestamp() - SESSION_SECONDS - 1

    visitor = Visitor(app).sign_in(people.anna)
    cookies = app.state.access.sessions._cookies
    content = cookies.loads(visitor.client.cookies[COOKIE])
    old = copy(cookies)
    old.signer = Earlier
    for signed, status in ((cookies, 200), (old, 303)):
        visitor.client.cookies.clear()
        visitor.client.cookies[COOKIE] = signed.dumps(content)
        assert visitor.see("/approvals").status_code == status


@pytest.mark.requirement("SRV-1")
def test_a_forged_cookie_is_none(app: FastAPI, people: People, tmp_path: Path) -> None:
    visitor = Visitor(app).sign_in(people.anna)
    good = visitor.client.cookies[COOKIE]
    payload, *rest = good.split(".")
    elsewhere = Visitor(application(Services(Settings(home=tmp_path / "other")))).see("/sign-in")
    for forged in ("", "x", f"{payload}x.{'.'.join(rest)}", good[:-2], elsewhere.cookies[COOKIE], "%00", "a.b.c"):
        visitor.client.cookies.clear()
        visitor.client.cookies[COOKIE] = forged
        assert visitor.see("/approvals").status_code == 303, forged


def test_signing_out_takes_the_cookie(app: FastAPI, people: People) -> None:
    visitor = Visitor(app).sign_in(people.anna)
    assert visitor.client.post("/sign-out").status_code == 403
    assert visitor.see("/approvals").status_code == 200
    response = visitor.send("/sign-out")
    assert (response.status_code, response.headers["location"]) == (303, "/sign-in")
    assert COOKIE not in visitor.client.cookies
    assert visitor.see("/approvals").status_code == 303


# Tokens of forms


@pytest.mark.requirement("SRV-1")
@pytest.mark.parametrize("forged", ["missing", "empty", "nonsense", "of another session", "of before sign-in"])
def test_a_form_from_elsewhere_changes_nothing(
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


def test_a_session_alone_sends_no_json(app: FastAPI, services: Services, people: People, pending: int) -> None:
    visitor = Visitor(app).sign_in(people.anna)
    response = visitor.client.post(f"/approvals/{pending}/decision", json={"decision": "approve", "reason": "forged"})
    assert response.status_code == 403
    assert [event.kind for event in services.ledger.history(pending)] == ["request"]


def test_nobody_is_signed_in_by_a_form_from_elsewhere(app: FastAPI, people: People) -> None:
    response = Visitor(app).client.post("/sign-in", data={"key": people.anna})
    assert response.status_code == 403
    assert COOKIE not in response.cookies or "anna" not in response.cookies[COOKIE]


# Links


@pytest.mark.parametrize(
    ("asked", "led_to"),
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
def test_sign_in_leads_to_no_other_site(asked: str, led_to: str) -> None:
    assert safe_next(asked) == led_to


def test_a_link_from_another_site_finds_the_session(app: FastAPI, people: People, pending: int) -> None:
    """A browser sends the cookie not with that request, but with the next, which the page itself makes."""
    signed_in, path = Visitor(app).sign_in(people.anna), f"/approvals/{pending}?a=%3Cb%3E"
    for page in (path, "/sign-in"):
        response = Visitor(app).see(page, **{"Sec-Fetch-Site": "cross-site"})
        assert response.status_code == 200
        assert '<meta http-equiv="refresh" content="0">' in response.text
        # It would end the session that the browser has.
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
def test_browsers_get_pages_and_programs_json(accept: str | None, page: bool) -> None:
    headers = [(b"accept", accept.encode())] if accept is not None else []
    assert wants_page(Request({"type": "http", "headers": headers})) is page


# The installation's secret


def test_all_processes_share_one_secret_that_nobody_else_reads(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    with ThreadPoolExecutor(8) as threads:
        found = set(threads.map(lambda _: installation_secret(folder), range(64)))
    assert [len(one) for one in found] == [32]
    (file,) = folder.iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert {installation_secret(tmp_path / "other")} != found
