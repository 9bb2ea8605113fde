"""Clients that keep requesting predictions from a service, each on its own connection, and record every answer."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

import requests

from platform_assets_tests.serving import credit

if TYPE_CHECKING:
    from types import TracebackType

PACE_SECONDS = 0.02


@dataclass(frozen=True)
class Answer:
    """A response, with the times at which it was requested and received. `version` is 0 unless the status is 200."""

    request_id: str
    status: int
    version: int
    asked_at: float
    answered_at: float


@dataclass
class Client:
    """A client with a single connection. The worker that accepts the connection answers all its requests."""

    address: str
    name: str
    key: str
    answers: list[Answer] = field(default_factory=list)

    def __enter__(self) -> Self:
        self._stop = threading.Event()
        self._session = requests.Session()
        self._thread = threading.Thread(target=self._run)
        # Open the connection now, so that a worker accepts it before the client starts.
        assert self._session.get(f"{self.address}/health/live", timeout=60).ok
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        self._session.close()

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def got(self, status: int, version: int = 0) -> bool:
        """Return whether the last answer has this status and version."""
        return bool(self.answers) and (self.answers[-1].status, self.answers[-1].version) == (status, version)

    def answered(self) -> dict[str, float]:
        """Return when each prediction was received, keyed by request id."""
        return {one.request_id: one.answered_at for one in self.answers if one.status == 200}

    def _run(self) -> None:
        number = 0
        while not self._stop.wait(PACE_SECONDS):
            number += 1
            # Ignore failed requests, because the worker may be killed.
            with suppress(requests.RequestException):
                self.answers.append(self._ask(f"{self.name}-{number}"))

    def _ask(self, request_id: str) -> Answer:
        asked_at = time.monotonic()
        answer = self._session.post(
            f"{self.address}/predictions/credit-risk",
            json={"client_id": credit.FIRST_CLIENT},
            headers={"X-Request-ID": request_id, "Authorization": f"Bearer {self.key}"},
            timeout=60,
        )
        version = int(answer.json()["model_version"]) if answer.ok else 0
        return Answer(request_id, answer.status_code, version, asked_at, time.monotonic())
