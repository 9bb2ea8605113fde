"""The guard of pages without sign-in: allowed and refused hosts, and requests of other sites."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from platform_assets.web.site_guard import SiteGuard

PUBLIC = "https://dagster.example.org/prefix"
HOST = "127.0.0.1:3000"
LINK = {"sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}
FRAME = {"sec-fetch-mode": "navigate", "sec-fetch-dest": "iframe"}
Pairs = list[tuple[str, str]]


async def page(_: Any, __: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"the page"})


def sent(headers: Pairs, *, method: str = "POST", kind: str = "http", address: str = PUBLIC) -> list[dict[str, Any]]:
    """Return the messages that the guard sends to the client."""
    messages: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        messages.append(message)

    scope = {"type": kind, "method": method, "path": "/graphql", "query_string": b"", "headers": raw(headers)}
    guard = SiteGuard(page, address, "PLATFORM_DAGSTER_URL")
    asyncio.run(guard(scope, None, send))  # type: ignore[arg-type]  # neither application receives anything
    return messages


def raw(headers: Pairs) -> list[tuple[bytes, bytes]]:
    return [(name.encode(), value.encode()) for name, value in headers]


def is_allowed(headers: Pairs, **options: Any) -> bool:
    first, *more = sent(headers, **options)
    if options.get("kind") == "websocket" and first["type"] == "websocket.close":
        assert more == []
        return False
    assert (first["status"], more[0]["body"] == b"the page") in {(200, True), (403, False)}
    return bool(first["status"] == 200)


@pytest.mark.parametrize(
    ("host", "allowed"),
    [
        ("localhost", True),
        ("LOCALHOST:3000", True),
        ("127.0.0.1:3000", True),
        ("10.1.2.3", True),
        ("[::1]:3000", True),
        ("webserver:3000", True),
        ("dagster.example.org", True),
        ("Dagster.Example.org:8443", True),
        ("evil.example", False),
        ("127.0.0.1.evil.example:3000", False),
        ("dagster.example.org.evil.example", False),
        ("localhost.", False),
        ("localhost:3000@evil.example", False),
        ("evil.example/localhost", False),
        ("localhost, evil.example", False),
        ("localhost:", False),
        ("[::1", False),
        ("", False),
    ],
)
@pytest.mark.parametrize("kind", ["http", "websocket"])
def test_only_host_names_of_the_application_are_allowed(kind: str, host: str, allowed: bool) -> None:
    assert is_allowed([("host", host)], kind=kind) is allowed


@pytest.mark.parametrize("headers", [[], [("host", HOST), ("host", HOST)], [("host", "dagster.example.org")]])
def test_a_host_is_refused_if_it_is_missing_or_repeated_or_the_address_is_not_set(headers: Pairs) -> None:
    assert not is_allowed(headers, address="")
    assert sent(headers, address="")[1]["body"].count(b"set PLATFORM_DAGSTER_URL") == 1


@pytest.mark.parametrize(
    ("method", "headers", "allowed"),
    [
        # Programs such as curl.
        ("POST", {}, True),
        # The page's own requests, links and addresses that the user enters.
        ("POST", {"sec-fetch-site": "same-origin", "origin": f"http://{HOST}"}, True),
        ("GET", {"sec-fetch-site": "none", **LINK}, True),
        # The proxy in front replaced the header Host.
        ("POST", {"sec-fetch-site": "same-origin", "origin": "https://proxy.example.org"}, True),
        # Links of other sites.
        ("GET", {"sec-fetch-site": "cross-site", **LINK}, True),
        ("HEAD", {"sec-fetch-site": "same-site", **LINK}, True),
        # Frames, forms, images and scripts of other sites.
        ("GET", {"sec-fetch-site": "cross-site", **FRAME}, False),
        ("POST", {"sec-fetch-site": "cross-site", **LINK}, False),
        ("GET", {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors", "sec-fetch-dest": "image"}, False),
        ("GET", {"sec-fetch-site": "same-site", "sec-fetch-mode": "cors", "sec-fetch-dest": "empty"}, False),
        ("GET", {"sec-fetch-site": "cross-site"}, False),
        ("GET", {"sec-fetch-site": "SAME-ORIGIN"}, False),
        ("GET", {"sec-fetch-site": ""}, False),
        # Browsers that send no Sec-Fetch headers.
        ("POST", {"origin": f"http://{HOST}"}, True),
        ("POST", {"origin": f"HTTP://{HOST}"}, True),
        ("POST", {"origin": "https://dagster.example.org"}, True),
        ("POST", {"origin": "http://dagster.example.org"}, False),
        ("POST", {"origin": "https://dagster.example.org:8443"}, False),
        ("POST", {"origin": "http://127.0.0.1:8888"}, False),
        ("POST", {"origin": "http://localhost:3000"}, False),
        ("POST", {"origin": "http://127.0.0.1"}, False),
        ("POST", {"origin": "https://evil.example"}, False),
        ("POST", {"origin": f"http://{HOST}@evil.example"}, False),
        ("POST", {"origin": "null"}, False),
        ("POST", {"origin": ""}, False),
        ("POST", {"origin": "https://evil.example", "x-forwarded-host": "evil.example"}, False),
    ],
)
def test_requests_of_other_sites_are_refused_except_links(method: str, headers: dict[str, str], allowed: bool) -> None:
    assert is_allowed([("host", HOST), *headers.items()], method=method) is allowed
    is_link = headers.get("sec-fetch-site") in {"cross-site", "same-site"}
    assert is_allowed([("host", HOST), *headers.items()], kind="websocket") is (allowed and not is_link)


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("dagster", "http://dagster"),
        ("dagster:80", "http://dagster"),
        ("dagster", "https://dagster:443"),
        ("dagster", "https://dagster"),
        ("[::1]:3000", "http://[::1]:3000"),
    ],
)
def test_an_origin_matches_a_host_with_or_without_the_default_port(host: str, origin: str) -> None:
    assert is_allowed([("host", host), ("origin", origin)], address="")


@pytest.mark.parametrize("name", ["origin", "sec-fetch-site"])
def test_all_values_of_a_repeated_header_must_be_allowed(name: str) -> None:
    own = {"origin": f"http://{HOST}", "sec-fetch-site": "same-origin"}[name]
    assert is_allowed([("host", HOST), (name, own), (name, own)])
    assert not is_allowed([("host", HOST), (name, own), (name, "cross-site")])


def test_pages_cannot_be_shown_in_a_frame_of_another_site() -> None:
    assert sent([("host", HOST)])[0]["headers"] == [(b"x-frame-options", b"SAMEORIGIN")]
