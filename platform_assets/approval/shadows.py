"""Shadows: versions awaiting approval that score the same rows as the champion.

No response contains a shadow's scores. The ledger records the start, the reports and the stop of a shadow as events of
its approval request. The ledger alone determines whether a shadow runs. A shadow ends when its scheduled end is
reached, its approval request is no longer pending, another shadow of the model is started, or the champion changes.
`serving/shadow_scoring.py` does the scoring.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from platform_assets.approval.ledger import call, recorded_event
from platform_assets.approval.ledger_errors import LedgerError
from platform_assets.approval.ledger_queries import select_request
from platform_assets.approval.refusals import refusal
from platform_assets.approval.requests import UNVERIFIED, State
from platform_assets.base.json_values import as_json
from platform_assets.base.printable_text import escaped

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    import psycopg

    from platform_assets.approval.ledger import Ledger
    from platform_assets.approval.ledger_events import Event
    from platform_assets.approval.requests import Actor, Request

    Connection = psycopg.Connection[Any]

_SHADOWS = """
select distinct on (asked.id)
    asked.id, asked.model, asked.version, asked.digest, asked.threshold, started.sequence, started.actor, started.at,
    least(started.at + (started.details ->> 'days')::integer * interval '1 day', asked.expires_at),
    asked.champion_digest,
    (
        select events.state from platform.approval_events events
        where events.request_id = asked.id order by sequence desc limit 1
    ),
    (
        select stopped.actor from platform.approval_events stopped
        where stopped.request_id = asked.id and stopped.kind = 'stop_shadow' and stopped.sequence > started.sequence
        order by sequence limit 1
    ),
    (
        select other.version from platform.approval_events later
        join platform.approval_requests other on other.id = later.request_id
        where later.kind = 'start_shadow' and later.sequence > started.sequence and other.model = asked.model
            and other.id <> asked.id order by later.sequence limit 1
    ),
    (
        select champion.digest from platform.approval_requests champion
        cross join lateral (
            select state, sequence from platform.approval_events
            where request_id = champion.id order by sequence desc limit 1
        ) latest
        where champion.model = asked.model and latest.state = 'PROMOTED' order by latest.sequence desc limit 1
    ),
    clock_timestamp(), asked.expires_at
