"""Rules for every HTTP request: ids, headers, size limits, errors without tracebacks, health and the OpenAPI schema."""

from __future__ import annotations

import json
import logging
import socket
import threading
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import SecretStr
from starlette.testclient import TestClient

from platform_assets.app import application, create_app
from platform_assets.base.errors import PlatformError
from platform_assets.domains import api_modules
from platform_assets.services import Services
from platform_assets.settings import Settings
from platform_assets.web.api_keys import hashed
from platform_assets.web.middleware import MAX_BODY_BYTES, SECURE_HEADERS
from platform_assets_tests.postgres import wait_until
from platform_assets_tests.service import HTML, LOOPBACK, People, api, served

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from fastapi import FastAPI

    from platform_assets.monitoring.incidents.watch import Watch

NOWHERE = "postgresql://me:hunter2hunter2@127.0.0.1:1/none"


@pytest.fixture
def alone(tmp_path: Path) -> FastAPI:
    """The application while its database is down."""
    return create_app(Settings(home=tmp_path, database_url=SecretStr(NOWHERE)))


class Failing(Services):
    """Services whose ledger raises an error."""

    error: Exception = RuntimeError("hunter2 at line 1")

    @property
    def ledger(self) -> Any:
        raise self.error


@pytest.fixture
def failing(services: Services) -> Failing:
    return Failing(services.settings)


def problem(response: Any) -> dict[str, Any]:
    assert response.headers["content-type"] == "application/problem+json"
    found: dict[str, Any] = response.json()
    assert {"type", "title", "status", "detail", "instance", "request_id"} <= set(found)
    assert found["status"] == response.status_code
    assert found["request_id"] == response.headers["x-request-id"]
    return found


@pytest.mark.requirement("SRV-1")
@pytest.mark.parametrize("accept", [HTML, "application/json"])
@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/health/live", 200),
        ("GET", "/openapi.json", 200),
        ("GET", "/docs", 200),
        ("GET", "/sign-in", 200),
        ("GET", "/static/style.css", 200),
        ("GET", "/", 303),
        ("GET", "/nothing", 404),
        ("GET", "/static/..%2fapp.py", 404),
        ("GET", "/static/nothing.css", 404),
        ("DELETE", "/approvals", 405),
        ("POST", "/sign-in", 403),
    ],
)
def test_every_response_has_the_security_headers_and_a_request_id(
    alone: FastAPI, accept: str, method: str, path: str, status: int
) -> None:
    response = api(alone).request(method, path, headers={"Accept": accept, "Origin": "https://evil.example"})
    assert response.status_code == status
    assert {name: response.headers.get(name) for name in SECURE_HEADERS} == SECURE_HEADERS
    assert response.headers["cache-control"] == ("no-cache" if path.startswith("/static/") else "no-store")
    assert response.headers["x-request-id"]
    assert not [name for name in response.headers if name.startswith("access-control-")]
    if status >= 400:
        assert response.headers["content-type"].startswith("text/html" if accept == HTML else "application/problem")


