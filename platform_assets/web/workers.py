"""Worker processes: fork several processes that serve one port, replace those that die, and stop them together.

`http_server.py` serves in each worker. The supervisor process never serves and starts no threads, so that it can fork
at any time.
"""

from __future__ import annotations

import logging
import os
import select
import signal
import sys
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from platform_assets.web.worker_calls import WorkerCalls

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LOG = logging.getLogger(__name__)
STOP_SECONDS = 28.0
"""Time for workers to end after SIGTERM, before they are killed."""
STABLE_SECONDS = 10.0
"""Minimum lifetime of a stable worker. When such a worker dies, the count of early deaths starts again from 0."""
LONGEST_PAUSE_SECONDS = 30.0
"""Longest pause before replacing a worker that keeps dying."""
_POLL_SECONDS = 0.1
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@dataclass(frozen=True)
class Worker:
    """The current process as one of several workers.

    Attributes
    ----------
    number
        Number of this worker, from 1. A replacement has the number of the worker that it replaces.
    count
        Number of workers.
    calls
        Calls between the workers.
    announce
        Function to call once this worker accepts requests.
    """

    number: int
    count: int
    calls: WorkerCalls
    announce: Callable[[], None]

    @property
    def is_first(self) -> bool:
        """Whether this worker does the work that must be done only once per service."""
        return self.number == 1

    @property
    def others(self) -> list[int]:
        """Numbers of the other workers."""
        return [number for number in range(1, self.count + 1) if number != self.number]


def run_workers(count: int, serve: Callable[[Worker], None]) -> None:
    """Run `serve` in several processes until SIGTERM or Ctrl-C, and replace those that die.

    The first worker starts alone, so that only one worker reports why the service cannot start. In each worker, this
    function returns when `serve` returns, and raises what `serve` raises. The worker's process must end soon after.

    Parameters
    ----------
    count
        Number of workers.
    serve
        Function that serves. It calls `Worker.announce`, and ends on SIGTERM.

    Raises
    ------
    SystemExit
        A worker ended before it accepted requests and no other worker accepts them, or a worker had to be killed.
    """
    worker = _Crew(count).watch()
    if worker is not None:
        serve(worker)


@dataclass
class _Place:
    """State of a worker: its current process, and the time at which its next process is due."""

    number: int
    pid: int | None = None
    accepts: bool = False
    forked_at: float = 0.0
    due: float = 0.0
    deaths: int = 0


@dataclass(frozen=True)
class _Ended:
    """A process that has ended, and its exit code. The code is negative if a signal killed the process."""

    place: _Place
    pid: int
    code: int
    accepted: bool

    @property
    def told(self) -> str:
        how = (
            f"was killed by {signal.Signals(-self.code).name}" if self.code < 0 else f"ended with exit code {self.code}"
        )
        return f"worker {self.place.number} (process {self.pid}) {how}"


