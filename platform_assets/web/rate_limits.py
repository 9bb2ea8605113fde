"""How much one caller may ask: so many requests per key, and so many attempts with a wrong one per address.

Counted in this process alone: several processes behind one address each allow the full rate.
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
"""Beginnings of the paths that are not counted, and for everybody."""
WRONG_KEYS = 20
"""Attempts a minute with a key that is none, by address."""
_KEY, _ADDRESS, _GUESS = "key", "address", "guess"


class RateLimits:
    """Counts requests and wrong keys, in windows that move with the clock.

    Parameters
    ----------
    limit
        Requests of one key, or of one address without a key, as in `600/minute`; or `off`.
    """

    def __init__(self, limit: str) -> None:
        self._text = limit

    @property
    def _windows(self) -> RateLimiter:
        # Made with the first request: the library takes a tenth of the second in which a service should be there.
        made: RateLimiter | None = vars(self).get("_made")
        if made is None:
            from limits.storage import MemoryStorage
            from limits.strategies import MovingWindowRateLimiter

            # One for all threads, whichever comes first.
            made = vars(self).setdefault("_made", MovingWindowRateLimiter(MemoryStorage()))
        return made

    @cached_property
    def _limits(self) -> tuple[RateLimitItem | None, RateLimitItem]:
        from limits import RateLimitItemPerMinute, parse

        return None if self._text == NO_LIMIT else parse(self._text), RateLimitItemPerMinute(WRONG_KEYS)

    def count(self, address: str, key: str | None) -> Mapping[str, str]:
        """Count a request; what the answer's headers say of the limit.

        Parameters
        ----------
        address
            Where it comes from.
        key
            The `Key.id` of who sent it; None for nobody that is known.

        Raises
        ------
        Problem
            429: there were too many.
        """
        limit = self._limits[0]
        if limit is None:
            return {}
        caller = (_ADDRESS, address) if key is None else (_KEY, key)
        allowed = self._windows.hit(limit, *caller)
        headers = self._headers(limit, caller)
        if not allowed:
            raise _too_many(f"{limit} are answered for one key, or one address without a key", headers)
        return headers

    def count_guess(self, address: str) -> None:
        """Count an attempt with a wrong key.

        Raises
        ------
        Problem
            429: there were too many from there.
        """
        limit = self._limits[1]
        if not self._windows.hit(limit, _GUESS, address):
            told = f"{limit} may come with a key that is not known"
            raise _too_many(told, self._headers(limit, (_GUESS, address)))

    def _headers(self, limit: RateLimitItem, caller: tuple[str, str]) -> dict[str, str]:
        """As in draft-ietf-httpapi-ratelimit-headers-10."""
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
        f"Too many requests: {told}. Ask again in {seconds} s.",
        "too-many-requests",
        headers={**headers, "Retry-After": seconds},
    )
