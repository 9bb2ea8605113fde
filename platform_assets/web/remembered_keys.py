"""Keys that were valid a while ago, for routes that must be readable while the database is away."""

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
"""How long a key is remembered after its last use with the database."""
MOST_KEYS = 100
"""Most keys that are remembered."""
_NEVER = float("inf")


class RememberedKeys:
    """Admits callers as `Access.admit` does, and those of the last hour while the database is away.

    A key that is revoked is forgotten at its next use, so only a key that was revoked within the hour, and not used
    since, is still admitted during an outage. Use it only for routes that hold no personal data.
    """

    def __init__(self) -> None:
        self._used: dict[bytes, float] = {}
        self._lock = threading.Lock()

    def admit(self, request: Request, scope: str) -> None:
        """Let a request pass, or raise.

        Parameters
        ----------
        request
            The request, whose header was read by the middleware.
        scope
            Scope that the key needs.

        Raises
        ------
        Problem
            401 or 403, as `Access.admit`.
        DatabaseError
            The database is away and the key was not used recently.
        """
        header = request.headers.get("authorization")
        if not header:
            # A session, or no key at all.
            access_of(request).admit(request, scope)
            return
        # Hashed, so that the memory holds no secret.
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
