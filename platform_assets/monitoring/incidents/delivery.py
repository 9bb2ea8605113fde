"""Send stored messages. The text of a message is built from its incident, and the result of sending is stored.

Several processes can send messages concurrently. A process reserves a message for a limited time before sending it. If
the process is killed, another process sends the message after this time. The message may then arrive twice; both copies
have the same identifier, so the receiver can recognise the duplicate.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from platform_assets.base.errors import PlatformError
from platform_assets.monitoring.incidents import messages
from platform_assets.monitoring.incidents.channels import Notice, mail, post

if TYPE_CHECKING:
    from platform_assets.monitoring.incidents.incident import Incident
    from platform_assets.monitoring.incidents.messages import Message
    from platform_assets.monitoring.incidents.routes import Destination, Routes
    from platform_assets.monitoring.incidents.store import Incidents

_LOG = logging.getLogger(__name__)
_LONGEST_SECONDS = 20.0
"""Time after which `deliver` sends no more messages, because Dagster stops the evaluation of a sensor after 60 s."""
_RUNBOOK = "docs/alerts.md"


@dataclass(frozen=True)
class Post:
    """Settings for sending messages.

    Attributes
    ----------
    routes
        Destinations of messages by owner.
    smtp
        URL of the mail server; empty to send no emails.
    sender
        Sender address of emails.
    console
        Base URL of Dagster's UI for links; if empty, links remain paths.
    first_pause
        Time between the first and the second attempt to send a message.
    """

    routes: Routes
    smtp: str = ""
    sender: str = ""
    console: str = ""
    first_pause: timedelta = timedelta(seconds=20)


class Delivery:
    """Sender of stored messages.

    Parameters
    ----------
    incidents
        The incidents that the messages are about.
    post
        Settings for sending messages.
    lease
        Time for which a message is reserved for one attempt.
    """

    def __init__(self, incidents: Incidents, post: Post, lease: timedelta = messages.LEASE) -> None:
        self._incidents = incidents
        self._post = post
        self._lease = lease

    def deliver(self) -> int:
        """Escalate incidents that have been open for too long, and send the messages that are due.

        If a receiver does not accept a message, no error is raised; another attempt follows later.

        Returns
        -------
        int
            Number of messages that were sent.

        Raises
        ------
        DatabaseError
            The database does not respond.
        """
        self._incidents.escalate()
        sent, end = 0, time.monotonic() + _LONGEST_SECONDS
        while time.monotonic() < end:
            with self._incidents.transaction() as connection:
                message = messages.claim(connection, self._lease)
            if message is None:
                break
            failure = self._failure(message)
            with self._incidents.transaction() as connection:
                messages.settle(connection, message, failure, self._post.first_pause)
            sent += not failure
        return sent

    def _failure(self, message: Message) -> str:
        """Send a message. Return an empty string or, if it was not sent, the reason."""
        destination = self._post.routes.named(message.destination)
        if destination is None:
            return f"{message.destination} is no longer a receiver of alerts"
        try:
            self._send(destination, notice(self._incidents.numbered(message.incident), message, self._post.console))
        except PlatformError as error:
            _LOG.warning("%s to %s: %s", message.key, message.destination, error)
            return str(error)
        return ""

    def _send(self, destination: Destination, content: Notice) -> None:
        if destination.kind == "webhook":
            post(destination.address, content)
        else:
            mail(self._post.smtp, self._post.sender, destination.address, content)


def notice(incident: Incident, message: Message, console: str) -> Notice:
    """Return the content of a message about an incident.

    Parameters
    ----------
    incident
        The incident.
    message
        The stored message.
    console
        Base URL of Dagster's UI for links; if empty, links remain paths.
    """
    link = incident.link_from(console)
    runbook = f"{_RUNBOOK}#{incident.kind}"
    happened = _told(incident, message)
    lines = [f"[{incident.severity}] {happened}: {incident.title}", link]
    if message.event == "closed":
        lines += [f"closed by {incident.closed_by}" if incident.closed_by else ""]
    else:
        lines += [f"What to do: {runbook}"]
    return Notice(
        key=message.key,
        thread=f"incident-{incident.id}",
        subject=f"[{incident.severity}] {happened}: {incident.title}"[:200],
        text="\n".join(line for line in lines if line),
        facts={
            "event": incident.kind,
            "subject": incident.subject,
            "link": link,
            "incident": incident.id,
            "state": message.event,
            "severity": incident.severity,
            "owners": incident.owners,
            "runbook": runbook,
            "key": message.key,
        },
    )


def _told(incident: Incident, message: Message) -> str:
    if message.event == "escalated":
        return f"open since {incident.opened_at:%Y-%m-%d %H:%M} UTC, incident {incident.id}"
    return f"{message.event} incident {incident.id}"
