"""The scores of shadows in the database, and the reports about them.

`platform.shadow_predictions` has the scored rows, and `platform.shadow_losses` counts rows that were not scored. A
report summarises both for one approval request and is recorded in the ledger, which keeps it forever. Because
nothing can be erased from the ledger, reports name HTTP requests, but no items such as clients.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from platform_assets.approval.shadows import newest_report, select_shadows
from platform_assets.base.errors import DatabaseError, first_line
from platform_assets.base.json_values import as_json

if TYPE_CHECKING:
    import uuid
    from collections.abc import Callable, Mapping, Sequence

    import psycopg

    from platform_assets.approval.ledger import Ledger
    from platform_assets.approval.ledger_events import Event
    from platform_assets.approval.shadows import Shadow, ShadowLedger
    from platform_assets.serving.shadow_rows import Losses, ShadowRow

    Connection = psycopg.Connection[Any]

DISAGREEMENTS = 10
"""Number of disagreements in a report."""
FIRST_REPORT = timedelta(minutes=1)
"""Time from the start of a shadow to its first report."""
LONGEST_GAP = timedelta(days=1)
"""Longest time between two reports, if rows were scored."""
LAST_REPORT = timedelta(minutes=1)
"""Time from `Shadow.until` to the last report about a shadow. All processes have then written their rows."""
_LOCK = "shadow reports"
_ROWS_AT_ONCE = 10_000
# Use one statement for all rows, because a statement for each row would cost more processor time.
_INSERT = b"""
insert into platform.shadow_predictions (
    batch, place, at, model, version, approval_id, request_id, item, subject, score, champion_score, agrees
)
select %s, * from unnest(
    %s::integer[], %s::timestamptz[], %s::text[], %s::integer[], %s::bigint[], %s::text[], %s::integer[], %s::text[],
    %s::double precision[], %s::double precision[], %s::boolean[]
) on conflict do nothing
"""
_LOST = b"""
insert into platform.shadow_losses (approval_id, at, dropped, failed, reason) values (%s, %s, %s, %s, %s)
"""
_SUMMARY = b"""
select count(*), count(*) filter (where agrees), count(distinct request_id), min(at), max(at),
    avg(score - champion_score),
    percentile_cont(array[0.5, 0.9, 0.99, 1]) within group (order by abs(score - champion_score))
from platform.shadow_predictions where approval_id = %s
"""
# If several rows have the same two scores, for example from repeated requests for one client, select only the newest.
_DISAGREEMENTS = b"""
select request_id, item, champion_score, score, agrees
from (
    select distinct on (champion_score, score, agrees) * from platform.shadow_predictions
    where approval_id = %s and (not agrees or score <> champion_score)
    order by champion_score, score, agrees, at desc, batch, place desc
) found
order by agrees, abs(score - champion_score) desc, request_id, item limit %s
"""
# The log stores a row's place in its batch, not in its request. Subtracting the place of the request's first row gives
# the place in the request, because all rows of a request are in one batch, in order.
_OF_ANSWER = b"""
select scored.version, scored.approval_id, scored.score, scored.score >= asked.threshold, asked.threshold, scored.agrees
from platform.shadow_predictions scored join platform.approval_requests asked on asked.id = scored.approval_id
where scored.at = %(at)s and scored.request_id = %(request_id)s and scored.model = %(model)s
    and scored.champion_score = %(score)s and scored.item = %(place)s - (
        select min(place) from platform.predictions first
        where first.request_id = %(request_id)s and first.at = %(at)s and first.model = %(model)s
            and first.batch = %(batch)s
    )
order by scored.approval_id
"""
_LOSSES = b"""
select coalesce(sum(dropped), 0)::bigint, coalesce(sum(failed), 0)::bigint,
    (array_agg(reason order by at desc) filter (where reason is not null))[1]
