"""Incidents, the messages about them, and the heartbeats of processes that watch the platform."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)


def column(name: str, kind: Any, comment: str, *more: Any, **options: Any) -> sa.Column[Any]:
    """Return a NOT NULL column with a comment."""
    return sa.Column(name, kind, *more, comment=comment, **{"nullable": False, **options})


def upgrade() -> None:
    now, empty = sa.text("now()"), ""
    op.create_table(
        "incidents",
        column("id", sa.BigInteger, "Number of the incident.", sa.Identity(always=True), primary_key=True),
        column("cause", sa.Text, "Kind and subject of the problem; it has at most one open incident."),
        column("title", sa.Text, "What happened, for people."),
        column("severity", sa.Text, "`warning` or `error`; only errors are escalated."),
        column("owners", ARRAY(sa.Text), "Owners of the affected asset; empty for the default route."),
        column("link", sa.Text, "Address of the run or page, or its path in Dagster's UI; empty without one."),
        column("occurrence", sa.Text, "The newest event with this cause; empty for a lasting state."),
        column("opening", sa.Integer, "How often the incident was opened.", server_default="1"),
        column("seen", sa.BigInteger, "Number of events with this cause.", server_default="1"),
        column("opened_at", TIME, "When it was last opened, by the database's clock.", server_default=now),
        column("seen_at", TIME, "When the problem was last seen.", server_default=now),
        column("escalated_at", TIME, "When it was escalated; null if it was not.", nullable=True),
        column("closed_at", TIME, "When it was closed; null while it is open.", nullable=True),
        column("closed_by", sa.Text, "Person who closed it; empty if the problem ended.", server_default=empty),
        column("recovered_at", TIME, "When the problem ended; null if that was not seen.", nullable=True),
        column("silenced_until", TIME, "End of the silence; null without one.", nullable=True),
        column("silenced_by", sa.Text, "Person who silenced it.", server_default=empty),
        column("silence_reason", sa.Text, "Reason of the silence.", server_default=empty),
        sa.CheckConstraint("severity in ('warning', 'error')", "incidents_severity_check"),
        sa.Index("incidents_open", "cause", unique=True, postgresql_where=sa.text("closed_at is null")),
        sa.Index("incidents_of_cause", "cause", "id"),
        schema="platform",
        comment="Problems that people should know about.",
    )
    op.create_table(
        "incident_messages",
        column("id", sa.BigInteger, "Number of the message.", sa.Identity(always=True), primary_key=True),
        column("incident", sa.BigInteger, "The incident.", sa.ForeignKey("platform.incidents.id", ondelete="CASCADE")),
        column("event", sa.Text, "`opened`, `reopened`, `escalated` or `closed`."),
        column("opening", sa.Integer, "The opening that the message is about."),
        column("destination", sa.Text, "Receiver: a mail address, or the digest of a webhook's address."),
        column("created_at", TIME, "When it was written.", server_default=now),
        column("due_at", TIME, "When it may be sent, or sent again.", server_default=now),
        column("attempts", sa.Integer, "Number of attempts to send it.", server_default="0"),
        column("sent_at", TIME, "When the receiver accepted it; null before.", nullable=True),
        column("failure", sa.Text, "Why the last attempt failed.", server_default=empty),
        sa.UniqueConstraint("incident", "event", "opening", "destination"),
        sa.Index("incident_messages_unsent", "due_at", postgresql_where=sa.text("sent_at is null")),
        schema="platform",
        comment="Messages about incidents, written with the incident and sent afterwards.",
    )
    op.create_table(
        "watch_heartbeats",
        column("name", sa.Text, "What is alive.", primary_key=True),
        column("at", TIME, "When it last was.", server_default=now),
        column("since", TIME, "Since when it has been, without a long gap.", server_default=now),
        schema="platform",
        comment="Signs of life of the parts that watch the platform.",
    )


def downgrade() -> None:
    for table in ("watch_heartbeats", "incident_messages", "incidents"):
        op.drop_table(table, schema="platform")