def test_the_content_security_policy_allows_no_script() -> None:
    policy = SECURE_HEADERS["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert "script" not in policy


def test_responses_over_tls_have_the_hsts_header(alone: FastAPI) -> None:
    assert "strict-transport-security" in TestClient(alone, base_url="https://here").get("/health/live").headers
    assert "strict-transport-security" not in TestClient(alone, base_url="http://here").get("/health/live").headers


@pytest.mark.requirement("SRV-1")
@pytest.mark.parametrize("given", ["a", "req-1.2:3_4", "x" * 128])
def test_a_valid_request_id_of_the_client_is_returned(alone: FastAPI, given: str) -> None:
    assert api(alone).get("/health/live", headers={"X-Request-ID": given}).headers["x-request-id"] == given


@pytest.mark.parametrize("given", ["", "two words", "x" * 129, '"}\t{"', "<b>", "ä"])
def test_an_invalid_request_id_of_the_client_is_replaced(alone: FastAPI, given: str) -> None:
    headers = {"X-Request-ID": given.encode("latin-1")}
    found = [api(alone).get("/health/live", headers=headers).headers["x-request-id"] for _ in range(2)]  # type: ignore[arg-type]
    assert all(len(one) == 32 and one.isalnum() for one in found)
    assert found[0] != found[1]


@pytest.mark.requirement("SRV-1", "PLT-8")
def test_each_request_is_logged_as_one_line(
    services: Services, people: People, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "platform_assets.web")
    # Use a separate application, because the log lines are written when it shuts down.
    with api(create_app(services.settings), people.anna) as client:
        response = client.get("/approvals?token=hunter2", headers={"X-Request-ID": "mine"})
    assert response.status_code == 200
    (line,) = [one for one in caplog.records if one.name == "platform_assets.web.middleware"]
    assert line.getMessage() == "GET /approvals 200"
    shown = vars(line)
    assert (shown["request_id"], shown["status"], shown["asked_by"]) == ("mine", 200, "anna-laptop")
    assert shown["milliseconds"] > 0
    assert people.anna not in str(shown)


@pytest.mark.requirement("SRV-1")
@pytest.mark.parametrize("accept", [HTML, "application/json"])
def test_the_response_to_an_internal_error_shows_only_the_request_id(
    failing: Failing, people: People, caplog: pytest.LogCaptureFixture, accept: str
) -> None:
    response = api(application(failing), people.anna).get("/approvals", headers={"Accept": accept})
    assert response.status_code == 500
    assert "hunter2" not in response.text
    assert "Traceback" not in response.text
    assert response.headers["x-request-id"] in response.text
    assert "hunter2" in caplog.text


def test_secrets_in_the_message_of_a_platform_error_are_masked(services: Services, people: People) -> None:
    class Telling(Failing):
        error = PlatformError(f"cannot connect to {services.settings.database_url.get_secret_value()}; start it")

    response = api(application(Telling(services.settings)), people.anna).get("/approvals")
    assert problem(response)["detail"] == "cannot connect to ***; start it"
    assert response.status_code == 500


@pytest.mark.requirement("SRV-1")
def test_without_a_database_the_service_is_live_but_not_ready(alone: FastAPI) -> None:
    client = api(alone, "some-key")
    assert client.get("/health/live").json() == {"status": "live"}
    for path in ("/health/ready", "/approvals", "/approvals/1"):
        response = client.get(path)
        assert (response.status_code, response.headers["retry-after"]) == (503, "5")
        found = problem(response)
        assert found["type"] == "urn:platform-assets:database-unavailable"
        assert "hunter2" not in response.text
        assert "127.0.0.1" not in response.text


def test_without_a_database_a_browser_gets_an_error_page(alone: FastAPI) -> None:
    response = api(alone, "some-key").get("/approvals", headers={"Accept": HTML})
    assert response.status_code == 503
    assert "<h1>Database unavailable</h1>" in response.text


@pytest.mark.requirement("SRV-1")
def test_with_a_database_the_service_is_ready(app: FastAPI) -> None:
    assert api(app).get("/health/ready").json() == {
        "status": "ready",
        "without_champion": [],
        "models": [],
        "rate_limits": "off",
    }


def chunks(size: int) -> Iterator[bytes]:
    for _ in range(size // 1024):
        yield b"x" * 1024


@pytest.mark.requirement("SRV-1")
@pytest.mark.parametrize("declared", [True, False], ids=["declared", "in chunks"])
def test_a_request_body_over_the_limit_is_rejected(app: FastAPI, people: People, pending: int, declared: bool) -> None:
    body: Any = b"x" * 1_000_000 if declared else chunks(1_000_000)
    response = api(app, people.anna).post(
        f"/approvals/{pending}/decision", content=body, headers={"Content-Type": "application/json"}
    )
    assert response.status_code == 413
    assert f"{MAX_BODY_BYTES:,}" in problem(response)["detail"]


@pytest.mark.requirement("SRV-3")
def test_a_client_that_disconnects_while_sending_a_form_is_logged_as_499(
    alone: FastAPI, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "platform_assets.web")
    form = b"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 500\r\n\r\nkey=half"
    with served(alone) as address:
        host, port = address.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=60) as connection:
            connection.sendall(b"POST /sign-in HTTP/1.1\r\nHost: localhost\r\n" + form)
        wait_until(lambda: "POST /sign-in" in caplog.text, "the request was logged")
    assert "POST /sign-in 499" in caplog.text
    of_web = [one for one in caplog.records if one.name.startswith(("platform_assets.web", "uvicorn"))]
    assert [one for one in of_web if one.levelno > logging.INFO] == []


@pytest.mark.requirement("SRV-3")
def test_a_decision_without_a_key_is_refused_before_its_body_is_read(app: FastAPI, pending: int) -> None:
    body = b"Content-Type: application/json\r\nContent-Length: 500\r\n\r\n{"
    with served(app) as address:
        answer = raw(
            address, b"POST /approvals/%d/decision HTTP/1.1\r\nHost: a\r\nConnection: close\r\n%s" % (pending, body)
        )
    assert answer.startswith(b"HTTP/1.1 401 ")


@pytest.mark.requirement("SRV-3")
@pytest.mark.parametrize("encoding", ["gzip", "br", "GZIP", "identity, gzip"])
@pytest.mark.parametrize("path", ["/predictions/credit-risk", "/approvals/1/decision", "/sign-in"])
def test_a_compressed_body_gets_415(alone: FastAPI, path: str, encoding: str) -> None:
    headers = {"Content-Encoding": encoding, "Content-Type": "application/json"}
    response = api(alone).post(path, content=b"\x1f\x8b", headers=headers)
    found = problem(response)
    assert (found["status"], found["type"]) == (415, "urn:platform-assets:body-encoded")
    assert response.headers["accept-encoding"] == "identity"


@pytest.mark.requirement("SRV-3")
@pytest.mark.parametrize("name", ["Host", "Authorization", "Content-Type", "content-encoding"])
def test_a_repeated_single_value_header_gets_400(alone: FastAPI, name: str) -> None:
    response = api(alone).get("/models", headers=[(name, "localhost"), (name.lower(), "identity")])
    found = problem(response)
    assert (found["status"], found["type"]) == (400, "urn:platform-assets:header-repeated")


@pytest.mark.requirement("SRV-3")
@pytest.mark.parametrize("path", ["/health/live", "/docs", "/static/style.css", "/nothing", "/models"])
def test_head_gets_the_response_of_get_without_the_body(app: FastAPI, people: People, path: str) -> None:
    get, head = (api(app, people.rita).request(method, path) for method in ("GET", "HEAD"))
    assert (head.status_code, head.content) == (get.status_code, b"")
    assert head.headers["content-type"] == get.headers["content-type"]
    assert api(app, people.rita).head("/predictions/credit-risk").status_code == 405


@pytest.mark.requirement("SRV-3")
@pytest.mark.parametrize("path", ["/approvals/", "/models/", "/health/live/", "/docs/", "/sign-in/"])
def test_a_path_with_a_trailing_slash_gets_404_and_no_redirect(app: FastAPI, people: People, path: str) -> None:
    response = api(app, people.rita).get(path, headers={"Host": "evil.example"})
    assert response.status_code == 404
    assert "location" not in response.headers


@pytest.mark.parametrize("length", ["-1", "many", "9" * 5_000, "\N{ARABIC-INDIC DIGIT ONE}"])
def test_an_invalid_content_length_causes_no_internal_error(alone: FastAPI, length: str) -> None:
    headers = {"Content-Length": length.encode()}
    assert api(alone).get("/health/live", headers=headers).status_code in {200, 413}  # type: ignore[arg-type]


def raw(address: str, request: bytes) -> bytes:
    """Send raw bytes, which need not be valid HTTP, and return the response."""
    host, port = address.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        connection.sendall(request)
        return b"".join(iter(lambda: connection.recv(65_536), b""))


@pytest.mark.parametrize("path", [b"/sign-in", b"/approvals/", b"/approvals?page=%ff", b"/%ff%00", b"//evil.example/"])
def test_hostile_requests_cause_no_internal_error(alone: FastAPI, path: bytes) -> None:
    headers = [
        *(b"Host: " + host for host in (b"", b"[", b"[::1", b"a b", b"localhost:x", b'"><script>', b"\xff", b"a@b")),
        *(b"Host: a\r\nCookie: " + text for text in (b"platform_session", b"=;;=", b"platform_session=\xff", b"\xff")),
        *(b"Host: a\r\nAccept: " + text for text in (b"\xff;q=9", b"text/html;q=1.00000", b"," * 5_000)),
        b"Host: a\r\nX-Forwarded-Proto: \xff",
        b"Host: a\r\nX-Forwarded-For: \xff, ::::",
        b"Host: a\r\nContent-Length: 99999999999999999999",
        b"Host: a\r\nAuthorization: \xff",
    ]
    with served(alone) as address:
        for header in headers:
            request = b"GET %s HTTP/1.1\r\nAccept: text/html\r\nConnection: close\r\n%s\r\n\r\n" % (path, header)
            answer = raw(address, request)
            # 503 is also allowed, because the database is down.
            assert int(answer.split()[1]) in {200, 303, 307, 400, 401, 404, 413, 422, 503}, (header, answer)
            assert b"<script" not in answer


@pytest.mark.requirement("SRV-1")
def test_the_openapi_schema_and_the_docs_page_list_all_routes(alone: FastAPI, tmp_path: Path) -> None:
    client = api(alone)
    described = client.get("/openapi.json").json()
    routes = {f"{method.upper()} {path}" for path, found in described["paths"].items() for method in found}
    of_domains = {
        f"{method} {route.path}"
        for module in api_modules()
        for route in module.router(Services(Settings(home=tmp_path))).routes
        for method in route.methods
    }
    assert of_domains >= {"POST /predictions/credit-risk", "POST /predictions/sentence-relevance"}
    assert routes >= of_domains
    assert routes - of_domains == {
        "GET /approvals",
        "GET /approvals/{id}",
        "GET /approvals/{id}/plots/{name}",
        "POST /approvals/{id}/decision",
        "GET /health/live",
        "GET /health/ready",
        "GET /models",
        "GET /metrics",
        "GET /labels/{model}",
        "POST /labels/{model}",
        "GET /trace/{request_id}",
    }
    page = client.get("/docs")
    assert page.headers["content-type"].startswith("text/html")
    for route in routes:
        assert route in page.text
    for path, operations in described["paths"].items():
        for operation in operations.values():
            answers = operation["responses"]["200"]["content"]
            assert all({"example", "examples"} & set(one) for kind, one in answers.items() if kind != "image/png"), path
            for status, answer in operation["responses"].items():
                if int(status) >= 400:
                    [problem_shown] = answer["content"].values()
                    assert problem_shown["example"]["status"] == int(status)
                    assert problem_shown["example"]["type"] in page.text
    body = described["paths"]["/approvals/{id}/decision"]["post"]["requestBody"]["content"]["application/json"]
    assert set(body["example"]) <= set(body["schema"]["properties"])
    assert json.dumps(described).count('"$ref": "#/components/schemas/') == sum(
        json.dumps(described).count(f'"$ref": "#/components/schemas/{name}"')
        for name in described["components"]["schemas"]
    )


def test_api_keys_in_the_settings_work_without_a_database(tmp_path: Path) -> None:
    keys = f"shop:predict:{hashed('sesame')},audit:read+approve:{hashed('open')}"
    app = create_app(Settings(home=tmp_path, api_keys=SecretStr(keys)))
    assert api(app, "sesam").get("/approvals").status_code == 401
    assert problem(api(app, "sesame").get("/approvals"))["type"] == "urn:platform-assets:scope-missing"
    assert not (tmp_path / "postgres").exists()


def test_the_application_shuts_down_without_errors(database_url: str, tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, database_url=SecretStr(database_url))
    with TestClient(create_app(settings), base_url=LOOPBACK) as client:
        wait_until(lambda: client.get("/health/ready").status_code == 200, "the service was ready")


@pytest.mark.requirement("MON-3")
@pytest.mark.parametrize(("automation", "expects_daemon"), [("on", True), ("off", False)])
def test_the_application_watches_the_daemon_while_serving_requests(
    database_url: str, tmp_path: Path, automation: str, expects_daemon: bool
) -> None:
    watches: list[bool] = []

    class Watched(Services):
        def watch(self, *, expects_daemon: bool, owners: Mapping[str, tuple[str, ...]]) -> Watch:
            assert owners["credit_risk_model"] == ("team:credit-risk",)
            watches.append(expects_daemon)
            return super().watch(expects_daemon=expects_daemon, owners=owners)

    def is_watched() -> bool:
        return any(thread.name == "watch" for thread in threading.enumerate())

    settings = Settings(home=tmp_path, database_url=SecretStr(database_url), automation=automation)  # type: ignore[arg-type]  # a literal
    with TestClient(application(Watched(settings), close=True), base_url=LOOPBACK):
        assert is_watched()
    assert not is_watched()
    assert watches == [expects_daemon]
