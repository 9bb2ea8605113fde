"""Messages about incidents, which are stored in the table `platform.incident_messages`.

A message is stored in the transaction that opens or closes its incident. If the process is killed before it has sent
the message, the message is therefore not lost. `delivery.py` sends the messages.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable

    import psycopg

    from platform_assets.monitoring.incidents.routes import Destination

    Connection = psycopg.Connection[Any]

Event = Literal["opened", "reopened", "escalated", "closed"]
LEASE = timedelta(minutes=2)
"""Time for which a message is reserved for one attempt.

If the process is killed, another process sends the message after this time.
"""
_LONGEST_PAUSE = timedelta(hours=1)
_MOST_ATTEMPTS = 100
"""Maximum number of attempts. With pauses of up to an hour, the attempts extend over four days."""
# `not exists` keeps the order: a message is sent only after the incident's earlier messages to the same receiver.
_CLAIM = """
update platform.incident_messages set attempts = attempts + 1, due_at = now() + %(lease)s where id = (
    select id from platform.incident_messages message
    where sent_at is null and due_at <= now() and attempts < %(most)s and not exists (
        select from platform.incident_messages earlier where earlier.incident = message.incident
            and earlier.destination = message.destination and earlier.id < message.id
            and earlier.sent_at is null and earlier.attempts < %(most)s
    )
    order by due_at, id limit 1 for update skip locked
) returning id, incident, event, opening, destination, attempts
"""


@dataclass(frozen=True)
class Message:
    """A message that is reserved for this process. The attributes are columns of `platform.incident_messages`."""

    id: int
    incident: int
    event: Event
    opening: int
    destination: str
    attempts: int

    @property
    def key(self) -> str:
        """Identifier of the message. It is the same for every attempt, so that receivers can recognise duplicates."""
        return f"incident-{self.incident}-{self.event}-{self.opening}"


def write(
    connection: Connection,
    incident: int,
    event: Event,
    opening: int,
    destinations: Iterable[Destination | str],
    wait: timedelta = timedelta(0),
) -> None:
    """Store one message for each destination, to be sent after `wait`. Skip messages that are already stored."""
    for name in dict.fromkeys(one if isinstance(one, str) else one.name for one in destinations):
        connection.execute(
            "insert into platform.incident_messages (incident, event, opening, destination, due_at)"
            " values (%s, %s, %s, %s, now() + %s) on conflict do nothing",
            [incident, event, opening, name, wait],
        )


def queue_opened(connection: Connection, incident: int, opening: int, destinations: Iterable[Destination]) -> None:
    """Store the messages about the opening or reopening of an incident.

    First, messages about the last closure are deleted if no process has tried to send them yet. The receivers of the
    deleted messages get no new message, because they were not told about this closure.
    """
    uninformed = _delete_unsent(connection, incident, "closed")
    event: Event = "opened" if opening == 1 else "reopened"
    write(connection, incident, event, opening, [one for one in destinations if one.name not in uninformed])


def queue_closed(connection: Connection, incident: int, opening: int, wait: timedelta) -> None:
    """Store a message about an incident's closure for each receiver whose newest message is not about a closure."""
    rows = connection.execute(
        "select destination from (select distinct on (destination) destination, event"
        " from platform.incident_messages where incident = %s order by destination, id desc) newest"
        " where event <> 'closed'",
        [incident],
    ).fetchall()
    write(connection, incident, "closed", opening, [row[0] for row in rows], wait)


def cancel_unsent(connection: Connection, incident: int) -> None:
    """Delete an incident's messages that no process has tried to send yet, except messages about a closure."""
    _delete_unsent(connection, incident, "opened", "reopened", "escalated")


def hold(connection: Connection, incident: int, until: datetime, earlier: datetime | None = None) -> None:
    """Delay the unsent messages of an incident until the time `until`.

    `earlier` is the end of the previous silence. A message that is due exactly at `earlier` was delayed by that
    silence. It is now due at `until`, even if `until` is before `earlier`. Any other message that is due after `until`
    keeps its time.
    """
    connection.execute(
        "update platform.incident_messages set due_at = greatest(nullif(due_at, %s::timestamptz), %s)"
        " where incident = %s and sent_at is null",
        [earlier, until, incident],
    )


def claim(connection: Connection, lease: timedelta = LEASE) -> Message | None:
    """Reserve a message that is due, so that only this process tries to send it. Return None if no message is due.

    Parameters
    ----------
    connection
        Connection to the platform's database.
    lease
        Duration of the reservation. If no result is stored by then, another process can send the message.
    """
    row = connection.execute(_CLAIM.encode(), {"lease": lease, "most": _MOST_ATTEMPTS}).fetchone()
    return Message(*row) if row else None


def settle(connection: Connection, message: Message, failure: str, first_pause: timedelta) -> None:
    """Store the result of an attempt. After a failure, set the time of the next attempt.

    Parameters
    ----------
    connection
        Connection to the platform's database.
    message
        The message, as `claim` returned it.
    failure
        Reason if the message was not sent; empty if it was sent.
    first_pause
        Time between the first and the second attempt. Each further pause is twice as long as the previous one, up to an
        hour.
    """
    pause = min(first_pause * 2 ** min(message.attempts - 1, 20), _LONGEST_PAUSE)
    connection.execute(
        "update platform.incident_messages set failure = %(failure)s,"
        " sent_at = case when %(failure)s = '' then now() end, due_at = now() + %(pause)s"
        " where id = %(id)s and sent_at is null",
        {"failure": failure, "pause": pause, "id": message.id},
    )


def _delete_unsent(connection: Connection, incident: int, *events: Event) -> set[str]:
    rows = connection.execute(
        "delete from platform.incident_messages where incident = %s and event = any(%s) and attempts = 0"
        " returning destination",
        [incident, list(events)],
    ).fetchall()
    return {row[0] for row in rows}
