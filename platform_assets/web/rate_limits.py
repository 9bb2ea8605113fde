"""Rate limits: requests per key or address, and failed key attempts per address.

They are counted in this process alone; several processes behind one address each allow the full rate.
"""

from __future__ import annotations

import math
import time
from functools import cached_property
from http import HTTPStatus
from typing import TYPE_CHECKING

from platform_assets.settings import NO_LIMIT
from platform_assets.web.problems import Problem

if TYPE_CHECKING:
    from collections.abc import Mapping

    from limits import RateLimitItem
    from limits.strategies import RateLimiter

UNLIMITED_PATHS = ("/health/", "/static/")
"""Prefixes of public paths without a limit."""
WRONG_KEYS = 20
"""Failed key attempts allowed per minute and client address."""
_KEY, _ADDRESS, _GUESS = "key", "address", "guess"


class RateLimits:
    """Counts requests and failed key attempts in moving windows.

    Parameters
    ----------
    limit
        Requests per key, or per address without a key, such as `600/minute`; or `off`.
    """

    def __init__(self, limit: str) -> None:
        self._text = limit

    @property
    def _windows(self) -> RateLimiter:
        # Imported at the first request, because the import takes a tenth of a second of the start.
        made: RateLimiter | None = vars(self).get("_made")
        if made is None:
            from limits.storage import MemoryStorage
            from limits.strategies import MovingWindowRateLimiter

            # `setdefault`, so that all threads share one.
            made = vars(self).setdefault("_made", MovingWindowRateLimiter(MemoryStorage()))
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
        allowed = self._windows.hit(limit, *caller)
        headers = self._headers(limit, caller)
        if not allowed:
            raise _too_many(f"the limit is {limit} for one key, or for one address without a key", headers)
        return headers

    def count_guess(self, address: str) -> None:
        """Count a failed key attempt.

        Raises
        ------
        Problem
            429: the limit of this address is reached.
        """
        limit = self._limits[1]
        if not self._windows.hit(limit, _GUESS, address):
            told = f"the limit is {limit} with an unknown key"
            raise _too_many(told, self._headers(limit, (_GUESS, address)))

    def _headers(self, limit: RateLimitItem, caller: tuple[str, str]) -> dict[str, str]:
        """Return the headers of draft-ietf-httpapi-ratelimit-headers-10."""
        reset, remaining = self._windows.get_window_stats(limit, *caller)
        seconds = max(1, math.ceil(reset - time.time()))
        return {
            "RateLimit-Policy": f'"{caller[0]}";q={limit.amount};w={limit.get_expiry()}',
            "RateLimit": f'"{caller[0]}";r={max(0, remaining)};t={seconds}',
        }


def _too_many(told: str, headers: Mapping[str, str]) -> Problem:
    seconds = headers["RateLimit"].rpartition("=")[2]
    return Problem(
        HTTPStatus.TOO_MANY_REQUESTS,
        f"Too many requests: {told}. Try again in {seconds} s.",
        "too-many-requests",
        headers={**headers, "Retry-After": seconds},
    )
