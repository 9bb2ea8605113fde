"""The hash chains over requests, events and the journal: which texts are hashed, and how.

The database computes the hashes when it adds a row (migrations 0002 and 0004). This module computes them independently.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import psycopg

    Connection = psycopg.Connection[Any]

CHAINS = {"events": "approval_events", "journal": "approval_journal"}
"""Tables of the chains."""
FIRST_HASH = "0" * 64
"""Previous hash of the first row of a chain."""
_FROZEN_MOMENT = """to_char({} at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US')"""
FROZEN_REQUESTS = f"""
select id::text, model, version::text, digest, threshold::text, launched_by, requested_by,
    {_FROZEN_MOMENT.format("created_at")} as created_at, {_FROZEN_MOMENT.format("expires_at")} as expires_at,
    policy::text, evidence::text, plots::text, champion_version::text, champion_digest
from platform.approval_requests frozen where %(request)s::bigint is null or frozen.id = %(request)s order by frozen.id
"""  # noqa: S608 - nothing of it comes from outside
FROZEN_EVENTS = f"""
select sequence::text, request_id::text, state, kind, actor, authenticated::text, reason, override::text, delivery,
    details::text, {_FROZEN_MOMENT.format("at")} as at, request_digest, previous_hash, hash
from platform.approval_events frozen
where %(request)s::bigint is null or frozen.request_id = %(request)s order by frozen.sequence
"""  # noqa: S608 - nothing of it comes from outside
FROZEN_JOURNAL = f"""
select sequence::text, kind, subject, details::text, role, {_FROZEN_MOMENT.format("at")} as at, previous_hash, hash
from platform.approval_journal order by approval_journal.sequence
"""  # noqa: S608 - nothing of it comes from outside
_REQUEST_NAMES = (
    *("id", "model", "version", "digest", "threshold", "launched_by", "requested_by", "created_at", "expires_at"),
    *("policy", "evidence", "plots", "champion_version", "champion_digest"),
)
_EVENT_NAMES = (
    *("sequence", "request_id", "state", "kind", "actor", "authenticated", "reason", "override", "delivery"),
    *("details", "at", "request_digest", "previous_hash", "hash"),
)


@dataclass(frozen=True)
class Frozen:
    """A request and its events as the texts that are hashed.

    Attributes
    ----------
    request
        Column to text.
    events
        Oldest first, each column to text.
    """

    request: Mapping[str, str | None]
    events: tuple[Mapping[str, str | None], ...]

    @property
    def intact(self) -> bool:
        """Whether every event has the hash of its texts and the digest of the request's texts."""
        # The hashes cover the texts in their order, not the column names.
        if tuple(self.request) != _REQUEST_NAMES or any(tuple(event) != _EVENT_NAMES for event in self.events):
            return False
        request = digest_of(self.request.values())
        return bool(self.events) and all(
            event["request_digest"] == request and event["hash"] == digest_of([*event.values()][:-1])
            for event in self.events
        )


def read_frozen(connection: Connection, number: int) -> Frozen:
    """Return an existing request and its events."""
    from psycopg.rows import dict_row

    with connection.cursor(row_factory=dict_row) as cursor:
        wanted = {"request": number}
        [request] = cursor.execute(FROZEN_REQUESTS, wanted).fetchall()
        return Frozen(request, tuple(cursor.execute(FROZEN_EVENTS, wanted).fetchall()))


def digest_of(fields: Iterable[str | None]) -> str:
    """Return the digest of a row, as `platform.digest_of`: each field with its length, so that no two rows collide."""
    written = ("-" if one is None else f"{len(one.encode())}:{one}" for one in fields)
    return hashlib.sha256(",".join(written).encode()).hexdigest()
