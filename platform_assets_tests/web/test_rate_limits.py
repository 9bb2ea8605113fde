"""Rate limits across processes. The counts are kept in Redis; while Redis is down, each process counts separately."""

from __future__ import annotations

import logging
import socket
import sys
import uuid
from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client import CollectorRegistry
from pydantic import SecretStr

from platform_assets.base.errors import PlatformError
from platform_assets.serving.prometheus import LimitsCollector
from platform_assets.web import limit_windows
from platform_assets.web.problems import Problem
from platform_assets.web.rate_limits import WRONG_KEYS, RateLimits
from platform_assets_tests.ports import reserve_port
from platform_assets_tests.redis_server import redis_at
from platform_assets_tests.service import api
from platform_assets_tests.web.test_authorization import FREE, app_of

if TYPE_CHECKING:
    from pathlib import Path

    from fastapi import FastAPI
    from httpx2 import Response

HERE = "10.0.0.1"


def allowed(limits: RateLimits, key: str | None) -> bool:
    try:
        limits.count(HERE, key)
    except Problem:
        return False
    return True


@pytest.mark.requirement("SRV-1", "PLT-9")
def test_processes_with_the_same_redis_share_rate_limits(redis_server: str) -> None:
    one, other = (RateLimits("3/hour", redis_server, is_alone=False) for _ in range(2))
    # Use unique keys, because other tests use the same Redis server.
    mine, yours = (uuid.uuid4().hex for _ in range(2))
    headers = one.count(HERE, mine)
    assert headers["RateLimit-Policy"] == '"key";q=3;w=3600'
    assert headers["RateLimit"].startswith('"key";r=2;t=36')
    assert [allowed(limits, mine) for limits in (other, one, other, one)] == [True, True, False, False]
    assert allowed(one, yours)
    assert one.scope == other.scope == "shared"


@pytest.mark.requirement("SRV-1")
def test_processes_share_the_limit_of_failed_keys(redis_server: str) -> None:
    both = [RateLimits("off", redis_server, is_alone=False) for _ in range(2)]
    address = uuid.uuid4().hex
    for number in range(WRONG_KEYS):
        both[number % 2].count_guess(address)
    for limits in both:
        with pytest.raises(Problem, match="20 per minute for attempts with an unknown key"):
            limits.count_guess(address)


@pytest.mark.requirement("SRV-1")
def test_without_redis_each_process_counts_separately_and_the_headers_show_it() -> None:
    alone, one, other = RateLimits("1/hour"), RateLimits("1/hour", is_alone=False), RateLimits("1/hour", is_alone=False)
    assert alone.count(HERE, None)["RateLimit-Policy"] == '"address";q=1;w=3600'
    assert one.count(HERE, "k")["RateLimit-Policy"] == '"key-per-process";q=1;w=3600'
    assert other.count(HERE, "k")["RateLimit"].startswith('"key-per-process";r=0;')
    assert alone.scope == one.scope == "per_process"
    assert RateLimits("off").scope == "off"


@pytest.mark.requirement("SRV-1", "SRV-3")
def test_limits_are_per_process_while_redis_is_down(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limit_windows, "PAUSE_SECONDS", 0.0)
    caplog.set_level(logging.WARNING, limit_windows.__name__)
    port = reserve_port()
    with redis_at(port, tmp_path) as url:
        app = app_of(tmp_path, rate_limit="2/hour", limits_url=SecretStr(url))
        shop = api(app, "sesame")
        assert asked(shop) == (200, '"key";r=1')
        assert shared(app) == 1.0
    assert [asked(shop) for _ in range(3)] == [
        (200, '"key-per-process";r=1'),
        (200, '"key-per-process";r=0'),
        (429, '"key-per-process";r=0'),
    ]
    assert shared(app) == 0.0
    told = [one.getMessage() for one in caplog.records]
    assert len(told) == 1
    assert told[0].startswith("the Redis server in PLATFORM_LIMITS_URL cannot count requests (")
    with redis_at(port, tmp_path) as url:
        assert asked(shop) == (200, '"key";r=1')
        assert shared(app) == 1.0
    assert caplog.messages[1:] == ["Redis answers again, so requests are counted for all processes together"]


@pytest.mark.requirement("SRV-1")
def test_only_the_first_request_waits_for_a_redis_that_hangs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(limit_windows, "REDIS_SECONDS", 0.1)
    monkeypatch.setattr(limit_windows, "PAUSE_SECONDS", 3_600.0)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.setblocking(False)
        url = f"redis://:a-long-password@127.0.0.1:{silent.getsockname()[1]}"
        shop = api(app_of(tmp_path, rate_limit="9/hour", limits_url=SecretStr(url)), "sesame")
        assert [asked(shop)[0] for _ in range(5)] == [200] * 5
        connections = 0
        while True:
            try:
                silent.accept()[0].close()
            except BlockingIOError:
                break
            connections += 1
    assert connections == 1
    assert len(caplog.records) == 1
    assert "a-long-password" not in caplog.text


def test_the_error_for_a_missing_redis_library_names_the_extra_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "redis", None)
    with pytest.raises(PlatformError, match=r"PLATFORM_LIMITS_URL needs the library redis: install the extra"):
        app_of(tmp_path, limits_url=SecretStr("redis://localhost"))


def asked(client: Any) -> tuple[int, str]:
    """Send a request; return the status, and the name and remaining quota of the limit that counted the request."""
    response: Response = client.get(FREE)
    return response.status_code, response.headers["ratelimit"].rpartition(";")[0]


def shared(app: FastAPI) -> float | None:
    """Return the metric `platform_rate_limits_shared`, or None if it is missing. No database is needed."""
    registry = CollectorRegistry()
    registry.register(LimitsCollector(app.state.access._limits))
    return registry.get_sample_value("platform_rate_limits_shared")
