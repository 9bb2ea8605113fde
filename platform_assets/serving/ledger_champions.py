"""Champions from the ledger, with PostgreSQL notifications of changes."""

from __future__ import annotations

import logging
import select
import time
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from platform_assets.approval.ledger_queries import LedgerQueries
from platform_assets.base.errors import ArtefactError, first_line
from platform_assets.serving.champion_source import BLIND_PACE_SECONDS, Approved, metrics_of

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Mapping

    import psycopg

    from platform_assets.approval.ledger_events import Promotion
    from platform_assets.models.fitted_model import FittedModel

LOG = logging.getLogger(__name__)
CHANNEL = "platform_champions"
"""Channel of the notifications about changed champions; see migration 0003."""
_SLICE_SECONDS = 0.2


class LedgerChampions:
    """Reads the champions from the ledger, over a separate connection that listens for changes.

    Parameters
    ----------
    connect
        Function that opens a connection to the platform's database, in autocommit mode.
    load
        Function that loads a model by the digest of its file.
    """

    def __init__(self, connect: Callable[[], psycopg.Connection[Any]], load: Callable[[str], FittedModel]) -> None:
        self._connect = connect
        self._load = load
        self._connection: psycopg.Connection[Any] | None = None
        self._listens = False
        self._known: dict[str, _Known] = {}

    def champion(self, model: str) -> Approved | None:
        """Return the promoted version; None before the first promotion.

        Raises
        ------
        DatabaseError, LedgerError
            The database does not respond.
        """
        connection = self._open()
        ledger = LedgerQueries(lambda: nullcontext(connection))
        promotion = ledger.champion(model)
        if promotion is None:
            return None
        known = self._known.get(model)
        if known is None or known.promotion != promotion:
            known = self._known[model] = _Known.of(promotion, ledger.request(promotion.request_id).evidence)
        return known.approved

    def load(self, digest: str) -> FittedModel:
        """Load a model by the digest of its file.

        Raises
        ------
        ArtefactError
            The file cannot be loaded or was altered, or the ledger's records about it contradict each other.
        """
        for known in self._known.values():
            if known.approved.digest == digest and known.contradiction:
                raise ArtefactError(known.contradiction)
        return self._load(digest)

    def wait(self, stop: threading.Event, seconds: float) -> None:
        """Wait for a notification, for at most `seconds`; return soon after `stop` is set."""
        connection = self._connection
        if connection is None or connection.closed or not self._listens:
            stop.wait(min(seconds, BLIND_PACE_SECONDS))
            return
        # Use `poll`, because `select` fails for file descriptors above 1,023.
        wire = select.poll()
        wire.register(connection, select.POLLIN)
        end = time.monotonic() + seconds
        while not stop.is_set() and (left := end - time.monotonic()) > 0:
            if wire.poll(1000 * min(left, _SLICE_SECONDS)) and _notified(connection):
                return

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()

    def _open(self) -> psycopg.Connection[Any]:
        import psycopg

        if self._connection is None or self._connection.closed:
            connection = self._connection = self._connect()
            try:
                # Listen before the first query, so that no later change is missed.
                connection.execute(f"listen {CHANNEL}".encode())
                self._listens = True
            except psycopg.Error as error:
                # Poll instead, because some servers do not support LISTEN, for example a standby.
                self._listens = False
                LOG.warning("the database sends no notifications (%s); polling instead", first_line(error))
        return self._connection


@dataclass(frozen=True)
class _Known:
    """Cached champion of a promotion. The cache needs no updates, because the ledger never changes a promotion."""

    promotion: Promotion
    approved: Approved
    contradiction: str | None

    @classmethod
    def of(cls, promotion: Promotion, evidence: Mapping[str, Any]) -> _Known:
        approved = Approved(
            model=promotion.model,
            version=promotion.version,
            digest=promotion.digest,
            threshold=promotion.threshold,
            approval_id=promotion.request_id,
            metrics=metrics_of(evidence),
            demo=evidence.get("demo") is True,
        )
        seen = {
            "threshold": (evidence.get("threshold"), promotion.threshold),
            "digest": (promotion.event.details.get("digest"), promotion.digest),
            "version": (promotion.event.details.get("version"), promotion.version),
        }
        wrong = [f"{name} {then}, now {now}" for name, (then, now) in seen.items() if then not in (None, now)]
        contradiction = (
            f"the ledger was altered after request {promotion.request_id} was promoted ({'; '.join(wrong)}); "
            "`platform-assets audit` shows what was altered"
        )
        return cls(promotion, approved, contradiction if wrong else None)


def _notified(connection: psycopg.Connection[Any]) -> bool:
    import psycopg

    try:
        return bool(list(connection.notifies(timeout=0)))
    except psycopg.Error:
        # The connection is broken; close it, so that the next look-up opens a new connection.
        connection.close()
        return True
