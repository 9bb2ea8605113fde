"""Requests, decisions and API keys.

The owner of these tables can alter them, so the platform connects as another role. `approval/audit.py` recomputes the
hash chain without the functions of the database, and so detects alterations. From migration 0004 on, only such
functions write these tables.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

TABLES = (
    "approval_requests",
    "approval_plots",
    "approval_events",
    "approval_projections",
    "api_keys",
    "api_key_revocations",
)

NOW = sa.text("clock_timestamp()")
# `digest_of` prefixes each field with its length, so that two different rows never give the same text.
FUNCTIONS = """
create function platform.digest_of(variadic fields text[]) returns text
language sql immutable set search_path = pg_catalog, pg_temp as $$
    select encode(sha256(convert_to(string_agg(
        coalesce(octet_length(convert_to(field, 'UTF8')) || ':' || field, '-'), ',' order by place
    ), 'UTF8')), 'hex')
    from unnest(fields) with ordinality as given (field, place)
$$;

create function platform.written(moment timestamptz) returns text
language sql stable set search_path = pg_catalog, pg_temp as $$
    select to_char(moment at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US')
$$;

create function platform.digest_of_request(request platform.approval_requests) returns text
language sql stable set search_path = pg_catalog, pg_temp as $$
    select platform.digest_of(
        request.id::text, request.model, request.version::text, request.digest, request.threshold::text,
        request.launched_by, request.requested_by,
        platform.written(request.created_at), platform.written(request.expires_at),
        request.policy::text, request.evidence::text, request.plots::text,
        request.champion_version::text, request.champion_digest
    )
$$;

create function platform.date_request() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
    new.created_at := clock_timestamp();
    new.expires_at := new.created_at + (new.policy ->> 'lifetime_seconds')::double precision * interval '1 second';
    return new;
end
$$;

create function platform.match_plot() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
    if not exists (
        select from platform.approval_requests
        where id = new.request_id and plots ->> new.name = encode(sha256(new.png), 'hex')
    ) then
        raise exception 'request % names no such plot %', new.request_id, new.name using errcode = 'check_violation';
    end if;
    return new;
end
$$;

create function platform.chain_event() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
    request platform.approval_requests;
    standing text;
    last platform.approval_events;
begin
    -- One event at a time: the sequence has no gaps, and whoever comes second sees what the first did.
    perform pg_advisory_xact_lock(119182731994482);
    select * into request from platform.approval_requests where id = new.request_id;
    if not found then
        raise exception 'there is no request %', new.request_id using errcode = 'foreign_key_violation';
    end if;
    select state into standing from platform.approval_events
    where request_id = new.request_id order by sequence desc limit 1;
    select * into last from platform.approval_events order by sequence desc limit 1;

    new.sequence := coalesce(last.sequence, 0) + 1;
    new.at := clock_timestamp();
    new.request_digest := platform.digest_of_request(request);
    new.previous_hash := coalesce(last.hash, repeat('0', 64));
    new.hash := platform.digest_of(
        new.sequence::text, new.request_id::text, new.state, new.kind, new.actor, new.authenticated::text,
        new.reason, new.override::text, new.delivery, new.details::text, platform.written(new.at),
        new.request_digest, new.previous_hash
    );

    if not exists (
        select from (values
            ('request', null, 'PENDING'),
            ('approve', 'PENDING', 'PENDING'),
            ('approve', 'PENDING', 'APPROVED'),
            ('reject', 'PENDING', 'REJECTED'),
            ('withdraw', 'PENDING', 'WITHDRAWN'),
            ('expire', 'PENDING', 'EXPIRED'),
            ('supersede', 'PENDING', 'SUPERSEDED'),
            ('promote', 'APPROVED', 'PROMOTED'),
            ('fail', 'APPROVED', 'FAILED'),
            ('roll_back', 'PROMOTED', 'ROLLED_BACK')
        ) as allowed (kind, state_before, state_after)
        where kind = new.kind and state_before is not distinct from standing and state_after = new.state
    ) then
        raise exception 'request % is %, and % does not make it %',
            new.request_id, coalesce(standing, 'new'), new.kind, new.state using errcode = 'PA001';
    end if;
    if new.kind in ('approve', 'reject', 'withdraw', 'fail', 'roll_back') and coalesce(new.reason, '') !~ '\\S' then
        raise exception 'request %: % needs a reason', new.request_id, new.kind using errcode = 'PA001';
    end if;
    if new.kind in ('approve', 'reject', 'withdraw') and new.at >= request.expires_at then
        raise exception 'request % expired at %', new.request_id, request.expires_at using errcode = 'PA002';
    end if;
    if new.kind = 'expire' and new.at < request.expires_at then
        raise exception 'request % expires at %', new.request_id, request.expires_at using errcode = 'PA001';
    end if;
    if new.kind = 'approve' and not new.override
        and (request.evidence -> 'verdict' -> 'passed') is distinct from 'true'::jsonb
    then
        raise exception 'request %: its verdict is not passed, and not overridden', new.request_id
            using errcode = 'PA001';
    end if;
    if new.kind = 'request' and exists (
        select from platform.approval_requests other
        where other.model = request.model and other.version = request.version and other.digest = request.digest
        and other.id <> request.id and (
            select state from platform.approval_events where request_id = other.id order by sequence desc limit 1
        ) in ('PENDING', 'APPROVED')
    ) then
        raise exception 'version % of % has an open request', request.version, request.model using errcode = 'PA001';
    end if;
    return new;
end
$$;

create function platform.refuse_change() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
    raise exception 'what is in %.% is there for ever', tg_table_schema, tg_table_name
        using errcode = 'insufficient_privilege';
end
$$;

create trigger date_request before insert on platform.approval_requests
for each row execute function platform.date_request();
create trigger match_plot before insert on platform.approval_plots
for each row execute function platform.match_plot();
create trigger chain_event before insert on platform.approval_events
for each row execute function platform.chain_event();
"""


def column(name: str, kind: Any, comment: str, *more: Any, **options: Any) -> sa.Column[Any]:
    """Return a NOT NULL column with a comment."""
    return sa.Column(name, kind, *more, comment=comment, **{"nullable": False, **options})


MOMENT, JSON = sa.DateTime(timezone=True), postgresql.JSONB


def upgrade() -> None:
    create_requests()
    create_events()
    create_keys()
    op.execute(FUNCTIONS)
    for table in TABLES:
        op.execute(
            f"create trigger append_only before update or delete or truncate on platform.{table}"
            " for each statement execute function platform.refuse_change()"
        )


def create_requests() -> None:
    op.create_table(
        "approval_requests",
        column("id", sa.BigInteger, "The request.", sa.Identity(always=True)),
        column("model", sa.Text, "Name of the registered model."),
        column("version", sa.Integer, "Its version in the registry."),
        column("digest", sa.Text, "Of the model's file."),
        column("threshold", sa.Double, "Score from which a row counts as positive."),
        column("launched_by", sa.Text, "Who launched the training; null where nobody knows.", nullable=True),
        column("requested_by", sa.Text, "Who asked; null where nobody knows.", nullable=True),
        column("created_at", MOMENT, "When, by the database's clock."),
        column("expires_at", MOMENT, "From when on it cannot be decided any more."),
        column("policy", JSON, "Who may decide, as it was then."),
        column("evidence", JSON, "What the person who decides sees: metrics, verdict, data, code."),
        column("plots", JSON, "File name to SHA-256 of each plot."),
        column("champion_version", sa.Integer, "The champion at that time; null without one.", nullable=True),
        column("champion_digest", sa.Text, "Of the champion's file; null without one.", nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sa.CheckConstraint("version > 0"),
        sa.CheckConstraint("(champion_version is null) = (champion_digest is null)"),
        sa.Index("approval_requests_of_version", "model", "version"),
        schema="platform",
        comment="Requests to make a version of a model the champion, with the evidence of that moment.",
    )
    op.create_table(
        "approval_plots",
        column("request_id", sa.BigInteger, "The request.", sa.ForeignKey("platform.approval_requests.id")),
        column("name", sa.Text, "File name."),
        column("png", sa.LargeBinary, "The picture."),
        sa.PrimaryKeyConstraint("request_id", "name"),
        schema="platform",
        comment="The plots of each request.",
    )


def create_events() -> None:
    op.create_table(
        "approval_events",
        column("sequence", sa.BigInteger, "1, 2, 3 .. over all requests.", autoincrement=False),
        column("request_id", sa.BigInteger, "The request.", sa.ForeignKey("platform.approval_requests.id")),
        column("state", sa.Text, "Of the request, after it."),
        column("kind", sa.Text, "What happened."),
        column("actor", sa.Text, "Who did it."),
        column("authenticated", sa.Boolean, "Whether a key proved who that is."),
        column("reason", sa.Text, "Why, in that person's words.", nullable=True),
        column("override", sa.Boolean, "Whether a failed verdict was overridden."),
        column("delivery", sa.Text, "Tells a decision that was sent twice.", nullable=True),
        column("details", JSON, "What a program has to know of it."),
        column("at", MOMENT, "When, by the database's clock."),
        column("request_digest", sa.Text, "Of the request's row."),
        column("previous_hash", sa.Text, "Of the event before; zeros for the first."),
        column("hash", sa.Text, "Of all other columns."),
        sa.PrimaryKeyConstraint("sequence"),
        sa.Index("approval_events_of_request", "request_id", sa.text("sequence desc")),
        sa.Index("approval_events_delivery", "request_id", "delivery", unique=True),
        schema="platform",
        comment="What happened to requests, chained by hashes over all of them.",
    )
    op.create_table(
        "approval_projections",
        column("sequence", sa.BigInteger, "The event.", sa.ForeignKey("platform.approval_events.sequence")),
        column("at", MOMENT, "When the registry had it.", server_default=NOW),
        sa.PrimaryKeyConstraint("sequence"),
        schema="platform",
        comment="Which promotions and rollbacks the registry shows.",
    )


def create_keys() -> None:
    op.create_table(
        "api_keys",
        column("hash", sa.Text, "SHA-256 of the secret."),
        column("name", sa.Text, "The key's name; one of those that are not revoked."),
        column("owner", sa.Text, "The person or program that holds it."),
        column("scopes", postgresql.ARRAY(sa.Text), "What it may do: read, predict, approve."),
        column("created_at", MOMENT, "When it was made.", server_default=NOW),
        sa.PrimaryKeyConstraint("hash"),
        sa.CheckConstraint("scopes <@ array['read', 'predict', 'approve'] and cardinality(scopes) > 0"),
        schema="platform",
        comment="Keys of people and programs.",
    )
    op.create_table(
        "api_key_revocations",
        column("hash", sa.Text, "Of the key.", sa.ForeignKey("platform.api_keys.hash")),
        column("at", MOMENT, "From when on it opens nothing.", server_default=NOW),
        sa.PrimaryKeyConstraint("hash"),
        schema="platform",
        comment="Keys that open nothing any more.",
    )


def downgrade() -> None:
    for function in ("chain_event", "match_plot", "date_request", "refuse_change"):
        op.execute(f"drop function platform.{function} cascade")
    op.execute("drop function platform.digest_of_request")
    op.execute("drop function platform.written")
    op.execute("drop function platform.digest_of")
    for table in reversed(TABLES):
        op.drop_table(table, schema="platform")
