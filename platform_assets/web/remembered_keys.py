"""Cache of recently used keys, for routes that must keep working while the database is unavailable."""

from __future__ import annotations

import hashlib
import threading
import time
from typing import TYPE_CHECKING

from platform_assets.base.errors import DatabaseError
from platform_assets.web.authentication import access_of
from platform_assets.web.problems import Problem

if TYPE_CHECKING:
    from fastapi import Request

SECONDS = 3_600.0
"""Time for which a key is remembered after the database last confirmed it."""
MOST_KEYS = 100
"""Maximum number of remembered keys."""
_NEVER = float("inf")


class RememberedKeys:
    """Admits callers like `Access.admit`. During an outage of the database, admits the keys used in the last hour.

    A revoked key is forgotten at the first request that is refused. A key that was revoked before the outage and not
    used since then is therefore admitted. Use this class only for routes without personal data.
    """

    def __init__(self) -> None:
        self._used: dict[bytes, float] = {}
        self._lock = threading.Lock()

    def admit(self, request: Request, scope: str) -> None:
        """Admit a request or raise an exception.

        Parameters
        ----------
        request
            The request, which the middleware has authenticated.
        scope
            Scope that the key needs.

        Raises
        ------
        Problem
            401 or 403, as for `Access.admit`.
        DatabaseError
            The database is unavailable, and the key was not used recently.
        """
        header = request.headers.get("authorization")
        if not header:
            # The caller has a session or no key, so there is no key to remember.
            access_of(request).admit(request, scope)
            return
        # Hash the key, so that no secret is kept in memory.
        name = hashlib.sha256(header.encode()).digest()
        try:
            access_of(request).admit(request, scope)
        except DatabaseError:
            if time.monotonic() - self._used.get(name, -_NEVER) > SECONDS:
                raise
        except Problem:
            self._used.pop(name, None)
            raise
        else:
            self._remember(name)

    def _remember(self, name: bytes) -> None:
        with self._lock:
            self._used.pop(name, None)
            self._used[name] = time.monotonic()
            if len(self._used) > MOST_KEYS:
                del self._used[next(iter(self._used))]