class _Crew:
    """The supervisor's view of its workers."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._places = [_Place(number) for number in range(1, count + 1)]
        self._calls = WorkerCalls(count)
        # Workers announce themselves on the pipe `news`. Nothing is written to the pipe `lifeline`. Workers read from
        # it, and the read returns when the supervisor has died.
        self._news_in, self._news_out = os.pipe()
        self._lifeline_in, self._lifeline_out = os.pipe()
        self._stop: signal.Signals | None = None
        self._former = {number: signal.signal(number, self._asked_to_stop) for number in _SIGNALS}

    def watch(self) -> Worker | None:
        """Start and replace workers.

        In the process of a new worker, return the worker. In the supervisor, return None after a signal.
        """
        while self._stop is None:
            for place in self._due():
                worker = self._fork(place)
                if worker is not None:
                    return worker
            self._hear()
            for ended in self._ended():
                self._replace_later(ended)
        LOG.info("stopping the workers: %s was received", self._stop.name)
        if not self._end_all():
            sys.exit(1)
        return None

    def _due(self) -> list[_Place]:
        first_only = not any(place.accepts for place in self._places)
        now = time.monotonic()
        places = self._places[:1] if first_only else self._places
        return [place for place in places if place.pid is None and place.due <= now]

    def _fork(self, place: _Place) -> Worker | None:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        # Hold signals back until the new process has its own handlers.
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        try:
            pid = os.fork()
            if pid:
                place.pid, place.accepts, place.forked_at = pid, False, time.monotonic()
                return None
            self._become_worker()
            return Worker(place.number, self._count, self._calls, lambda: self._announce(place.number))
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)

    def _become_worker(self) -> None:
        for number, handler in self._former.items():
            signal.signal(number, handler)
        os.close(self._news_in)
        os.close(self._lifeline_out)
        threading.Thread(target=_end_with, args=[self._lifeline_in], name="lifeline", daemon=True).start()

    def _announce(self, number: int) -> None:
        os.write(self._news_out, f"{number} {os.getpid()}\n".encode())

    def _hear(self) -> None:
        """Wait a moment for workers to announce that they accept requests."""
        if not select.select([self._news_in], [], [], _POLL_SECONDS)[0]:
            return
        for line in os.read(self._news_in, 1 << 16).decode().splitlines():
            number, pid = map(int, line.split())
            place = self._places[number - 1]
            if place.pid == pid:
                place.accepts = True
                LOG.info("worker %s of %s accepts requests (process %s)", number, self._count, pid)

    def _ended(self) -> Iterator[_Ended]:
        """Yield the processes that have ended since the last call."""
        for place in self._places:
            if place.pid is None:
                continue
            pid, status = os.waitpid(place.pid, os.WNOHANG)
            if pid:
                ended = _Ended(place, pid, os.waitstatus_to_exitcode(status), place.accepts)
                place.pid, place.accepts = None, False
                yield ended

    def _replace_later(self, ended: _Ended) -> None:
        place, code = ended.place, ended.code
        if not ended.accepted and not any(one.accepts for one in self._places):
            # The worker itself has logged the reason, unless a signal killed it.
            if code <= 0:
                LOG.error("%s before it accepted requests, so the service ends", ended.told)
            self._end_all()
            sys.exit(code if code > 0 else 1)
        now = time.monotonic()
        place.deaths = 0 if now - place.forked_at >= STABLE_SECONDS else place.deaths + 1
        pause = min(2.0 ** (place.deaths - 2), LONGEST_PAUSE_SECONDS) if place.deaths > 1 else 0.0
        place.due = now + pause
        LOG.error("%s; starting a replacement %s", ended.told, f"in {pause:g} s" if pause else "now")

    def _asked_to_stop(self, number: int, _frame: object) -> None:
        self._stop = signal.Signals(number)

    def _end_all(self) -> bool:
        """Stop all workers; return whether all of them ended in time."""
        self._signal_all(signal.SIGTERM)
        deadline = time.monotonic() + STOP_SECONDS
        while self._living() and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS / 2)
        late = self._living()
        for place in late:
            LOG.error("worker %s did not end within %g s and is killed", place.number, STOP_SECONDS)
        self._signal_all(signal.SIGKILL)
        for place in late:
            os.waitpid(place.pid or 0, 0)
        return not late

    def _signal_all(self, number: signal.Signals) -> None:
        for place in self._living():
            # The process id cannot belong to another process, because it is reused only after `waitpid`.
            os.kill(place.pid or 0, number)

    def _living(self) -> list[_Place]:
        for _ in self._ended():
            pass
        return [place for place in self._places if place.pid is not None]


def _end_with(lifeline: int) -> None:
    """End this worker as on SIGTERM if the supervisor has died, because no other process would end it."""
    os.read(lifeline, 1)
    LOG.error("the supervisor of this worker has died, so the worker ends")
    os.kill(os.getpid(), signal.SIGTERM)
