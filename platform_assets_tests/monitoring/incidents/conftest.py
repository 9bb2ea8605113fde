"""Fixtures for tests of incidents."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import make_url

from platform_assets.database.connections import Database
from platform_assets.monitoring.incidents.delivery import Delivery, Post
from platform_assets.monitoring.incidents.routes import Routes
from platform_assets.monitoring.incidents.store import Incidents, Windows

if TYPE_CHECKING:
    from collections.abc import Iterator

    from platform_assets.monitoring.incidents.incident import Incident


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    database = Database(make_url(database_url))
    yield database
    database.close()


@dataclass
class Desk:
    """The incident store and the delivery of its messages. `pass_time` simulates elapsed time."""

    database: Database
    incidents: Incidents
    delivery: Delivery

    def only(self) -> Incident:
        [incident] = self.incidents.list(everything=True)
        return incident

    def pass_time(self, time: timedelta) -> None:
        """Move all stored times into the past."""
        with self.database.pooled() as connection, connection.transaction():
            for table, columns in {
                "incidents": ("opened_at", "seen_at", "closed_at", "silenced_until", "escalated_at", "recovered_at"),
                "incident_messages": ("created_at", "due_at", "sent_at"),
                "watch_heartbeats": ("at", "since"),
            }.items():
                older = ", ".join(f"{name} = {name} - %(time)s" for name in columns)
                connection.execute(f"update platform.{table} set {older}".encode(), {"time": time})


def desk(database: Database, routes: dict[str, list[str]], smtp: str = "", pause: timedelta = timedelta(0)) -> Desk:
    """Return the incident store of the database, and a delivery that sends its messages by these routes."""
    found = Routes(routes, mails=bool(smtp))
    incidents = Incidents(database.pooled, found, Windows(timedelta(hours=1), timedelta(hours=24)), ["sesame"])
    post = Post(found, smtp, "platform@example.org", "https://runs.example", pause)
    return Desk(database, incidents, Delivery(incidents, post))
