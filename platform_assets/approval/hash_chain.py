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
"""Table of each chain."""
FIRST_HASH = "0" * 64
"""Value of `previous_hash` in the first row of a chain."""
_FROZEN_MOMENT = """to_char({} at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US')"""
FROZEN_REQUESTS = f"""
select id::text, model, version::text, digest, threshold::text, launched_by, requested_by,
    {_FROZEN_MOMENT.format("created_at")} as created_at, {_FROZEN_MOMENT.format("expires_at")} as expires_at,
    policy::text, evidence::text, plots::text, champion_version::text, champion_digest
from platform.approval_requests frozen where %(request)s::bigint is null or frozen.id = %(request)s order by frozen.id
"""  # noqa: S608 - constants
FROZEN_EVENTS = f"""
select sequence::text, request_id::text, state, kind, actor, authenticated::text, reason, override::text, delivery,
    details::text, {_FROZEN_MOMENT.format("at")} as at, request_digest, previous_hash, hash
from platform.approval_events frozen
where %(request)s::bigint is null or frozen.request_id = %(request)s order by frozen.sequence
"""  # noqa: S608 - constants
FROZEN_JOURNAL = f"""
select sequence::text, kind, subject, details::text, role, {_FROZEN_MOMENT.format("at")} as at, previous_hash, hash
from platform.approval_journal order by approval_journal.sequence
"""  # noqa: S608 - constants
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
    """A request and its events, as the texts that are hashed.

    Attributes
    ----------
    request
        Text of each column.
    events
        Text of each column of each event, oldest first.
    """

    request: Mapping[str, str | None]
    events: tuple[Mapping[str, str | None], ...]

    @property
    def intact(self) -> bool:
        """Whether the hash and the request digest in each event are correct."""
        # Compare the column names too, because the hashes cover only the values.
        if tuple(self.request) != _REQUEST_NAMES or any(tuple(event) != _EVENT_NAMES for event in self.events):
            return False
        request = digest_of(self.request.values())
        return bool(self.events) and all(
            event["request_digest"] == request and event["hash"] == digest_of([*event.values()][:-1])
            for event in self.events
        )


def read_frozen(connection: Connection, number: int) -> Frozen:
    """Return a request, which must exist, and its events."""
    from psycopg.rows import dict_row

    with connection.cursor(row_factory=dict_row) as cursor:
        wanted = {"request": number}
        [request] = cursor.execute(FROZEN_REQUESTS, wanted).fetchall()
        return Frozen(request, tuple(cursor.execute(FROZEN_EVENTS, wanted).fetchall()))


def digest_of(fields: Iterable[str | None]) -> str:
    """Return the digest of a row, equal to that of the SQL function `platform.digest_of`.

    Each field is preceded by its length, so that two different rows never give the same text.
    """
    written = ("-" if one is None else f"{len(one.encode())}:{one}" for one in fields)
    return hashlib.sha256(",".join(written).encode()).hexdigest()
