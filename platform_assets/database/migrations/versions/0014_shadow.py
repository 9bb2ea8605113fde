"""Shadows: versions that await approval and score the same prediction requests as the champion.

Adds events that start, stop and report a shadow, and tables of its scores and of rows that it did not score.

The functions `chain_event` and `decide` are changed in place, so that other changes to them stay.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

STEPS = (
    "('roll_back', 'PROMOTED', 'ROLLED_BACK')",
    """('roll_back', 'PROMOTED', 'ROLLED_BACK'),
            ('start_shadow', 'PENDING', 'PENDING'),
            ('report_shadow', 'PENDING', 'PENDING'),
            ('stop_shadow', 'PENDING', 'PENDING')""",
)
BEFORE_EXPIRY = (
    "in ('approve', 'reject', 'withdraw') and new.at",
    "in ('approve', 'reject', 'withdraw', 'start_shadow', 'report_shadow', 'stop_shadow') and new.at",
)
SEEN = (
    ("override boolean, delivery text)", "override boolean, delivery text, seen bigint DEFAULT NULL::bigint)"),
    (
        "    actor := platform.actor_of(secret, claimed);",
        """    -- The report of a shadow that the person saw beside the evidence.
    if seen is not null and not exists (
        select from platform.approval_events event
        where event.sequence = seen and event.request_id = number and event.kind = 'report_shadow'
    ) then
        return platform.refused('no_report', null, jsonb_build_object('report', seen));
    end if;
    actor := platform.actor_of(secret, claimed);""",
    ),
    (
        "delivery, actor -> 'details'\n        ));",
        """delivery,
            jsonb_strip_nulls((actor -> 'details') || jsonb_build_object('shadow_report', seen))
        ));""",
    ),
)
OLD_DECIDE = "platform.decide(bigint, text, text, text, text, boolean, text)"
NEW_DECIDE = "platform.decide(bigint, text, text, text, text, boolean, text, bigint)"
PINNED = """security definer
    set search_path = pg_catalog, pg_temp set extra_float_digits = 1 set standard_conforming_strings = on"""
FUNCTIONS = f"""
-- Lets the version of a pending request score the same requests as the champion. A second start replaces the first.
create function platform.start_shadow(number bigint, days integer, secret text, claimed text) returns jsonb
language plpgsql {PINNED} as $$
declare
    asked platform.approval_requests;
    actor jsonb;
    champion text;
begin
    perform platform.begin_step();
    select * into asked from platform.approval_requests where id = number;
    if not found then
        return platform.refused('no_request');
    end if;
    actor := platform.actor_of(secret, claimed);
    if actor ? 'why' then
        return platform.refused(actor ->> 'why', actor ->> 'name');
    end if;
    if days is null or days not between 1 and 31 then
        return platform.refused('shadow_days', actor ->> 'name');
    end if;
    if platform.state_of(number) <> 'PENDING' or clock_timestamp() >= asked.expires_at then
        return platform.refused('not_pending', actor ->> 'name');
    end if;
    champion := (select found.digest from platform.champions(asked.model) found limit 1);
    if champion is null then
        return platform.refused('no_champion', actor ->> 'name', jsonb_build_object('model', asked.model));
    end if;
    if champion is distinct from asked.champion_digest then
        return platform.refused('other_champion', actor ->> 'name');
    end if;
    return jsonb_build_object('outcome', 'recorded', 'event', platform.add_event(
        number, 'PENDING', 'start_shadow', actor ->> 'name', (actor ->> 'authenticated')::boolean,
        details => (actor -> 'details') || jsonb_build_object('days', days)
    ));
end
$$;

create function platform.stop_shadow(number bigint, secret text, claimed text) returns jsonb
language plpgsql {PINNED} as $$
declare
    actor jsonb;
begin
    perform platform.begin_step();
    actor := platform.actor_of(secret, claimed);
    if actor ? 'why' then
        return platform.refused(actor ->> 'why', actor ->> 'name');
    end if;
    if platform.state_of(number) is distinct from 'PENDING' or not platform.has_shadow(number) then
        return platform.refused('no_shadow', actor ->> 'name');
    end if;
    return jsonb_build_object('outcome', 'recorded', 'event', platform.add_event(
        number, 'PENDING', 'stop_shadow', actor ->> 'name', (actor ->> 'authenticated')::boolean,
        details => actor -> 'details'
    ));
end
$$;

-- Records what the service measured. A report may follow the end of the days, because rows may still be written then.
create function platform.report_shadow(number bigint, report jsonb) returns jsonb
language plpgsql {PINNED} as $$
begin
    perform platform.begin_step();
    if platform.state_of(number) is distinct from 'PENDING' or not platform.has_shadow(number) or exists (
        select from platform.approval_requests where id = number and clock_timestamp() >= expires_at
    ) then
        return platform.refused('no_shadow');
    end if;
    if not platform.is_readable(report) or octet_length(report::text) > 100000 then
        return platform.refused('unreadable_report');
    end if;
    return jsonb_build_object('outcome', 'recorded', 'event', platform.add_event(
        number, 'PENDING', 'report_shadow', 'platform', false, details => report
    ));
