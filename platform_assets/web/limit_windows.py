"""Moving windows in which requests are counted: in this process, or in Redis for all processes of the service.

While Redis does not answer, each process counts its own requests, starting with empty windows.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from platform_assets.base.errors import PlatformError, first_line

if TYPE_CHECKING:
    from limits import RateLimitItem
    from limits.strategies import RateLimiter

LOG = logging.getLogger(__name__)
REDIS_SECONDS = 0.5
"""Longest wait for Redis to answer."""
PAUSE_SECONDS = 5.0
"""Time between two attempts to reach Redis."""
_PREFIX = "platform-limits"


@dataclass(frozen=True, slots=True)
class Counted:
    """A counted request.

    Attributes
    ----------
    allowed
        Whether the request is within the limit.
    reset_at
        Time at which the window ends, in seconds since 1970.
    remaining
        Number of further requests that the window allows.
    """

    allowed: bool
    reset_at: float
    remaining: int


class LocalWindows:
    """Windows in the memory of this process."""

    is_shared = False

    def __init__(self) -> None:
        from limits.storage import MemoryStorage
        from limits.strategies import MovingWindowRateLimiter

        self._limiter = MovingWindowRateLimiter(MemoryStorage())

    def count(self, limit: RateLimitItem, caller: tuple[str, str]) -> Counted:
        """Count a request of a caller, unless it is over the limit."""
        return _counted(self._limiter, limit, caller)


class RedisWindows:
    """Windows in Redis, or in this process while Redis does not answer.

    Parameters
    ----------
    url
        URL of the Redis server.
    """

    def __init__(self, url: str) -> None:
        from limits.storage import RedisStorage
        from limits.strategies import MovingWindowRateLimiter

        storage = RedisStorage(url, key_prefix=_PREFIX, wrap_exceptions=True, **_options())
        self._limiter = MovingWindowRateLimiter(storage)
        self._local = LocalWindows()
        self._next_try = 0.0
        self.is_shared = True

    def count(self, limit: RateLimitItem, caller: tuple[str, str]) -> Counted:
        """Count a request of a caller, unless it is over the limit."""
        from limits.errors import StorageError

        if not self.is_shared:
            if time.monotonic() < self._next_try:
                return self._local.count(limit, caller)
            # Only one request tries to reach Redis again; all other requests do not wait for Redis.
            self._next_try = time.monotonic() + PAUSE_SECONDS
        try:
            counted = _counted(self._limiter, limit, caller)
        except StorageError as error:
            self._lose(error)
            return self._local.count(limit, caller)
        if not self.is_shared:
            self.is_shared = True
            LOG.warning("Redis answers again, so requests are counted for all processes together")
        return counted

    def _lose(self, error: Exception) -> None:
        self._next_try = time.monotonic() + PAUSE_SECONDS
        if self.is_shared:
            self.is_shared = False
            LOG.error(
                "the Redis server in PLATFORM_LIMITS_URL cannot count requests (%s), so each process counts its own "
                "requests",
                first_line(error.__cause__ or error),
            )


def demand_redis() -> None:
    """Raise if the library for Redis is missing.

    Raises
    ------
    PlatformError
        The library is not installed.
    """
    if find_spec("redis") is None:
        raise PlatformError(
            "PLATFORM_LIMITS_URL needs the library redis: install the extra, `EXTRAS=redis make run` or "
            "`pip install 'platform-assets[redis]'`, or unset PLATFORM_LIMITS_URL"
        )


def trouble_with_redis(url: str) -> str:
    """Return the reason why a Redis server cannot count requests; empty if it can count them.

    Raises
    ------
    PlatformError
        The library for Redis is not installed.
    """
    demand_redis()
    from redis import Redis, RedisError

    try:
        with Redis.from_url(url, **_options()) as redis:
            redis.ping()
    except RedisError as error:
        return first_line(error)
    return ""


def _options() -> dict[str, Any]:
    """Return the options of the connections. There are no retries, because an HTTP request would wait for them."""
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    return {
        "socket_connect_timeout": REDIS_SECONDS,
        "socket_timeout": REDIS_SECONDS,
        "retry": Retry(NoBackoff(), 0),
    }


def _counted(limiter: RateLimiter, limit: RateLimitItem, caller: tuple[str, str]) -> Counted:
    allowed = limiter.hit(limit, *caller)
    reset_at, remaining = limiter.get_window_stats(limit, *caller)
    return Counted(allowed, reset_at, max(0, remaining))
