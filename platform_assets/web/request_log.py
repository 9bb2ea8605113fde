"""A line of the log for each request, several written together: alone it takes a sixth of the time of a short answer.

As web servers buffer their access logs. Only these lines wait, and not for long; whatever else is logged is written
at once. A process that is killed loses those of its last hundredth of a second.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any

PACE_SECONDS = 0.01
"""For which a line waits."""
LINES_AT_ONCE = 16
"""So many do not wait any longer; more would keep a request waiting."""


@dataclass(frozen=True, slots=True)
class Line:
    """What is written of one request.

    Attributes
    ----------
    method, path, status
        What was asked for, and how it was answered.
    extra
        Further fields by name.
    at
        When it was answered, in seconds since 1970.
    """

    method: str
    path: str
    status: int
    extra: dict[str, Any]
    at: float = field(default_factory=time.time)


class RequestLog:
    """Takes lines on an event loop.

    Parameters
    ----------
    logger
        Where they go.
    """

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger
        self._waiting: deque[Line] = deque()
        # The loop that is going to write.
        self._loop: asyncio.AbstractEventLoop | None = None

    def add(self, line: Line) -> None:
        """Take a line; it is written soon."""
        self._waiting.append(line)
        loop = asyncio.get_running_loop()
        if len(self._waiting) >= LINES_AT_ONCE:
            self.write()
        elif self._loop is not loop:
            self._loop = loop
            loop.call_later(PACE_SECONDS, self._write_in_time)

    def write(self) -> None:
        """Write the lines that wait; on the event loop that took them."""
        wanted = self._logger.isEnabledFor(logging.INFO)
        failure: Exception | None = None
        while self._waiting:
            line = self._waiting.popleft()
            if wanted:
                try:
                    self._logger.handle(self._record(line))
                except Exception as error:  # noqa: BLE001 - whatever a filter raises, that line alone is lost
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
