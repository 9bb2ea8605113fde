"""How much one caller may ask: so many requests per key, and so many attempts with a wrong one per address.

Counted in this process alone: several processes behind one address each allow the full rate.
"""

from __future__ import annotations

import math
import time
from http import HTTPStatus
from typing import TYPE_CHECKING

from limits import RateLimitItem, parse
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter

from platform_assets.serving.problems import Problem
from platform_assets.settings import NO_LIMIT

if TYPE_CHECKING:
    from collections.abc import Mapping

WRONG_KEYS = parse("20/minute")
"""Attempts with a key that is none, by address."""
_KEY, _ADDRESS, _GUESS = "key", "address", "guess"


class RateLimits:
    """Counts requests and wrong keys, in windows that move with the clock.

    Parameters
    ----------
    limit
        Requests of one key, or of one address without a key, as in `600/minute`; or `off`.
    """

    def __init__(self, limit: str) -> None:
        self._limit = None if limit == NO_LIMIT else parse(limit)
        self._windows = MovingWindowRateLimiter(MemoryStorage())

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
        if self._limit is None:
            return {}
        caller = (_ADDRESS, address) if key is None else (_KEY, key)
        allowed = self._windows.hit(self._limit, *caller)
        headers = self._headers(self._limit, caller)
        if not allowed:
            raise _too_many(f"{self._limit} are answered for one key, or one address without a key", headers)
        return headers

    def refuse_guesses(self, address: str) -> None:
        """Refuse to look at further keys from an address that sent too many wrong ones.

        Raises
        ------
        Problem
            429.
        """
        if not self._windows.test(WRONG_KEYS, _GUESS, address):
            told = f"{WRONG_KEYS} may come with a key that is not known"
            raise _too_many(told, self._headers(WRONG_KEYS, (_GUESS, address)))

    def count_guess(self, address: str) -> None:
        """Count an attempt with a wrong key."""
        self._windows.hit(WRONG_KEYS, _GUESS, address)

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