end
$$;

-- Whether the shadow of a request was started and not stopped.
create function platform.has_shadow(number bigint) returns boolean
language sql stable set search_path = pg_catalog, pg_temp as $$
    select coalesce(
        (
            select kind = 'start_shadow' from platform.approval_events
            where request_id = number and kind in ('start_shadow', 'stop_shadow') order by sequence desc limit 1
        ),
        false
    )
$$;
"""  # noqa: S608 - constants


def column(name: str, kind: Any, comment: str, *more: Any, **options: Any) -> sa.Column[Any]:
    """Return a NOT NULL column with a comment."""
    return sa.Column(name, kind, *more, comment=comment, **{"nullable": False, **options})


def upgrade() -> None:
    create_tables()
    op.execute(
        "create index approval_events_of_shadows on platform.approval_events (request_id, sequence)"
        " where kind in ('start_shadow', 'stop_shadow')"
    )
    run(FUNCTIONS)
    change("platform.chain_event()", STEPS, BEFORE_EXPIRY)
    change(OLD_DECIDE, *SEEN)
    op.execute(f"drop function {OLD_DECIDE}")


def create_tables() -> None:
    op.create_table(
        "shadow_predictions",
        column("batch", sa.Uuid, "Number of a write, the same if it is repeated."),
        column("place", sa.Integer, "Place in the batch, from 0."),
        column("at", sa.DateTime(timezone=True), "Time of the champion's prediction, by the service's clock."),
        column("model", sa.Text, "Name of the registered model."),
        column("version", sa.Integer, "The version that scored in the shadow."),
        column("approval_id", sa.BigInteger, "Approval request of that version."),
        column("request_id", sa.Text, "The HTTP request."),
        column("item", sa.Integer, "Place of the row in the HTTP request, from 0."),
        column("subject", sa.Text, "What the prediction is about, e.g. a client; null without an id.", nullable=True),
        column("score", sa.Double, "Score, or value, of the version in the shadow."),
        column("champion_score", sa.Double, "Score, or value, that the champion answered."),
        column("agrees", sa.Boolean, "Whether both decide alike, or the interval contains the champion's value."),
        sa.PrimaryKeyConstraint("batch", "place"),
        sa.Index("shadow_predictions_of_request", "approval_id"),
        sa.Index("shadow_predictions_at", "at", postgresql_using="brin"),
        schema="platform",
        comment="Scores of versions in the shadow of a champion. They are never in an answer.",
    )
    op.create_table(
        "shadow_losses",
        column("id", sa.BigInteger, "Number of the row.", sa.Identity(always=True), primary_key=True),
        column("approval_id", sa.BigInteger, "Approval request of the version in the shadow."),
        column("at", sa.DateTime(timezone=True), "When the counts were written, by the service's clock."),
        column("dropped", sa.BigInteger, "Rows that were not scored because the queue was full or nothing was loaded."),
        column("failed", sa.BigInteger, "Rows that the version could not score."),
        column("reason", sa.Text, "The last failure; null without one.", nullable=True),
        sa.Index("shadow_losses_of_request", "approval_id"),
        schema="platform",
        comment="Rows that were not scored in the shadow, counted by each process of the service.",
    )


def change(function: str, *replacements: tuple[str, str]) -> None:
    """Replace parts of a function's definition. If the signature changes, this creates another function."""
    found = op.get_bind().execute(sa.text(f"select pg_get_functiondef('{function}'::regprocedure)")).scalar_one()
    for old, new in replacements:
        if found.count(old) != 1:
            raise RuntimeError(
                f"{function} does not contain {old!r} exactly once, so migration {revision} cannot change it"
            )
        found = found.replace(old, new)
    run(found)


def run(statements: str) -> None:
    """Run statements, with percent signs escaped because the driver would read them as parameters."""
    op.get_bind().exec_driver_sql(statements.replace("%", "%%"))


def downgrade() -> None:
    change(NEW_DECIDE, *((new, old) for old, new in SEEN))
    op.execute(f"drop function {NEW_DECIDE}")
    change("platform.chain_event()", STEPS[::-1], BEFORE_EXPIRY[::-1])
    for signature in (
        "start_shadow(bigint, integer, text, text)",
        "stop_shadow(bigint, text, text)",
        "report_shadow(bigint, jsonb)",
        "has_shadow(bigint)",
    ):
        op.execute(f"drop function platform.{signature}")
    op.execute("drop index platform.approval_events_of_shadows")
    op.drop_table("shadow_losses", schema="platform")
    op.drop_table("shadow_predictions", schema="platform")
