"""Sign-in to the pages, by OpenID Connect or through a proxy. Decisions are recorded under the name of the person."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

import httpx
import pytest
from pydantic import SecretStr

from platform_assets.app import application
from platform_assets.approval.policy import ApprovalPolicy
from platform_assets.services import Services
from platform_assets.settings import Settings
from platform_assets.web.key_errors import KeysError
from platform_assets_tests.approval.evidence_proposals import proposal
from platform_assets_tests.openid_provider import CLIENT, SECRET, OpenIdProvider, openid_provider
from platform_assets_tests.service import HTML, LOOPBACK, Visitor, keys_of, served
from platform_assets_tests.web.test_authentication import COOKIE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fastapi import FastAPI
    from httpx2 import Response

pytestmark = pytest.mark.requirement("PRO-4", "SRV-1")

FLOW = "platform_sign_in"
ANNA = {"email": "anna@example.com", "email_verified": True, "groups": ["risk"]}
GROUPS = "staff=read; risk=read+approve"
APPROVAL = {"decision": "approve", "reason": "better"}


@pytest.fixture(scope="module")
def provider() -> Iterator[OpenIdProvider]:
    with openid_provider() as provider:
        yield provider


@pytest.fixture(scope="module")
def signing(services: Services, provider: OpenIdProvider) -> dict[str, Any]:
    """Enrol Anna and Bert as approvers; return settings for sign-in."""
    keys = keys_of(services)
    key = keys.add("sign-in", "the service", {"identify"})
    for name in ("anna", "bert"):
        keys.enrol(f"{name}@example.com", name, {"read", "approve"})
    return {
        "sign_in_key": SecretStr(key),
        "group_scopes": GROUPS,
        "oidc_issuer": provider.issuer,
        "oidc_client_id": CLIENT,
        "oidc_client_secret": SecretStr(SECRET),
        "service_url": LOOPBACK,
    }


@contextmanager
def another(services: Services, **changes: Any) -> Iterator[Services]:
    """Yield services that use the same database, with the given settings changed."""
    kept = services.settings.model_dump() | changes
    others = Services(Settings(**kept))
    yield others
    others.close()


@pytest.fixture(scope="module")
def app(services: Services, signing: dict[str, Any]) -> Iterator[FastAPI]:
    with another(services, **signing) as others:
        yield application(others)


@pytest.fixture(autouse=True)
def of_anna(provider: OpenIdProvider) -> None:
    provider.person = dict(ANNA)


def begun(visitor: Visitor, target: str = "/approvals") -> str:
    """Begin a sign-in; return the callback path to which the provider redirects the browser."""
    away = visitor.see(f"/sign-in/oidc?next={target}")
    assert away.status_code == 303, away.text
    page = httpx.get(away.headers["location"], trust_env=False).text
    back = urlsplit(page.split('"')[1].replace("&amp;", "&"))
    assert f"{back.scheme}://{back.netloc}" == LOOPBACK
    return f"{back.path}?{back.query}"


def through_provider(app: FastAPI, target: str = "/approvals") -> tuple[Visitor, Response]:
    visitor = Visitor(app)
    return visitor, visitor.see(begun(visitor, target))


@pytest.mark.requirement("PRO-5", "PRO-9")
def test_the_ledger_names_the_person_who_signed_in_and_decided(app: FastAPI, services: Services, pending: int) -> None:
    assert 'href="/sign-in/oidc?next=/approvals"' in Visitor(app).see("/sign-in").text
    visitor, response = through_provider(app, f"/approvals/{pending}")
    assert response.status_code == 200, response.text
    assert f'content="0; url=/approvals/{pending}"' in response.text
    page = visitor.see(f"/approvals/{pending}")
    assert "Signed in as <strong>anna</strong>" in page.text
    assert "by OpenID Connect" in page.text
    assert visitor.send(f"/approvals/{pending}/decision", **APPROVAL).status_code == 303
    event = services.ledger.history(pending)[-1]
    assert (event.kind, event.actor, event.authenticated) == ("approve", "anna", True)
    assert event.how == "signed in by OpenID Connect as anna@example.com"
    assert "signed in by OpenID Connect as anna@example.com" in visitor.see(f"/approvals/{pending}").text
    assert services.ledger.audit() == []


def test_cookies_have_protective_flags_and_the_sign_in_flow_cookie_is_deleted(app: FastAPI) -> None:
    visitor = Visitor(app)
    address = begun(visitor)
    before = visitor.client.cookies.get(COOKIE)
    response = visitor.see(address)
    kept, deleted = sorted(response.headers.get_list("set-cookie"), key=lambda one: one.startswith(FLOW))
    assert {flag.strip().lower() for flag in kept.split(";")[1:]} == {
        *("httponly", "samesite=strict", "path=/", "max-age=3600")
    }
    assert deleted.startswith(f'{FLOW}="";')
    assert before != visitor.client.cookies[COOKIE]
    secure = Visitor(app, "https://models.example").see("/sign-in/oidc").headers["set-cookie"]
    assert secure.startswith(f"__Host-{FLOW}=")
    assert {flag.strip().lower() for flag in secure.split(";")[1:]} == {
        *("httponly", "samesite=lax", "path=/", "max-age=600", "secure")
    }


def test_a_callback_works_only_once_and_only_in_the_browser_that_began_the_sign_in(app: FastAPI) -> None:
    visitor, thief = Visitor(app), Visitor(app)
    address = begun(visitor)
    for response in (thief.see(address), Visitor(app).see("/sign-in/callback")):
        assert response.status_code == 403
        assert "did not begin a sign-in" in response.text
    cookie = visitor.client.cookies[FLOW]
    assert visitor.see(address).status_code == 200
    assert visitor.see(address).status_code == 403
    visitor.client.cookies[FLOW] = cookie
    again = visitor.see(address)
    assert (again.status_code, "invalid_grant" in again.text) == (403, True)
    # Another browser cannot use this callback address, even if it has begun its own sign-in.
    other = Visitor(app)
    begun(other)
    assert "wrong state" in other.see(address).text
    assert other.see("/approvals").status_code == 303


@pytest.mark.parametrize(
    "target", ["https://evil.example", "//evil.example", "/%5Cevil.example", "/sign-out", "javascript:alert(1)"]
)
def test_a_sign_in_redirects_only_to_pages_of_this_site(app: FastAPI, target: str) -> None:
    _, response = through_provider(app, target)
    assert 'content="0; url=/approvals"' in response.text
    assert "evil" not in response.text


@pytest.mark.parametrize(
    ("person", "told"),
    [
        ({"groups": []}, "is in no group"),
        ({"groups": ["elsewhere"]}, "is in no group"),
        ({"groups": None}, "is in no group"),
        ({"email_verified": False}, "is verified"),
        ({"email": "platform"}, "cannot be used"),
        ({"email": "unverified: anna"}, "cannot be used"),
        ({"email": "sign-in"}, "cannot be used"),
        ({"email": "x" * 200}, None),
    ],
)
def test_people_without_a_group_or_a_usable_name_are_refused(
    app: FastAPI, provider: OpenIdProvider, person: dict[str, Any], told: str | None
) -> None:
    provider.person |= person
    visitor, response = through_provider(app)
    assert response.status_code == (403 if told else 200)
    assert told is None or told in response.text
    assert visitor.see("/approvals").status_code == (303 if told else 200)


def test_a_group_member_may_read_but_must_be_enrolled_to_approve(
    app: FastAPI, services: Services, provider: OpenIdProvider, pending: int
) -> None:
    for person in ({"email": "rita@example.com"}, {"groups": ["staff"]}):
        provider.person = ANNA | person
        visitor, _ = through_provider(app)
        page = visitor.see(f"/approvals/{pending}")
        assert (page.status_code, "You have read access only" in page.text) == (200, True)
        refused = visitor.send(f"/approvals/{pending}/decision", **APPROVAL)
        assert (refused.status_code, "needs `approve`" in refused.text) == (403, True)
    assert [event.kind for event in services.ledger.history(pending)] == ["request"]


@pytest.mark.requirement("PRO-9")
def test_four_eyes_refuses_a_signed_in_person_who_launched_the_training(app: FastAPI, services: Services) -> None:
    number = services.ledger.open_request(proposal(policy=ApprovalPolicy(four_eyes=True), launched_by="anna")).id
    visitor, _ = through_provider(app)
    visitor.see(f"/approvals/{number}")
    refused = visitor.send(f"/approvals/{number}/decision", **APPROVAL)
    assert (refused.status_code, "launched the training" in refused.text) == (403, True)


def test_the_csrf_token_of_another_session_is_refused(app: FastAPI, services: Services, pending: int) -> None:
    visitor, _ = through_provider(app)
    other, _ = through_provider(app)
    other.see(f"/approvals/{pending}")
    visitor.token = other.token
    assert visitor.send(f"/approvals/{pending}/decision", **APPROVAL).status_code == 403
    assert [event.kind for event in services.ledger.history(pending)] == ["request"]


def test_a_session_ends_on_sign_out_and_when_the_person_is_revoked(
    app: FastAPI, services: Services, provider: OpenIdProvider
) -> None:
    keys = keys_of(services)
    keys.enrol("carla@example.com", "carla", {"read"})
    provider.person["email"] = "Carla@Example.com"
    visitor, _ = through_provider(app)
    copied = visitor.client.cookies[COOKIE]
    visitor.see("/approvals")
    assert visitor.send("/sign-out").status_code == 303
    visitor.client.cookies[COOKIE] = copied
    assert visitor.see("/approvals").status_code == 303
    visitor, _ = through_provider(app)
    assert visitor.see("/approvals").status_code == 200
    keys.revoke("carla@example.com")
    assert visitor.see("/approvals").status_code == 303
    assert "was revoked" in through_provider(app)[1].text
    keys.enrol("carla@example.com", "carla", {"read"})
    assert through_provider(app)[1].status_code == 200


def test_without_groups_only_enrolled_people_sign_in(
    services: Services, signing: dict[str, Any], provider: OpenIdProvider
) -> None:
    with another(services, **signing | {"group_scopes": ""}) as others:
        app = application(others)
        assert through_provider(app)[1].status_code == 200
        provider.person["email"] = "nobody@example.com"
        response = through_provider(app)[1]
        assert (response.status_code, "is not enrolled" in response.text) == (403, True)


def test_revoking_the_sign_in_key_of_the_service_ends_sessions_and_prevents_new_ones(
    services: Services, signing: dict[str, Any]
) -> None:
    keys = keys_of(services)
    key = SecretStr(keys.add("old-sign-in", "the service", {"identify"}))
    with another(services, **signing | {"sign_in_key": key}) as others:
        app = application(others)
        visitor, _ = through_provider(app)
        assert visitor.see("/approvals").status_code == 200
        keys.revoke("old-sign-in")
        assert visitor.see("/approvals").status_code == 303
        assert "may not sign people in" in through_provider(app)[1].text


def test_a_sign_in_gets_503_with_retry_after_if_the_provider_does_not_answer(
    services: Services, signing: dict[str, Any]
) -> None:
    with another(services, **signing | {"oidc_issuer": "http://127.0.0.1:9"}) as others:
        response = Visitor(application(others)).see("/sign-in/oidc")
    assert (response.status_code, "retry-after" in response.headers) == (503, True)


@pytest.mark.parametrize("scopes", ["risk=identify", "risk=approve+everything"])
def test_an_unknown_or_reserved_scope_for_a_group_is_refused(
    services: Services, signing: dict[str, Any], scopes: str
) -> None:
    with (
        another(services, **signing | {"group_scopes": scopes}) as others,
        pytest.raises(KeysError, match="GROUP_SCOPES"),
    ):
        application(others)


# Through a proxy

HEADERS = {"X-Forwarded-Email": "bert@example.com", "X-Forwarded-Groups": "staff, risk"}
WORD = {"X-Platform-Proxy-Secret": "a secret of the proxy"}


@contextmanager
def proxied(services: Services, signing: dict[str, Any], trusted: str = "127.0.0.1") -> Iterator[httpx.Client]:
    """Serve the application with sign-in through a proxy; yield a client that keeps cookies.

    The client does not send the proxy's headers by default.
    """
    changes = {
        "oidc_issuer": "",
        "oidc_client_id": "",
        "proxy_user_header": "x-forwarded-email",
        "proxy_groups_header": "X-Forwarded-Groups",
        "proxy_trusted": trusted,
        "proxy_secret": SecretStr(WORD["X-Platform-Proxy-Secret"]),
    }
    with (
        another(services, **signing | changes) as others,
        served(application(others)) as address,
        httpx.Client(base_url=address, headers={"Accept": HTML}, trust_env=False) as client,
    ):
        yield client


def token_of(response: httpx.Response) -> str:
    return response.text.split('name="csrf_token" value="')[1].split('"')[0]


@pytest.mark.requirement("PRO-5")
def test_a_person_signs_in_through_the_proxy(services: Services, signing: dict[str, Any], pending: int) -> None:
    good = HEADERS | WORD
    with proxied(services, signing) as client:
        page = client.get("/sign-in", headers=good)
        assert "Continue as bert@example.com" in page.text
        form = {"csrf_token": token_of(page), "next": f"/approvals/{pending}"}
        assert client.post("/sign-in/proxy", data=form | {"csrf_token": "x"}, headers=good).status_code == 403
        assert client.post("/sign-in/proxy", data=form).status_code == 401
        response = client.post("/sign-in/proxy", data=form, headers=good)
        assert (response.status_code, response.headers["location"]) == (303, f"/approvals/{pending}")
        page = client.get(f"/approvals/{pending}", headers=good)
        # The session is valid only if the proxy sends its secret and the same email address as at sign-in.
        for headers in ({}, good | {"X-Forwarded-Email": "anna@example.com"}, HEADERS):
            assert client.get(f"/approvals/{pending}", headers=headers).status_code == 303
        decision = APPROVAL | {"csrf_token": token_of(page)}
        sent = client.post(f"/approvals/{pending}/decision", data=decision, headers=good)
        assert sent.status_code == 303, sent.text
    event = services.ledger.history(pending)[-1]
    assert (event.kind, event.actor, event.how) == (
        *("approve", "bert", "signed in through the proxy as bert@example.com"),
    )


@pytest.mark.parametrize(
    ("headers", "told"),
    [
        (HEADERS, "did not send PLATFORM_PROXY_SECRET"),
        (HEADERS | {"X-Platform-Proxy-Secret": "guessed"}, "did not send PLATFORM_PROXY_SECRET"),
        ([*HEADERS.items(), *WORD.items(), ("X-Forwarded-Email", "anna@example.com")], "is repeated"),
        ([*HEADERS.items(), *WORD.items(), ("X-Forwarded-Groups", "admins")], "is repeated"),
        (HEADERS | WORD | {"X-Forwarded-Email": "anna@example.com, bert@example.com"}, "one person"),
        (HEADERS | WORD | {"X-Forwarded-Email": ""}, "one person"),
        (HEADERS | WORD | {"X-Forwarded-Email": "x" * 201}, "one person"),
        (HEADERS | WORD | {"X-Forwarded-Email": b"bert\xff@example.com"}, "not UTF-8"),
        (HEADERS | WORD | {"X-Forwarded-Email": "bert\u202e@example.com".encode()}, "invisible characters"),
        ({"X-Forwarded-Groups": "risk"} | WORD, "one person"),
    ],
)
def test_proxy_headers_that_are_malformed_or_lack_the_secret_are_refused(
    behind_proxy: httpx.Client, headers: Any, told: str
) -> None:
    response = behind_proxy.get("/sign-in", headers=headers)
    assert (response.status_code, told in response.text) == (403, True), response.text


@pytest.fixture(scope="module")
def behind_proxy(services: Services, signing: dict[str, Any]) -> Iterator[httpx.Client]:
    with proxied(services, signing) as client:
        yield client


def test_proxy_headers_from_an_untrusted_address_are_refused(services: Services, signing: dict[str, Any]) -> None:
    # uvicorn trusts X-Forwarded-For from loopback, so the client's address becomes 10.1.2.3, which is a trusted proxy.
    # The connection itself still comes from 127.0.0.1, which is not trusted here.
    spoofed = HEADERS | WORD | {"X-Forwarded-For": "10.1.2.3"}
    with proxied(services, signing, "10.1.0.0/16") as client:
        for headers in (HEADERS | WORD, spoofed):
            response = client.get("/sign-in", headers=headers)
            assert (response.status_code, "only from the proxy" in response.text) == (403, True)


def test_proxy_headers_are_refused_if_the_address_of_the_connection_is_unknown(
    services: Services, signing: dict[str, Any]
) -> None:
    changes = {"proxy_user_header": "X-Forwarded-Email", "proxy_trusted": "0.0.0.0/0"}
    with another(services, **signing | changes) as others:
        visitor = Visitor(application(others))
        assert visitor.see("/sign-in", **{"X-Forwarded-Email": "anna@example.com"}).status_code == 403


def test_sign_in_redirects_to_the_provider_with_authorization_code_parameters(
    app: FastAPI, provider: OpenIdProvider
) -> None:
    address = urlsplit(Visitor(app).see("/sign-in/oidc").headers["location"])
    sent = dict(parse_qsl(address.query))
    assert f"{address.scheme}://{address.netloc}" == provider.issuer
    assert sent["redirect_uri"] == f"{LOOPBACK}/sign-in/callback"
    assert (sent["scope"], sent["code_challenge_method"]) == ("openid email profile", "S256")
    assert len({sent["state"], sent["nonce"], sent["code_challenge"]}) == 3
