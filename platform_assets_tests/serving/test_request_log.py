"""Lines of the log wait for each other, but not for long, and none is lost at the end."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any
from unittest.mock import Mock

import pytest

from platform_assets.serving.guard import LOG as GUARD_LOG
from platform_assets.serving.guard import Guard
from platform_assets.serving.metrics import Metrics
from platform_assets.serving.problems import Problems
from platform_assets.serving.request_log import LINES_AT_ONCE, PACE_SECONDS, Line, RequestLog

LOG = logging.getLogger(__name__)
PATIENCE_SECONDS = 10


def line(place: int = 1) -> Line:
    return Line("GET", f"/things/{place}", 200, {"request_id": f"id-{place}"})


class Told(logging.Handler):
    """Says when something is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = asyncio.Event()

    def emit(self, _: logging.LogRecord) -> None:
        self.written.set()


@pytest.mark.requirement("SRV-1")
def test_a_line_is_written_soon_with_the_time_of_its_request(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, __name__)

    async def answer() -> None:
        told = Told()
        LOG.addHandler(told)
        RequestLog(LOG).add(line())
        assert caplog.records == []
        await asyncio.wait_for(told.written.wait(), PATIENCE_SECONDS)
        LOG.removeHandler(told)

    began = time.time()
    asyncio.run(answer())
    (record,) = caplog.records
    assert record.getMessage() == "GET /things/1 200"
    assert vars(record)["request_id"] == "id-1"
    assert began <= record.created < began + PACE_SECONDS


def test_many_lines_are_written_together_in_their_order(caplog: pytest.LogCaptureFixture) -> None:
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


def test_lines_of_a_loop_that_is_gone_are_written_with_the_next(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, __name__)
    log = RequestLog(LOG)

    async def answer(at: float) -> None:
        log.add(Line("GET", "/", 200, {}, at))

    asyncio.run(answer(time.time() - 1))
    assert caplog.records == []
    asyncio.run(answer(time.time()))
    assert len(caplog.records) == 2


def test_nothing_is_written_where_nobody_wants_it(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, __name__)

    async def answer() -> None:
        log = RequestLog(LOG)
        log.add(line())
        log.write()

    asyncio.run(answer())
    assert caplog.records == []


def test_the_end_of_the_service_writes_what_waits(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, GUARD_LOG.name)

    async def application(scope: Any, _: Any, send: Any) -> None:
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 204, "headers": []})
            await send({"type": "http.response.body"})

    async def served() -> None:
        async def sent(_: Any) -> None:
            """Nobody reads it."""

        guard = Guard(application, Mock(spec=Metrics), Problems(()))
        asked = {"type": "http", "method": "GET", "path": "/here", "scheme": "http", "headers": []}
        await guard(asked, Mock(), sent)
        await asyncio.sleep(0)
        assert caplog.records == []
        await guard({"type": "lifespan"}, Mock(), sent)

    asyncio.run(served())
    assert [record.getMessage() for record in caplog.records] == ["GET /here 204"]
