"""The request log writes lines in batches after a short delay, and loses none on shutdown."""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from platform_assets.web import middleware as guard_module
from platform_assets.web import request_log
from platform_assets.web.error_answers import Problems
from platform_assets.web.middleware import LOG as GUARD_LOG
from platform_assets.web.middleware import RequestMiddleware
from platform_assets.web.request_log import LINES_AT_ONCE, Line, RequestLog
from platform_assets_tests.service import api

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from fastapi import FastAPI

    from platform_assets_tests.service import People

LOG = logging.getLogger(__name__)
PATIENCE_SECONDS = 10


def line(place: int = 1) -> Line:
    return Line("GET", f"/things/{place}", 200, {"request_id": f"id-{place}"})


class Told(logging.Handler):
    """Handler that sets an event when a record is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = asyncio.Event()

    def emit(self, _: logging.LogRecord) -> None:
        self.written.set()


@contextmanager
def told() -> Iterator[asyncio.Event]:
    handler = Told()
    LOG.addHandler(handler)
    try:
        yield handler.written
    finally:
        LOG.removeHandler(handler)


def counted(scope: object, status: int, seconds: float) -> None:
    """Statistics callback that does nothing."""


@pytest.mark.requirement("SRV-1")
def test_a_line_is_written_after_a_short_delay_but_keeps_its_own_timestamp(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, __name__)

    async def answer() -> None:
        with told() as written:
            RequestLog(LOG).add(Line("GET", "/things/1", 200, {"request_id": "mine"}, at=1_700_000_000.25))
            assert caplog.records == []
            await asyncio.wait_for(written.wait(), PATIENCE_SECONDS)

    asyncio.run(answer())
    (record,) = caplog.records
    assert record.getMessage() == "GET /things/1 200"
    assert vars(record)["request_id"] == "mine"
    assert (record.created, record.msecs) == (1_700_000_000.25, 250)
    before = time.time()
    assert before <= line().at <= time.time()


def test_lines_are_written_in_batches_and_in_order(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, __name__)

    async def answer() -> None:
        log = RequestLog(LOG)
        for place in range(LINES_AT_ONCE + 1):
            log.add(line(place))
        assert len(caplog.records) == LINES_AT_ONCE
        log.write()
        log.write()

    asyncio.run(answer())
    assert [vars(record)["request_id"] for record in caplog.records] == [
        f"id-{place}" for place in range(LINES_AT_ONCE + 1)
    ]


def test_lines_left_by_a_closed_event_loop_are_written_in_the_next_loop(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, __name__)
    log = RequestLog(LOG)

    async def answer() -> None:
        log.add(line())

    async def answer_and_wait() -> None:
        with told() as written:
            log.add(line())
            await asyncio.wait_for(written.wait(), PATIENCE_SECONDS)

    asyncio.run(answer())
    assert caplog.records == []
    asyncio.run(answer_and_wait())
    assert len(caplog.records) == 2


def test_a_line_that_cannot_be_written_does_not_block_other_lines(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, __name__)

    def refuse(record: logging.LogRecord) -> bool:
        if record.getMessage() == "GET /things/1 200":
            raise ValueError("not this one")
        return True

    async def answer() -> None:
        log = RequestLog(LOG)
        for place in range(3):
            log.add(line(place))
        with pytest.raises(ValueError, match="not this one"):
            log.write()

    LOG.addFilter(refuse)
    try:
        asyncio.run(answer())
    finally:
        LOG.removeFilter(refuse)
    assert [record.getMessage() for record in caplog.records] == ["GET /things/0 200", "GET /things/2 200"]


def test_no_line_is_written_if_the_log_level_is_above_info(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, __name__)

    async def answer() -> None:
        log = RequestLog(LOG)
        log.add(line())
        log.write()

    asyncio.run(answer())
    assert caplog.records == []


@pytest.mark.requirement("SRV-1")
def test_a_line_is_written_while_the_next_request_waits_for_the_database(
    app: FastAPI, people: People, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO, GUARD_LOG.name)
    monkeypatch.setattr(request_log, "PACE_SECONDS", 3_600)
    with api(app, people.rita) as program:
        for client in range(3):
            assert program.get(f"/features/credit-risk/{client}").status_code == 404
            assert len(caplog.records) == client
    assert [record.getMessage() for record in caplog.records] == [
        f"GET /features/credit-risk/{client} 404" for client in range(3)
    ]


def test_lines_of_concurrent_requests_stay_buffered_during_a_database_query(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO, GUARD_LOG.name)
    monkeypatch.setattr(request_log, "PACE_SECONDS", 3_600)
    meanwhile: list[Callable[[], object]] = []
    asked = {"type": "http", "method": "GET", "path": "/here", "scheme": "http", "headers": []}

    @contextmanager
    def keep(work: Callable[[], object]) -> Iterator[None]:
        meanwhile.append(work)
        yield

    async def application(scope: Any, _: Any, send: Any) -> None:
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 204, "headers": []})
            # Run the deferred work here. In the service, this happens while a database query is in flight.
            await asyncio.sleep(0)
            meanwhile[0]()
            await send({"type": "http.response.body"})

    async def receive() -> Any:
        """Placeholder. The application never reads messages."""

    async def send(_: Any) -> None:
        """Discard a message."""

    async def served() -> None:
        guard = RequestMiddleware(application, counted, Problems(()), keep)

        async def lines_after(*requests: int) -> list[int]:
            counts = []
            for beside in requests:
                await asyncio.gather(*(guard(dict(asked), receive, send) for _ in range(beside)))
                await asyncio.sleep(0)
                counts.append(len(caplog.records))
            return counts

        await guard({"type": "lifespan"}, receive, send)
        # Without concurrent requests, a request writes the buffered line of the previous request.
        assert await lines_after(1, 1, 1) == [0, 1, 2]
        monkeypatch.setattr(guard_module, "BUSY_SECONDS", 3_600)
        assert await lines_after(2, 1, 1) == [2, 2, 2]

    asyncio.run(served())


def test_the_middleware_enters_its_context_manager_only_for_the_lifespan_scope() -> None:
    entered: list[str] = []
    asked: list[str] = []

    @contextmanager
    def meanwhile(_: Callable[[], object]) -> Iterator[None]:
        entered.append("lifespan")
        yield

    async def application(scope: Any, _: Any, __: Any) -> None:
        asked.append(scope["type"])

    async def served() -> None:
        guard = RequestMiddleware(application, counted, Problems(()), meanwhile)
        for kind in ("lifespan", "websocket"):
            await guard({"type": kind}, None, None)  # type: ignore[arg-type]  # unused

    asyncio.run(served())
    assert (entered, asked) == (["lifespan"], ["lifespan", "websocket"])


def test_the_shutdown_of_the_service_writes_the_buffered_lines(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, GUARD_LOG.name)

    async def application(scope: Any, _: Any, send: Any) -> None:
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 204, "headers": []})
            await send({"type": "http.response.body"})

    async def receive() -> Any:
        """Placeholder. The application never reads messages."""

    async def send(_: Any) -> None:
        """Discard a message."""

    async def served() -> None:
        guard = RequestMiddleware(application, counted, Problems(()))
        asked = {"type": "http", "method": "GET", "path": "/here", "scheme": "http", "headers": []}
        await guard(asked, receive, send)
        await asyncio.sleep(0)
        assert caplog.records == []
        await guard({"type": "lifespan"}, receive, send)

    asyncio.run(served())
    assert [record.getMessage() for record in caplog.records] == ["GET /here 204"]


def test_only_failed_health_checks_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, GUARD_LOG.name)
    statuses: list[int] = []

    async def application(scope: Any, _: Any, send: Any) -> None:
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": statuses[-1], "headers": []})
            await send({"type": "http.response.body"})

    async def receive() -> Any:
        """Placeholder. The application never reads messages."""

    async def send(_: Any) -> None:
        """Discard a message."""

    async def served() -> None:
        guard = RequestMiddleware(application, seen_path, Problems(()))
        for path, status in (("/health/ready", 200), ("/health/ready", 503), ("/models", 200)):
            statuses.append(status)
            await guard({"type": "http", "method": "GET", "path": path, "scheme": "http", "headers": []}, receive, send)
            await asyncio.sleep(0)
        await guard({"type": "lifespan"}, receive, send)

    def seen_path(scope: Any, _: int, __: float) -> None:
        seen.append(scope["path"])

    seen: list[str] = []
    asyncio.run(served())
    assert [record.getMessage() for record in caplog.records] == ["GET /health/ready 503", "GET /models 200"]
    # The statistics callback is also called for the successful health check, which is not logged.
    assert seen == ["/health/ready", "/health/ready", "/models"]