from platform.shadow_losses where approval_id = %s
"""


@dataclass(frozen=True)
class ShadowScore:
    """Score and decision of a shadow for one row of a request.

    Attributes
    ----------
    version, approval_id
        The version, and its approval request.
    score
        Score, or predicted value.
    positive, threshold
        Decision and decision threshold; None if the version makes no decisions.
    agrees
        Whether the version agrees with the champion; see `Output.agrees`.
    """

    version: int
    approval_id: int
    score: float
    positive: bool | None
    threshold: float | None
    agrees: bool


class LedgerShadows:
    """Reads the running shadows from the ledger, and writes their scores and reports.

    Parameters
    ----------
    connect
        Function that opens a connection to the platform's database, in autocommit mode.
    ledger
        Function that returns the ledger.
    """

    def __init__(self, connect: Callable[[], Connection], ledger: Callable[[], tuple[Ledger, ShadowLedger]]) -> None:
        self._connect = connect
        self._ledger = ledger
        self._connection: Connection | None = None

    def running(self) -> list[Shadow]:
        """Return the running shadows, at most one for each model."""
        return [one for one in select_shadows(self._open()) if one.ended is None]

    def write(self, batch: uuid.UUID, rows: Sequence[ShadowRow], losses: Mapping[Shadow, Losses]) -> None:
        """Write scored rows, and counts of rows that were not scored (`losses`), in one transaction.

        Rows that an earlier attempt committed are skipped.
        """
        connection, now = self._open(), datetime.now(UTC)
        with connection.transaction(), connection.cursor() as cursor:
            if rows:
                stored = [(place, *_stored(row)) for place, row in enumerate(rows)]
                cursor.execute(_INSERT, [batch, *map(list, zip(*stored, strict=True))])
            for shadow, lost in losses.items():
                reason = None if lost.reason is None else as_json(lost.reason)
                cursor.execute(_LOST, [shadow.request_id, now, lost.dropped, lost.failed, reason])

    def report(self) -> None:
        """Record the reports that are due. Only one of several processes does so at a time."""
        connection = self._open()
        open_shadows = [one for one in select_shadows(connection) if one.takes_reports]
        if not open_shadows:
            return
        with connection.transaction():
            # The lock ends with the transaction.
            row = connection.execute(
                "select pg_try_advisory_xact_lock(hashtextextended(%s, 0)), now()", [_LOCK]
            ).fetchone()
            if row is None or not row[0]:
                return
            ledger, shadows = self._ledger()
            for shadow in open_shadows:
                last = newest_report(ledger.history(shadow.request_id))
                if is_due(shadow, last.at if last else None, row[1]):
                    record_report(connection, shadows, shadow, last)

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()

    def _open(self) -> Connection:
        if self._connection is None or self._connection.closed:
            self._connection = self._connect()
        return self._connection


def is_due(shadow: Shadow, last: datetime | None, now: datetime) -> bool:
    """Return whether a report is due.

    The first report is due `FIRST_REPORT` after the start of the shadow. A further report is due when the running time
    has about doubled since the last one, but no later than `LONGEST_GAP` after it. The final report is due
    `LAST_REPORT` after the end of the shadow. There should be few reports, because the ledger keeps them forever.

    Parameters
    ----------
    shadow
        A shadow about which the ledger accepts reports.
    last
        Time of its last report; None before the first report.
    now
        The current time.
    """
    end = shadow.until + LAST_REPORT
    if now >= end:
        return last is None or last < end
    if last is None or last < shadow.since:
        return now >= shadow.since + FIRST_REPORT
    return now - last >= min(max(last - shadow.since, FIRST_REPORT), LONGEST_GAP)


def record_report(
    connection: Connection, shadows: ShadowLedger, shadow: Shadow, last: Event | None = None
) -> Event | None:
    """Record a report about all rows of a shadow. Do nothing if no row was added since the last report.

    Parameters
    ----------
    connection
        Connection to the platform's database.
    shadows
        The ledger that records the report.
    shadow
        A shadow about which the ledger accepts reports.
    last
        The last report about the shadow.
    """
    report = summarise(connection, shadow.request_id)
    counted = ("rows", "dropped", "failed")
    if not any(report[name] for name in counted):
        return None
    if last and all(last.details.get(name) == report[name] for name in counted):
        return None
    return shadows.report(shadow.request_id, report)


def summarise(connection: Connection, request_id: int) -> dict[str, Any]:
    """Return the content of a report about the shadow of a request.

    Returns
    -------
    - `rows`, `agreeing`: number of scored rows, and of rows on which both versions agree
    - `requests`: number of HTTP requests with scored rows
    - `first`, `last`: times of the first and the last prediction
    - `mean_difference`: mean of challenger minus champion
    - `differences`: quantiles of the absolute difference
    - `disagreements`: the rows with the largest disagreements
    - `dropped`, `failed`: numbers of rows that were not scored; see `Losses`
    - `reason`: the last failure
    """
    [(rows, agreeing, requests, first, last, mean, quantiles)] = connection.execute(_SUMMARY, [request_id]).fetchall()
    [(dropped, failed, reason)] = connection.execute(_LOSSES, [request_id]).fetchall()
    largest = connection.execute(_DISAGREEMENTS, [request_id, DISAGREEMENTS]).fetchall()
    names = ("request_id", "item", "champion", "challenger", "agrees")
    return {
        "rows": rows,
        "agreeing": agreeing,
        "requests": requests,
        "first": first and f"{first.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}",
        "last": last and f"{last.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}",
        "mean_difference": mean,
        "differences": dict(zip(("0.5", "0.9", "0.99", "1"), quantiles, strict=True)) if quantiles else {},
        "disagreements": [dict(zip(names, one, strict=True)) for one in largest],
        "dropped": dropped,
        "failed": failed,
        "reason": reason,
    }


def scores_of_answer(connection: Connection, logged: Mapping[str, Any]) -> list[ShadowScore]:
    """Return the scores of shadows for a logged prediction.

    Parameters
    ----------
    connection
        Connection to the platform's database.
    logged
        The row of the prediction log, by column.
    """
    return [ShadowScore(*row) for row in connection.execute(_OF_ANSWER, logged)]


def delete_old_shadows(connect: Callable[[], Connection], age: timedelta) -> int:
    """Delete scores, and counts of rows that were not scored, that are older than `age` by the database's clock.

    Returns
    -------
    Number of deleted scores.

    Raises
    ------
    DatabaseError
        The database does not answer.
    """
    import psycopg

    # Delete in parts, to keep transactions short.
    part = (
        b"delete from platform.shadow_predictions where ctid = any(array("
        b"select ctid from platform.shadow_predictions where at < now() - %s limit %s))"
    )
    deleted = 0
    try:
        with closing(connect()) as connection:
            connection.execute(b"delete from platform.shadow_losses where at < now() - %s", [age])
            while rows := connection.execute(part, [age, _ROWS_AT_ONCE]).rowcount:
                deleted += rows
    except psycopg.Error as error:
        raise DatabaseError(
            f"not all old scores of shadows could be deleted ({first_line(error)}). Run `platform-assets upkeep` again"
        ) from error
    return deleted


def _stored(row: ShadowRow) -> tuple[Any, ...]:
    shadow, subject = row.shadow, None if row.subject is None else as_json(str(row.subject))
    of_shadow = (shadow.model, shadow.version, shadow.request_id)
    scores = (row.score, row.champion_score, row.agrees)
    return (row.at, *of_shadow, as_json(row.request_id), row.item, subject, *scores)
