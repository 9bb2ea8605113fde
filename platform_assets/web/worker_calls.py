"""Calls between the workers of one service: a worker asks other workers for bytes, for example for their metrics.

To ask, a worker sends the file descriptor of a pipe, to which the other worker writes its answer. No port or file is
used, so that nothing is visible outside the service.
"""

from __future__ import annotations

import logging
import os
import select
import socket
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

LOG = logging.getLogger(__name__)
_QUESTION = b"?"
_CHUNK = 1 << 16


class WorkerCalls:
    """Channels between the workers. The object must be created before the workers are forked.

    Parameters
    ----------
    count
        Number of workers, which are numbered from 1.
    """

    def __init__(self, count: int) -> None:
        pairs = [socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM) for _ in range(count)]
        self._asking = {number: pair[0] for number, pair in enumerate(pairs, start=1)}
        self._asked = {number: pair[1] for number, pair in enumerate(pairs, start=1)}
        for channel in self._asking.values():
            # Do not block when sending: if a worker has died or hangs, questions fill its channel.
            channel.settimeout(0)

    def answer(self, number: int, found: Callable[[], bytes]) -> None:
        """Start a thread that answers the questions of other workers.

        Parameters
        ----------
        number
            Number of this worker.
        found
            Function that returns the answer.
        """
        channel = self._asked[number]
        threading.Thread(target=_answer, args=[channel, found], name="worker-calls", daemon=True).start()

    def ask(self, numbers: Collection[int], seconds: float) -> dict[int, bytes]:
        """Return the answers of workers, by number. A worker that does not answer in time is missing.

        Parameters
        ----------
        numbers
            Numbers of the workers to ask.
        seconds
            Longest time to wait for all of them.
        """
        waiting = {pipe: number for number in numbers if (pipe := self._question(number)) is not None}
        parts: dict[int, bytes] = dict.fromkeys(waiting.values(), b"")
        # Use `poll`, because `select` fails for file descriptors above 1,023.
        poll = select.poll()
        for pipe in waiting:
            poll.register(pipe, select.POLLIN)
        end = time.monotonic() + seconds
        while waiting and (left := end - time.monotonic()) > 0:
            for pipe, _ in poll.poll(1000 * left):
                read = os.read(pipe, _CHUNK)
                parts[waiting[pipe]] += read
                if not read:
                    poll.unregister(pipe)
                    os.close(pipe)
                    del waiting[pipe]
        for pipe in waiting:
            os.close(pipe)
        late = set(waiting.values())
        return {number: answer for number, answer in parts.items() if answer and number not in late}

    def _question(self, number: int) -> int | None:
        """Send a question; return the pipe from which the answer can be read, or None if it could not be sent."""
        reading, writing = os.pipe()
        try:
            socket.send_fds(self._asking[number], [_QUESTION], [writing])
        except OSError:
            os.close(reading)
            return None
        finally:
            os.close(writing)
        return reading


def _answer(channel: socket.socket, found: Callable[[], bytes]) -> None:
    while True:
        _, pipes, _, _ = socket.recv_fds(channel, len(_QUESTION), 1)
        for pipe in pipes:
            # The worker that asked may have stopped waiting.
            with suppress(BrokenPipeError), os.fdopen(pipe, "wb") as writing:
                try:
                    answer = found()
                except Exception:
                    # Catch any error, because this thread must answer the next question.
                    LOG.exception("a request from another worker cannot be answered")
                else:
                    writing.write(answer)
