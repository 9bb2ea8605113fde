"""Authorization: requests without a key are allowed only from this machine, and requests are rate-limited."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import SecretStr
from starlette.testclient import TestClient

from platform_assets.app import create_app
from platform_assets.settings import Settings
from platform_assets.web.api_keys import hashed
from platform_assets.web.authentication import is_loopback
from platform_assets.web.rate_limits import WRONG_KEYS
from platform_assets_tests.service import LOOPBACK, Visitor, api
from platform_assets_tests.test_app import NOWHERE, problem

if TYPE_CHECKING:
    from pathlib import Path

    from fastapi import FastAPI

# A path that works without a database.
FREE = "/models"
KEYS = f"shop:predict:{hashed('sesame')},rita:read:{hashed('open')}"


def app_of(folder: Path, host: str = "", **settings: Any) -> FastAPI:
    """Return an application without a database, with two keys from the settings."""
    return create_app(Settings(home=folder, api_keys=SecretStr(KEYS), **settings), host)


# Without a key


@pytest.mark.requirement("SRV-1")
@pytest.mark.parametrize(
    ("host", "env", "status"),
    [
        ("127.0.0.1", "development", 200),
        ("localhost", "development", 200),
        ("::1", "development", 200),
        ("127.8.8.8", "development", 200),
        ("", "development", 401),
        ("0.0.0.0", "development", 401),
        ("::", "development", 401),
        ("192.168.1.5", "development", 401),
        ("models.example", "development", 401),
        ("127.0.0.1.example", "development", 401),
        ("127.0.0.1", "production", 401),
    ],
)
def test_keys_are_optional_only_on_loopback_in_development(tmp_path: Path, host: str, env: Any, status: int) -> None:
    more = {"database_url": SecretStr(NOWHERE), "sources": "live", "lake_uri": str(tmp_path)}
    settings = Settings(home=tmp_path, env=env, **(more if env == "production" else {}))  # type: ignore[arg-type]
    assert api(create_app(settings, host)).get(FREE).status_code == status


@pytest.mark.requirement("SRV-1")
@pytest.mark.parametrize(
    ("base", "headers", "status"),
    [
        ("http://localhost:8000", {}, 200),
        ("http://127.0.0.1:8000", {}, 200),
        ("http://[::1]:8000", {}, 200),
        ("http://rebound.example:8000", {}, 401),
        ("http://localhost.example", {}, 401),
        ("http://127.0.0.1.example", {}, 401),
        ("http://0.0.0.0:8000", {}, 401),
        ("http://localhost", {"Origin": "http://localhost"}, 200),
        ("http://localhost", {"Origin": "http://localhost:3000"}, 401),
        ("http://localhost", {"Origin": "https://evil.example"}, 401),
        ("http://localhost", {"Origin": "null"}, 401),
        ("http://localhost", {"Sec-Fetch-Site": "none"}, 200),
        ("http://localhost", {"Sec-Fetch-Site": "same-origin"}, 200),
        ("http://localhost", {"Sec-Fetch-Site": "same-site"}, 401),
        ("http://localhost", {"Sec-Fetch-Site": "cross-site"}, 401),
        ("http://localhost", {"X-Forwarded-For": "10.0.0.1"}, 401),
        ("http://localhost", {"X-Forwarded-Host": "localhost"}, 401),
        ("http://localhost", {"Forwarded": "for=10.0.0.1"}, 401),
        ("http://localhost", {"Via": "1.1 proxy.example"}, 401),
        ("http://localhost", {"X-Real-IP": "10.0.0.1"}, 401),
        ("http://localhost", {"Authorization": "Bearer sesame"}, 200),
        ("http://rebound.example", {"Authorization": "Bearer sesame"}, 200),
        ("http://localhost", {"Authorization": "Bearer sesam"}, 401),
        ("http://localhost", {"Authorization": "Basic eDp5"}, 401),
        ("http://localhost", {"Host": ""}, 401),
        ("http://localhost", {"Host": "["}, 401),
        ("http://localhost", {"Host": "localhost@evil.example"}, 401),
    ],
)
def test_requests_from_other_sites_or_through_proxies_need_a_key(
    tmp_path: Path, base: str, headers: dict[str, str], status: int
) -> None:
    client = TestClient(app_of(tmp_path, "127.0.0.1"), base_url=base)
    response = client.get(FREE, headers=headers)
    assert response.status_code == status, response.text
    # The status is the same if the client accepts JSON.
    assert client.get(FREE, headers={**headers, "Accept": "application/json"}).status_code == status


@pytest.mark.requirement("SRV-1", "PRO-4")
def test_decisions_need_a_key_even_on_loopback(tmp_path: Path) -> None:
    client = api(create_app(Settings(home=tmp_path, database_url=SecretStr(NOWHERE)), "127.0.0.1"))
    assert client.get("/approvals").status_code == 401
    assert client.get("/approvals/1").status_code == 401
    decision = client.post("/approvals/1/decision", json={"decision": "approve", "reason": "mine"})
    assert decision.status_code == 401


def test_the_scope_of_a_key_is_checked_even_if_keys_are_optional(tmp_path: Path) -> None:
    app = app_of(tmp_path, "127.0.0.1")
    assert problem(api(app, "sesame").get("/metrics"))["scopes_needed"] == ["read"]
    asked = api(app, "open").post("/predictions/credit-risk", json={"client_id": 1})
    assert problem(asked)["scopes_needed"] == ["predict"]


def test_a_request_with_a_body_needs_a_key_even_with_a_session(tmp_path: Path) -> None:
    """A page of another site could make the browser send such a request with the cookie."""
    visitor = Visitor(app_of(tmp_path))
    visitor.see("/sign-in")
    assert visitor.send("/sign-in", key="sesame").status_code == 303
    assert visitor.client.get(FREE).status_code == 200
    asked = visitor.client.post("/predictions/credit-risk", json={"client_id": 1}, headers={"Accept": "*/*"})
    assert asked.status_code == 401


def test_a_missing_key_is_reported_before_an_invalid_body(tmp_path: Path) -> None:
    client = api(app_of(tmp_path))
    for kind, body in (("application/json", b"{"), ("text/plain", b"x")):
        response = client.post("/predictions/credit-risk", content=body, headers={"Content-Type": kind})
        assert response.status_code == 401


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("127.0.0.1", True), ("::1", True), ("localhost", True), ("", False), ("0.0.0.0", False), ("LOCALHOST.x", False)],
)
def test_loopback_hosts_are_recognised(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback


# Rate limits

POLICY = re.compile(r'"(\w+)";q=(\d+);w=(\d+)')
LEFT = re.compile(r'"(\w+)";r=(\d+);t=(\d+)')


@pytest.mark.requirement("SRV-1")
def test_requests_of_a_key_over_its_rate_limit_are_refused(tmp_path: Path) -> None:
    app = app_of(tmp_path, rate_limit="3/hour")
    shop = api(app, "sesame")
    for left in (2, 1, 0):
        response = shop.get(FREE)
        assert response.status_code == 200
        policy, now = (
            POLICY.fullmatch(response.headers["ratelimit-policy"]),
            LEFT.fullmatch(response.headers["ratelimit"]),
        )
        assert policy is not None
        assert now is not None
        assert policy.groups() == ("key", "3", "3600")
        assert now.groups()[:2] == ("key", str(left))
        assert 3_590 <= int(now[3]) <= 3_600
    response = shop.get(FREE)
    assert response.status_code == 429
    found = problem(response)
    assert found["type"] == "urn:platform-assets:too-many-requests"
    assert "3 per hour" in found["detail"]
    assert 3_590 <= int(response.headers["retry-after"]) <= 3_600
    assert response.headers["ratelimit"].startswith('"key";r=0;')
    # Other keys, and requests without a key, have their own limits.
    assert api(app, "open").get(FREE).status_code == 200
    assert api(app).get("/openapi.json").status_code == 200
    # Health checks have no limit.
    assert {shop.get("/health/live").status_code for _ in range(9)} == {200}
    assert "ratelimit" not in shop.get("/health/live").headers


@pytest.mark.requirement("SRV-1")
def test_requests_without_a_key_are_limited_by_address(tmp_path: Path) -> None:
    app = app_of(tmp_path, rate_limit="2/hour")
    here, there = (TestClient(app, base_url=LOOPBACK, client=(address, 1)) for address in ("10.0.0.1", "10.0.0.2"))
    assert [here.get(path).status_code for path in ("/docs", "/nothing", "/docs")] == [200, 404, 429]
    assert there.get("/docs").status_code == 200
    # A request with an unknown key counts against the limit of its address.
    assert here.get("/docs", headers={"Authorization": "Bearer made-up"}).status_code == 429
    assert "<h1>Too many requests</h1>" in here.get("/docs", headers={"Accept": "text/html"}).text


@pytest.mark.requirement("SRV-1")
def test_requests_of_a_session_are_limited_by_its_key(tmp_path: Path) -> None:
    visitor = Visitor(app_of(tmp_path, rate_limit="4/hour"))
    visitor.see("/sign-in")
    visitor.send("/sign-in", key="open")
    assert [visitor.client.get(FREE).status_code for _ in range(5)] == [200, 200, 200, 200, 429]


@pytest.mark.requirement("SRV-1")
@pytest.mark.parametrize("limit", ["off", "1000/minute"])
def test_guessing_keys_is_rate_limited(tmp_path: Path, limit: str) -> None:
    app = app_of(tmp_path, rate_limit=limit)
    here, there = (TestClient(app, base_url=LOOPBACK, client=(address, 1)) for address in ("10.0.0.1", "10.0.0.2"))
    right, open_ = {"Authorization": "Bearer sesame"}, {"Authorization": "Bearer open"}
    assert here.get(FREE, headers=right).status_code == 200
    guesses = [here.get(FREE, headers={"Authorization": f"Bearer {guess}"}) for guess in range(WRONG_KEYS + 2)]
    assert [one.status_code for one in guesses] == [401] * WRONG_KEYS + [429, 429]
    assert int(guesses[-1].headers["retry-after"]) <= 60
    # Valid keys still work, because many callers can share the address of a proxy.
    assert here.get(FREE, headers=right).status_code == 200
    assert here.get(FREE, headers=open_).status_code == 200
    assert there.get(FREE, headers={"Authorization": "Bearer guess"}).status_code == 401


def test_guessing_keys_on_the_sign_in_page_is_rate_limited(tmp_path: Path) -> None:
    visitor = Visitor(app_of(tmp_path))
    visitor.see("/sign-in")
    statuses = [visitor.send("/sign-in", key=f"guess {number}").status_code for number in range(WRONG_KEYS + 1)]
    assert statuses == [422] * WRONG_KEYS + [429]


def test_requests_are_not_limited_if_no_keys_are_required(tmp_path: Path) -> None:
    client = api(app_of(tmp_path, "127.0.0.1", rate_limit="1/hour"))
    responses = [client.get(FREE) for _ in range(5)]
    assert {one.status_code for one in responses} == {200}
    assert "ratelimit" not in responses[0].headers
