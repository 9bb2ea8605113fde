"""HTTP client for sources that are APIs: time-outs, bounded bodies, and retries with backoff.

`source_files.py` fetches single files.
"""

from __future__ import annotations

import time
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeVar

from platform_assets.base.errors import SourceError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from contextlib import AbstractContextManager

    import httpx
    import tenacity

    Turn = Callable[[float], AbstractContextManager[Any]]

Value = TypeVar("Value")
LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
_TEMPORARY = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS)


class UpstreamError(SourceError):
    """A source gave no usable answer, and a retry would not help.

    Attributes
    ----------
    upstream_status
        HTTP status of the source's last answer; None if no answer came.
    retry_after
        Seconds that the source asks clients to wait; None if it names no time.
    """

    status: ClassVar[int] = HTTPStatus.SERVICE_UNAVAILABLE
    problem: ClassVar[str] = "upstream-unavailable"
    is_temporary: ClassVar[bool] = True

    def __init__(self, message: str, upstream_status: int | None = None, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.upstream_status = upstream_status
        self.retry_after = retry_after


class TemporaryError(UpstreamError):
    """A source gave no usable answer, and a retry may help."""


@dataclass(frozen=True)
class Answer:
    """An answer with its whole body.

    Attributes
    ----------
    status
        HTTP status.
    headers
        The headers. Their names are case-insensitive.
    body
        The decoded body.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True)
class Limits:
    """Limits of a client.

    Attributes
    ----------
    connect_seconds
        Longest wait for a connection.
    read_seconds
        Longest wait for the next bytes of an answer.
    body_bytes
        Largest body, after decompression.
    attempts
        Largest number of attempts per request.
    first_wait_seconds
        Wait before the first retry. The wait doubles with each retry. A random jitter of at most the first wait is
        added.
    longest_wait_seconds
        Upper bound of the wait before a retry. A longer `Retry-After` overrides it.
    """

    connect_seconds: float = 10.0
    read_seconds: float = 20.0
    body_bytes: int = 64 << 20
    attempts: int = 5
    first_wait_seconds: float = 1.0
    longest_wait_seconds: float = 30.0


class HttpClient:
    """Client of one source. A context manager that closes its connections. Threads may share it.

    Parameters
    ----------
    name
        Name of the source in error messages.
    headers
        Headers of each request. They are sent to no other server, because redirects are not followed.
    limits
        Time-outs, body size and retries.
    turn
        Function that is called before each attempt with the remaining time in seconds. It returns a context manager in
        which the attempt is made. Entering it may delay the attempt, and raises `TemporaryError` if the delay would be
        longer than the remaining time.
    keep_connections
        Whether to keep connections open between requests.
    """

    def __init__(
        self,
        name: str,
        headers: Mapping[str, str],
        limits: Limits | None = None,
        turn: Turn = nullcontext,
        *,
        keep_connections: bool = True,
    ) -> None:
        import httpx

        self._name = name
        self._limits = limits or Limits()
        self._turn = turn
        connections = httpx.Limits(max_keepalive_connections=None if keep_connections else 0)
        self._client = httpx.Client(
            headers=dict(headers),
            limits=connections,
            # Use no proxy for servers on this machine, even if the environment names one.
            mounts={f"all://{host}": httpx.HTTPTransport(limits=connections) for host in LOOPBACK},
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def get(self, url: str, params: Mapping[str, str], read: Callable[[Answer], Value], seconds: float) -> Value:
        """Send a GET request, and return the result of `read` for the answer.

        Time-outs, lost connections, the statuses 408, 429 and 5xx, and answers for which `read` raises
        `TemporaryError` are retried.

        Parameters
        ----------
        url
            Address without query.
        params
            Query parameters, not yet encoded.
        read
            Function that turns an answer into a value. It receives every status that is not retried.
        seconds
            Longest time for all attempts together.

        Raises
        ------
        UpstreamError
            No usable answer was received within the limits. The message names the last cause.
        """
        import tenacity

        deadline = time.monotonic() + seconds
        statuses: list[int] = []

        def attempt() -> Value:
            with self._turn(deadline - time.monotonic()):
                answer = self._send(url, params, deadline)
            statuses.append(answer.status)
            if answer.status in _TEMPORARY or answer.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
                raise TemporaryError(
                    f"{self._name} returned HTTP {_named(answer.status)}", answer.status, _retry_after(answer.headers)
                )
            return read(answer)

        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(TemporaryError),
            stop=tenacity.stop_after_attempt(self._limits.attempts) | tenacity.stop_before_delay(seconds),
            wait=self._wait,
            reraise=True,
        )
        try:
            return retrying(attempt)
        except TemporaryError as error:
            attempts = int(retrying.statistics["attempt_number"])
            status = statuses[-1] if statuses else None
            tries = f" (last of {attempts} attempts)" if attempts > 1 else ""
            raise UpstreamError(f"{error}{tries}", status, error.retry_after) from error

    def _wait(self, state: tenacity.RetryCallState) -> float:
        import tenacity

        first = self._limits.first_wait_seconds
        backoff = tenacity.wait_exponential(first, self._limits.longest_wait_seconds) + tenacity.wait_random(0, first)
        error = state.outcome.exception() if state.outcome else None
        asked = error.retry_after if isinstance(error, UpstreamError) else None
        return max(float(backoff(state)), asked or 0.0)

    def _send(self, url: str, params: Mapping[str, str], deadline: float) -> Answer:
        import httpx

        left = deadline - time.monotonic()
        if left <= 0:
            raise TemporaryError(f"{self._name} was not contacted, because the time limit was reached")
        read_seconds = min(self._limits.read_seconds, left)
        timeout = httpx.Timeout(read_seconds, connect=min(self._limits.connect_seconds, left))
        try:
            with self._client.stream("GET", url, params=dict(params), timeout=timeout) as response:
                return Answer(response.status_code, response.headers, self._body(response, deadline))
        except httpx.UnsupportedProtocol as error:
            raise UpstreamError(f"{self._name} has the address {url!r}, which is not http or https") from error
        except httpx.TimeoutException as error:
            raise TemporaryError(f"{self._name} did not answer within {read_seconds:.3g} s") from error
        except httpx.RequestError as error:
            reason = str(error) or type(error).__name__
            raise TemporaryError(f"{self._name} cannot be reached: {reason}") from error

    def _body(self, response: httpx.Response, deadline: float) -> bytes:
        """Return the decoded body, read in pieces so that neither size nor time can exceed the limits."""
        declared, most = response.headers.get("content-length", ""), self._limits.body_bytes
        body = bytearray()
        if not (declared.isascii() and declared.isdigit() and int(declared[:18]) > most):
            for piece in response.iter_bytes(1 << 16):
                body += piece
                if len(body) > most:
                    break
                if time.monotonic() > deadline:
                    raise TemporaryError(f"{self._name} did not finish its response in time", response.status_code)
            else:
                return bytes(body)
        raise UpstreamError(
            f"{self._name} sent more than {most:,} bytes, the limit for one response", response.status_code
        )


def _named(status: int) -> str:
    try:
        return f"{status} ({HTTPStatus(status).phrase})"
    except ValueError:
        return str(status)


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds in `Retry-After`, which contains seconds or a date (RFC 9110); None if absent or malformed."""
    text = headers.get("retry-after", "").strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())