from platform.approval_events started join platform.approval_requests asked on asked.id = started.request_id
where started.kind = 'start_shadow' and (%(request)s::bigint is null or asked.id = %(request)s)
order by asked.id desc, started.sequence desc
"""


@dataclass(frozen=True)
class Shadow:
    """The shadow of a request, as it was last started.

    Attributes
    ----------
    request_id, model, version, digest, threshold
        The request and its version.
    started
        Number of the event that started it.
    by, since
        Person who started it, and time of the start.
    until
        Scheduled end of the shadow, or expiry of its request if that is earlier.
    champion_digest
        Digest of the champion; the shadow scores the same rows.
    ended
        Reason why the shadow ended; None while it runs.
    takes_reports
        Whether the ledger accepts a report about the shadow: its request is pending, and the shadow was not stopped.
    """

    request_id: int
    model: str
    version: int
    digest: str
    threshold: float | None
    started: int
    by: str
    since: datetime
    until: datetime
    champion_digest: str
    ended: str | None
    takes_reports: bool

    @property
    def called(self) -> str:
        """Model and version, as the subject of a message."""
        return f"the shadow of {self.model} version {self.version}"


class ShadowLedger:
    """The events of shadows in the ledger.

    Parameters
    ----------
    ledger
        The ledger that contains the events.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def shadows(self) -> list[Shadow]:
        """Return the shadow of each request that ever had one, newest request first."""
        with self._ledger.reading() as connection:
            return select_shadows(connection)

    def shadow(self, request_id: int) -> Shadow | None:
        """Return the shadow of a request; None if none was started."""
        with self._ledger.reading() as connection:
            return next(iter(select_shadows(connection, request_id)), None)

    def running(self, model: str) -> Shadow:
        """Return the running shadow of a model.

        Raises
        ------
        LedgerError
            No shadow of this model is running.
        """
        found = next((one for one in self.shadows() if one.model == model and one.ended is None), None)
        if found is None:
            raise LedgerError(f"no shadow of {model} is running; `platform-assets shadow` lists the shadows")
        return found

    def start(self, model: str, version: int, days: int, actor: Actor) -> Shadow:
        """Start a shadow, or start it again with a new end. It replaces a running shadow of the same model.

        Parameters
        ----------
        model, version
            A version whose request for approval is pending.
        days
            Duration of the shadow, 1 to `LONGEST_DAYS`; see `ledger_events`.
        actor
            The person who starts it.

        Raises
        ------
        DecisionRefused
            The person is unknown.
        LedgerError
            The version has no pending request, the model has no champion, or the days are out of range.
        """
        self._ledger.expire()
        request = self._pending(model, version)
        arguments = [request.id, days, actor.secret or None, actor.name]
        self._record("select platform.start_shadow(%s, %s, %s, %s)", arguments, request)
        found = self.shadow(request.id)
        assert found is not None  # noqa: S101 - it was just started
        return found

    def stop(self, request_id: int, actor: Actor) -> Event:
        """Stop the shadow of a request.

        Raises
        ------
        DecisionRefused, LedgerError
            The person is unknown, or the shadow is not running.
        """
        arguments = [request_id, actor.secret or None, actor.name]
        return self._record("select platform.stop_shadow(%s, %s, %s)", arguments, self._ledger.request(request_id))

    def report(self, request_id: int, report: Mapping[str, Any]) -> Event:
        """Record a report about the shadow of a pending request.

        Raises
        ------
        LedgerError
            The request has no shadow or is no longer pending, or the report is too large.
        """
        from psycopg.types.json import Jsonb

        arguments = [request_id, Jsonb(as_json(dict(report)))]
        return self._record("select platform.report_shadow(%s, %s)", arguments, self._ledger.request(request_id))

    def _pending(self, model: str, version: int) -> Request:
        found = self._ledger.requests(model, [State.PENDING])
        for request in found:
            if request.version == version:
                return request
        others = ", ".join(str(one.version) for one in found)
        told = f"pending versions: {others}" if others else "no version of it is pending"
        raise LedgerError(
            f"{model} version {version} has no pending request for approval ({told}), so it cannot have "
            f"a shadow. Request approval: `platform-assets decide request {model} {version}`"
        )

    def _record(self, statement: str, arguments: list[Any], request: Request) -> Event:
        with self._ledger.writing() as connection:
            outcome = call(connection, statement, arguments)
            event = recorded_event(connection, outcome)
            if event is None:
                raise refusal(outcome, request.called, select_request(connection, request.id))
        self._ledger.keep_heads()
        return event


def select_shadows(connection: Connection, request_id: int | None = None) -> list[Shadow]:
    """Return the shadow of each request, or of one request; newest request first."""
    rows = connection.execute(_SHADOWS.encode(), {"request": request_id}).fetchall()
    return [_shadow(row[:8], _Now(*row[8:])) for row in rows]


@dataclass(frozen=True)
class _Now:
    """The facts that determine the state of a shadow."""

    until: datetime
    champion: str
    state: str
    stopped_by: str | None
    replaced_by: int | None
    current_champion: str | None
    now: datetime
    expires_at: datetime

    @property
    def ended(self) -> str | None:
        by = escaped((self.stopped_by or "").removeprefix(UNVERIFIED))
        ends = {
            f"stopped by {by}": self.stopped_by is not None,
            f"replaced by the shadow of version {self.replaced_by}": self.replaced_by is not None,
            f"its request is {self.state}": self.state != State.PENDING,
            "the champion changed": self.current_champion != self.champion,
            f"it expired at {self.until:%Y-%m-%d %H:%M} UTC": self.now >= self.until,
        }
        return next((told for told, holds in ends.items() if holds), None)


def _shadow(row: Sequence[Any], now: _Now) -> Shadow:
    number, model, version, digest, threshold, started, by, since = row
    return Shadow(
        request_id=number,
        model=model,
        version=version,
        digest=digest,
        threshold=threshold,
        started=started,
        by=escaped(by.removeprefix(UNVERIFIED)),
        since=since,
        until=now.until,
        champion_digest=now.champion,
        ended=now.ended,
        takes_reports=now.state == State.PENDING and now.stopped_by is None and now.now < now.expires_at,
    )


def newest_report(history: Sequence[Event]) -> Event | None:
    """Return the newest report about the shadow of a request; None if there is none."""
    return next((event for event in reversed(history) if event.kind == "report_shadow"), None)
