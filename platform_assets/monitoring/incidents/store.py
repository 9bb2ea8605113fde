"""Store of incidents in the table `platform.incidents`.

A cause has at most one open incident. An incident is closed when its problem ends, or when a person closes it. It is
reopened if the problem returns soon. The messages about a change of an incident are stored in the same transaction as
the change. `delivery.py` sends the messages.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from platform_assets.base.errors import NotFound, PlatformError
from platform_assets.base.logs import redact
from platform_assets.base.printable_text import escaped, is_visible
from platform_assets.database.transactions import transaction
from platform_assets.monitoring.incidents.incident import Incident
from platform_assets.monitoring.incidents.kinds import kind_of
from platform_assets.monitoring.incidents.messages import cancel_unsent, hold, queue_closed, queue_opened, write

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager

    import psycopg

    from platform_assets.monitoring.incidents.incident import Severity
    from platform_assets.monitoring.incidents.routes import Routes

    Connection = psycopg.Connection[Any]

_LOG = logging.getLogger(__name__)
_LONGEST_TITLE = 1000
_NO_SILENCE = {"silenced_until": None, "silenced_by": "", "silence_reason": ""}
_NEWEST = "select * from platform.incidents where cause = %s order by id desc limit 1"
_NUMBERED = "select * from platform.incidents where id = %s for update"
_ALL = "select * from platform.incidents where closed_at is null or %s order by closed_at is not null, id desc"
_INSERT = """
insert into platform.incidents (
    cause, title, severity, owners, link, occurrence, silenced_until, silenced_by, silence_reason
) values (
    %(cause)s, %(title)s, %(severity)s, %(owners)s, %(link)s, %(occurrence)s, %(silenced_until)s, %(silenced_by)s,
    %(silence_reason)s
) returning *
"""
_REOPEN = """
update platform.incidents set title = %(title)s, severity = %(severity)s, owners = %(owners)s, link = %(link)s,
    occurrence = %(occurrence)s, opening = opening + 1, seen = seen + 1, opened_at = now(), seen_at = now(),
    escalated_at = null, closed_at = null, closed_by = '', recovered_at = null
where id = %(id)s returning *
"""
_ESCALATE = """
update platform.incidents set escalated_at = now() where severity = 'error' and closed_at is null
    and escalated_at is null and opened_at <= now() - %s and coalesce(silenced_until <= now(), true)
returning *
"""
_UNRECOVERED = """
select cause from (
    select distinct on (cause) cause, recovered_at from platform.incidents order by cause, id desc
) newest where recovered_at is null
"""
_BEAT = """
insert into platform.watch_heartbeats as beats (name) values (%(name)s) on conflict (name) do update
    set at = now(), since = case when beats.at < now() - %(gap)s::interval then now() else beats.since end
