"""The request log: one line for each request, written in batches.

If lines were written one by one, each would take a sixth of the time of a short response. Only these lines are
buffered, for a hundredth of a second at most; a process that is killed loses them. All other log messages are written
at once.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any

PACE_SECONDS = 0.01
"""Longest time for which a line is buffered."""
LINES_AT_ONCE = 16
"""Flush as soon as this many lines are buffered; a larger batch would block the event loop."""


@dataclass(frozen=True, slots=True)
class Line:
    """The log line of one request.

    Attributes
    ----------
    method, path, status
        Method and path of the request, and status of the response.
    extra
        Further fields by name.
    at
        Time of the response, in seconds since 1970.
    """

    method: str
    path: str
    status: int
    extra: dict[str, Any]
    at: float = field(default_factory=time.time)


class RequestLog:
    """Buffers lines on an event loop.

    Parameters
    ----------
    logger
        Logger that writes the lines.
    """

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger
        self._waiting: deque[Line] = deque()
        # The loop on which a flush is scheduled; None if no flush is scheduled.
        self._loop: asyncio.AbstractEventLoop | None = None

    def add(self, line: Line) -> None:
        """Buffer a line."""
        self._waiting.append(line)
        loop = asyncio.get_running_loop()
        if len(self._waiting) >= LINES_AT_ONCE:
            self.write()
        elif self._loop is not loop:
            self._loop = loop
            loop.call_later(PACE_SECONDS, self._write_in_time)

    def write(self) -> None:
        """Write the buffered lines; call it on the event loop that buffered them."""
        wanted = self._logger.isEnabledFor(logging.INFO)
        failure: Exception | None = None
        while self._waiting:
            line = self._waiting.popleft()
            if wanted:
                try:
                    self._logger.handle(self._record(line))
                except Exception as error:  # noqa: BLE001 - a filter may raise anything; only that line is lost
                    failure = error
        if failure is not None:
            raise failure

    def _write_in_time(self) -> None:
        self._loop = None
        self.write()

    def _record(self, line: Line) -> logging.LogRecord:
        told = (line.method, line.path, line.status)
        record = self._logger.makeRecord(
            self._logger.name, logging.INFO, __file__, 0, "%s %s %s", told, None, extra=line.extra
        )
        record.created, record.msecs = line.at, 1000 * (line.at % 1)
        return record
