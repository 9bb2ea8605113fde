"""Rate limits: requests per key or address, and failed key attempts per address.

If the service counts in Redis, all its processes share the limits. Otherwise each process counts its own requests and
allows the full rate, so a service with several processes allows more. The response headers then state that the limits
are per process.
"""

from __future__ import annotations

import math
import time
from functools import cached_property
from http import HTTPStatus
from typing import TYPE_CHECKING, Literal

from platform_assets.settings import NO_LIMIT
from platform_assets.web.limit_windows import LocalWindows, RedisWindows, demand_redis
from platform_assets.web.problems import Problem

if TYPE_CHECKING:
    from collections.abc import Mapping

    from limits import RateLimitItem

    from platform_assets.web.limit_windows import Counted

Scope = Literal["shared", "per_process", "off"]
UNLIMITED_PATHS = ("/health/", "/static/")
"""Prefixes of public paths without a limit."""
WRONG_KEYS = 20
"""Failed key attempts allowed per minute and client address."""
LIMIT_HEADERS = "limit_headers"
"""Key in a request's state for the rate-limit headers of the response, as bytes."""
LIMIT_NAMES = (b"ratelimit-policy", b"ratelimit")
PER_PROCESS = "-per-process"
"""Suffix of a quota's name in the headers if several processes each count their own requests."""
_KEY, _ADDRESS, _GUESS = "key", "address", "guess"


class RateLimits:
    """Counts requests and failed key attempts in moving windows.

    Parameters
    ----------
    limit
        Requests per key, or per address for requests without a valid key, such as `600/minute`; or `off`.
    redis
        URL of the Redis server in which requests are counted; empty to count them in this process.
    is_alone
        Whether this process is the only one of its service.

    Raises
    ------
    PlatformError
        The library for Redis is missing.
    """

    def __init__(self, limit: str, redis: str = "", *, is_alone: bool = True) -> None:
        if redis:
            demand_redis()
        self._text = limit
        self._redis = redis
        self._is_alone = is_alone

    @property
    def waits(self) -> bool:
        """Whether counting waits for another server, and so must not run on the event loop."""
        return bool(self._redis)

    @property
    def scope(self) -> Scope:
        """How requests are counted now: for all processes together, by each process, or not at all."""
        if self._limits[0] is None:
            return "off"
        return "shared" if self._windows.is_shared else "per_process"

    @property
    def _windows(self) -> LocalWindows | RedisWindows:
        # Import at the first request, because the import would delay the start by a tenth of a second.
        made: LocalWindows | RedisWindows | None = vars(self).get("_made")
        if made is None:
            # Use `setdefault`, so that all threads share the same windows.
            made = vars(self).setdefault("_made", RedisWindows(self._redis) if self._redis else LocalWindows())
        return made

    @cached_property
    def _limits(self) -> tuple[RateLimitItem | None, RateLimitItem]:
        from limits import RateLimitItemPerMinute, parse

        return None if self._text == NO_LIMIT else parse(self._text), RateLimitItemPerMinute(WRONG_KEYS)

    def count(self, address: str, key: str | None) -> Mapping[str, str]:
        """Count a request; return the rate limit headers of its response.

        Parameters
        ----------
        address
            Client address.
        key
            `Key.id` of the caller; None without a valid key.

        Raises
        ------
        Problem
            429: the limit is reached.
        """
        limit = self._limits[0]
        if limit is None:
            return {}
        caller = (_ADDRESS, address) if key is None else (_KEY, key)
        counted = self._windows.count(limit, caller)
        headers = self._headers(limit, caller[0], counted)
        if not counted.allowed:
            raise _too_many(f"the limit is {_named(limit)} per key, or per address for requests without a key", headers)
        return headers

    def count_guess(self, address: str) -> None:
        """Count a failed key attempt.

        Raises
        ------
        Problem
            429: the limit of this address is reached.
        """
        limit = self._limits[1]
        counted = self._windows.count(limit, (_GUESS, address))
        if not counted.allowed:
            told = f"the limit is {_named(limit)} for attempts with an unknown key"
            raise _too_many(told, self._headers(limit, _GUESS, counted))

    def _headers(self, limit: RateLimitItem, quota: str, counted: Counted) -> dict[str, str]:
        """Return the headers of draft-ietf-httpapi-ratelimit-headers-10."""
        seconds = max(1, math.ceil(counted.reset_at - time.time()))
        # The counts cover the whole service if they are in Redis, or if the service has one process and no Redis.
        is_whole = self._windows.is_shared or (self._is_alone and not self._redis)
        name = quota if is_whole else f"{quota}{PER_PROCESS}"
        return {
            "RateLimit-Policy": f'"{name}";q={limit.amount};w={limit.get_expiry()}',
            "RateLimit": f'"{name}";r={counted.remaining};t={seconds}',
        }


def _named(limit: RateLimitItem) -> str:
    """Return a limit for messages, such as `600 per minute`."""
    return str(limit).replace(" per 1 ", " per ")


def _too_many(told: str, headers: Mapping[str, str]) -> Problem:
    seconds = headers["RateLimit"].rpartition("=")[2]
    return Problem(
        HTTPStatus.TOO_MANY_REQUESTS,
        f"Too many requests: {told}. Try again in {seconds} s.",
        "too-many-requests",
        headers={**headers, "Retry-After": seconds},
    )