returning since
"""
_UNSENT = """
select incident, count(*) from platform.incident_messages where sent_at is null and attempts > 0 group by incident
"""


@dataclass(frozen=True)
class Windows:
    """Time limits for reopening and escalating incidents.

    Attributes
    ----------
    reopen
        If a problem returns within this time, its last incident is reopened, and no new incident is opened.
    escalate
        Time after which an open incident of severity `error` is escalated.
    """

    reopen: timedelta = timedelta(hours=1)
    escalate: timedelta = timedelta(hours=24)


class Incidents:
    """Store of incidents.

    Parameters
    ----------
    connect
        Function that returns a context manager with a connection to the platform's database.
    routes
        Destinations of the messages.
    windows
        Time limits for reopening and escalating incidents.
    secrets
        Strings to mask in the titles of incidents.
    """

    def __init__(
        self,
        connect: Callable[[], AbstractContextManager[Connection]],
        routes: Routes,
        windows: Windows | None = None,
        secrets: Sequence[str] = (),
    ) -> None:
        self._connect = connect
        self._routes = routes
        self._windows = windows or Windows()
        self._secrets = secrets

    def open_incident(
        self,
        cause: str,
        title: str,
        severity: Severity = "error",
        owners: Sequence[str] = (),
        link: str = "",
        occurrence: str = "",
    ) -> None:
        """Report a problem, and open an incident if the cause has no open incident.

        Parameters
        ----------
        cause
            Kind and subject, as `kinds.cause` returns it.
        title
            The problem in one sentence. Secrets are masked.
        severity
            Only incidents of severity `error` are escalated.
        owners
            Owners of the affected asset, as declared in Dagster. Without owners, the default route is used.
        link
            URL of the run or page, or its path in Dagster's UI.
        occurrence
            Id of the event that is the problem, for example of a failed run; empty if the problem is a state. An event
            opens at most one incident, even if a person closes this incident. If a person closes the incident of a
            state, the state must end and return before it opens an incident again.

        Raises
        ------
        ValueError
            The kind is unknown.
        DatabaseError
            The database does not answer; nothing was stored.
        """
        kind_of(cause)
        title = escaped(redact(title, self._secrets))[:_LONGEST_TITLE]
        values = {
            "cause": cause,
            "title": title,
            "severity": severity,
            "owners": list(owners),
            "link": link,
            "occurrence": occurrence,
        }
        with self.transaction() as connection:
            last = _last_of(connection, cause)
            if last is None or not self._is_same_problem(last, occurrence):
                opened = self._open(connection, last, values)
            else:
                opened = None
                _touch(connection, last, values)
        if opened:
            _LOG.error(
                "%s",
                title,
                extra={"event": opened.kind, "subject": opened.subject, "incident": opened.id, "link": link},
            )

    def recover(self, cause: str, *, quiet_for: timedelta = timedelta(0)) -> bool:
        """Report that a problem has ended, and close its incident. Return whether an incident was closed.

        Parameters
        ----------
        cause
            See `open_incident`.
        quiet_for
            Close the incident only if no process has reported the problem for this time. Set this if several processes
            can report the same problem.

        Raises
        ------
        DatabaseError
            The database does not answer.
        """
        with self.transaction() as connection:
            last = _last_of(connection, cause)
            if last is None or (datetime.now(UTC) - last.seen_at < quiet_for and last.closed_at is None):
                return False
            if last.closed_at is None:
                self._close(connection, last, "")
            connection.execute(
                "update platform.incidents set recovered_at = now() where id = %s and recovered_at is null", [last.id]
            )
        return last.closed_at is None

    def list(self, *, everything: bool = False) -> list[Incident]:
        """Return the open incidents, newest first. With `everything`, the closed incidents follow, newest first.

        Raises
        ------
        DatabaseError
            The database does not answer.
        """
        with self.transaction() as connection:
            return _selected(connection, _ALL, [everything])

    def unrecovered(self) -> set[str]:
        """Return the causes whose newest incident has not been marked as recovered by `recover`."""
        with self.transaction() as connection:
            return {row[0] for row in connection.execute(_UNRECOVERED.encode()).fetchall()}

    def beat(self, name: str, longest_gap: timedelta) -> datetime:
        """Store a heartbeat. Return the time of the first heartbeat after the latest gap longer than `longest_gap`."""
        with self.transaction() as connection:
            [row] = connection.execute(_BEAT.encode(), {"name": name, "gap": longest_gap}).fetchall()
        since: datetime = row[0]
        return since

    def last_beat(self, name: str) -> datetime | None:
        """Return the time of the newest heartbeat; None if there is no heartbeat."""
        with self.transaction() as connection:
            row = connection.execute("select at from platform.watch_heartbeats where name = %s", [name]).fetchone()
        return row[0] if row else None

    def numbered(self, number: int) -> Incident:
        """Return an incident.

        Raises
        ------
        NotFound
            There is no incident with this number.
        DatabaseError
            The database does not answer.
        """
        with self.transaction() as connection:
            return _numbered(connection, number)

    def unsent(self) -> dict[int, int]:
        """Return the number of messages that could not be sent yet, by incident."""
        with self.transaction() as connection:
            return dict(connection.execute(_UNSENT.encode()).fetchall())

    def silence(self, number: int, until: datetime, person: str, reason: str) -> Incident:
        """Send no messages about an incident until `until`, even if it is reopened. Return the incident.

        If the incident is already silenced, the new time replaces the old one.

        Raises
        ------
        NotFound
            There is no incident with this number.
        PlatformError
            The reason is empty.
        DatabaseError
            The database does not answer.
        """
        if not is_visible(reason):
            raise PlatformError("a silence needs a reason, which is shown to other users; give it with --reason")
        with self.transaction() as connection:
            incident = _numbered(connection, number)
            connection.execute(
                "update platform.incidents set silenced_until = %s, silenced_by = %s, silence_reason = %s"
                " where id = %s",
                [until, escaped(person), escaped(reason), number],
            )
            hold(connection, incident.id, until, incident.silenced_until)
            return _numbered(connection, number)

    def close(self, number: int, person: str) -> Incident:
        """Close an incident at a person's request; return the incident.

        Raises
        ------
        NotFound
            There is no incident with this number.
        DatabaseError
            The database does not answer.
        """
        with self.transaction() as connection:
            incident = _numbered(connection, number)
            if incident.closed_at is None:
                self._close(connection, incident, escaped(person))
            return _numbered(connection, number)

    def escalate(self) -> int:
        """Escalate each incident of severity `error` that has been open for too long; return their number."""
        with self.transaction() as connection:
            overdue = _selected(connection, _ESCALATE, [self._windows.escalate])
            for incident in overdue:
                destinations = [*self._routes.of(incident.owners), *self._routes.escalation()]
                write(connection, incident.id, "escalated", incident.opening, destinations)
        return len(overdue)

    def _is_same_problem(self, last: Incident, occurrence: str) -> bool:
        if last.closed_at is None or (occurrence and last.occurrence == occurrence):
            return True
        return not occurrence and last.recovered_at is None

    def _open(self, connection: Connection, last: Incident | None, values: dict[str, Any]) -> Incident:
        """Reopen the last incident of the cause or open a new incident, and store the messages."""
        if last and datetime.now(UTC) - (last.closed_at or last.seen_at) <= self._windows.reopen:
            [incident] = _selected(connection, _REOPEN, values | {"id": last.id})
        else:
            silence = {name: getattr(last, name, default) for name, default in _NO_SILENCE.items()}
            [incident] = _selected(connection, _INSERT, values | silence)
        queue_opened(connection, incident.id, incident.opening, self._routes.of(incident.owners))
        if incident.is_silenced(datetime.now(UTC)) and incident.silenced_until:
            hold(connection, incident.id, incident.silenced_until)
        return incident

    def _close(self, connection: Connection, incident: Incident, person: str) -> None:
        connection.execute(
            "update platform.incidents set closed_at = now(), closed_by = %s where id = %s", [person, incident.id]
        )
        cancel_unsent(connection, incident.id)
        # If a reopened incident closes because its problem has ended, delay the message. Without the delay, an
        # intermittent problem would cause two messages each time.
        wait = timedelta(0) if incident.opening == 1 or person else self._windows.reopen
        queue_closed(connection, incident.id, incident.opening, wait)
        if incident.is_silenced(datetime.now(UTC)) and incident.silenced_until:
            hold(connection, incident.id, incident.silenced_until)

    def transaction(self) -> AbstractContextManager[Connection]:
        """Return a context manager that yields a connection in a transaction.

        Raises
        ------
        DatabaseError
            The database does not answer.
        """
        return transaction(self._connect, "the incidents")


def _last_of(connection: Connection, cause: str) -> Incident | None:
    """Return the newest incident of a cause, locked until the transaction ends."""
    connection.execute("select pg_advisory_xact_lock(hashtextextended(%s, 0))", [f"incident {cause}"])
    return next(iter(_selected(connection, _NEWEST, [cause])), None)


def _touch(connection: Connection, last: Incident, values: dict[str, Any]) -> None:
    """Record another report of an open incident. `seen` increases only if the occurrence is new."""
    if last.closed_at is not None:
        return
    is_new = bool(values["occurrence"]) and values["occurrence"] != last.occurrence
    connection.execute(
        "update platform.incidents set seen_at = now(), seen = seen + %s, title = %s, link = %s, occurrence = %s"
        " where id = %s",
        [int(is_new), values["title"], values["link"], values["occurrence"], last.id],
    )


def _numbered(connection: Connection, number: int) -> Incident:
    found = _selected(connection, _NUMBERED, [number])
    if not found:
        raise NotFound(f"there is no incident {number}; `platform-assets alerts list --all` lists all incidents")
    return found[0]


def _selected(connection: Connection, statement: str, values: Any) -> list[Incident]:
    from psycopg.rows import class_row

    with connection.cursor(row_factory=class_row(Incident)) as cursor:
        return cursor.execute(statement.encode(), values).fetchall()
