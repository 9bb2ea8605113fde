"""Queries of the ledger: requests, events, champions, and the audit."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from platform_assets.approval.audit import findings, read_ledger
from platform_assets.approval.hash_chain import CHAINS, read_frozen
from platform_assets.approval.ledger_errors import LedgerError, NoSuchRequest
from platform_assets.approval.ledger_events import Event, Promotion
from platform_assets.approval.policy import policy_from_json
from platform_assets.approval.refusals import why_stale
from platform_assets.approval.requests import OPEN, Request, State
from platform_assets.base.errors import first_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from contextlib import AbstractContextManager
    from datetime import datetime

    import psycopg

    from platform_assets.approval.audit import Finding
    from platform_assets.approval.hash_chain import Frozen

    Connection = psycopg.Connection[Any]

OF_MODEL = "request_id in (select id from platform.approval_requests where model = %s)"
_REQUESTS = """
select r.id, r.model, r.version, r.digest, r.threshold, r.launched_by, r.requested_by, r.created_at, r.expires_at,
    r.policy, r.evidence, r.plots, r.champion_version, r.champion_digest, latest.state
from platform.approval_requests r
cross join lateral (
    select state from platform.approval_events where request_id = r.id order by sequence desc limit 1
) latest
"""
_EVENTS = """
select sequence, request_id, state, kind, actor, authenticated, reason, override, delivery, details, at, hash
from platform.approval_events
"""
_CHAMPIONS = """
select r.id, r.model, r.version, r.digest, r.threshold, latest.sequence
from platform.approval_requests r
cross join lateral (
    select state, sequence from platform.approval_events where request_id = r.id order by sequence desc limit 1
) latest
where r.model = %s and latest.state = 'PROMOTED' order by latest.sequence desc limit 2
"""


def open_first(requests: Iterable[Request]) -> list[Request]:
    """Sort requests for display: open requests before closed ones, and newer before older ones."""
    return sorted(requests, key=lambda one: (one.state not in OPEN, -one.id))


class LedgerQueries:
    """Read access to the record of requests and decisions.

    Parameters
    ----------
    connect
        Context manager that yields a connection to the platform's database and rolls back uncommitted work.
    """

    def __init__(self, connect: Callable[[], AbstractContextManager[Connection]]) -> None:
        self._connect = connect

    def request(self, number: int) -> Request:
        """Return one request.

        Raises
        ------
        NoSuchRequest
            No request has this number.
        """
        with self.reading() as connection:
            return select_request(connection, number)

    def requests(self, model: str | None = None, states: Iterable[State] | None = None) -> list[Request]:
        """Return requests, newest first. `model` and `states` filter them; None for all."""
        wanted = None if states is None else [str(state) for state in states]
        with self.reading() as connection:
            return select_requests(
                connection,
                "(%s::text is null or r.model = %s) and (%s::text[] is null or latest.state = any(%s))",
                [model, model, wanted, wanted],
            )

    def unanswered(self) -> list[Request]:
        """Return the expired requests whose model has no newer request."""
        with self.reading() as connection:
            newest = "(select max(id) from platform.approval_requests newest where newest.model = r.model)"
            return select_requests(connection, f"latest.state = %s and r.id = {newest}", [str(State.EXPIRED)])

    def history(self, number: int) -> list[Event]:
        """Return the events of a request, oldest first.

        Raises
        ------
        NoSuchRequest
            No request has this number.
        """
        with self.reading() as connection:
            select_request(connection, number)
            return select_events(connection, "request_id = %s", [number])

    def plots(self, number: int) -> dict[str, bytes]:
        """Return the plots of a request as PNG, by file name."""
        with self.reading() as connection:
            rows = connection.execute(
                "select name, png from platform.approval_plots where request_id = %s order by name", [number]
            )
            return {name: bytes(png) for name, png in rows}

    def stale(self, number: int) -> str | None:
        """Return why an approved request cannot be promoted any more; None if it can. The model file is not checked."""
        with self.reading() as connection:
            return select_stale(connection, select_request(connection, number))

    def champion(self, model: str) -> Promotion | None:
        """Return the champion of a model; None before the first promotion."""
        with self.reading() as connection:
            return next(iter(select_champions(connection, model)), None)

    def previous_champion(self, model: str) -> Promotion | None:
        """Return the version that a rollback would restore; None if there is no such version."""
        with self.reading() as connection:
            return next(iter(select_champions(connection, model)[1:]), None)

    def models(self) -> list[str]:
        """Return the models that have requests."""
        with self.reading() as connection:
            return [row[0] for row in connection.execute("select distinct model from platform.approval_requests")]

    def unprojected(self, model: str) -> list[Event]:
        """Return the model's promotions and rollbacks without a projection, oldest first.

        A projection records that the registry shows the result of an event.
        """
        with self.reading() as connection:
            return select_events(
                connection,
                f"kind in ('promote', 'roll_back') and {OF_MODEL} and not exists"
                " (select from platform.approval_projections p where p.sequence = approval_events.sequence)",
                [model],
            )

    def rejections(self, after: int) -> list[Event]:
        """Return rejections after an event, oldest first."""
        with self.reading() as connection:
            return select_events(connection, "kind = 'reject' and sequence > %s", [after])

    def changes(self, model: str) -> list[Event]:
        """Return promotions and rollbacks of a model, oldest first."""
        with self.reading() as connection:
            return select_events(connection, f"kind in ('promote', 'roll_back') and {OF_MODEL}", [model])

    def named_artefacts(self) -> set[str]:
        """Return all digests that requests and their evidence contain.

        These are the artifact digests of models and encoders, and other digests in the evidence, such as those of
        tables.
        """
        with self.reading() as connection:
            rows = connection.execute(
                "select digest from platform.approval_requests union select champion_digest"
                " from platform.approval_requests where champion_digest is not null"
                " union select (regexp_matches(evidence::text, '[0-9a-f]{64}', 'g'))[1] from platform.approval_requests"
            )
            return {digest for (digest,) in rows}

    def named_tables(self) -> dict[str, set[int]]:
        """Return the table versions that the evidence of requests names, by table."""
        found: dict[str, set[int]] = {}
        with self.reading() as connection:
            for table, version in connection.execute(
                "select key, value::bigint from platform.approval_requests,"
                " jsonb_each_text(case jsonb_typeof(evidence -> 'tables') when 'object' then evidence -> 'tables'"
                " else '{}' end) where value ~ '^[0-9]{1,18}$'"
            ):
                found.setdefault(table, set()).add(version)
        return found

    def head(self) -> str | None:
        """Return the head of the chain of events, as `Event.head`; None before the first event."""
        return self.heads().get("events")

    def heads(self) -> dict[str, str]:
        """Return the heads of the chains `events` and `journal`, each as `sequence:hash`. Empty chains are left out."""
        with self.reading() as connection:
            return {
                chain: str(row[0])
                for chain, table in CHAINS.items()
                for row in connection.execute(
                    f"select sequence || ':' || hash from platform.{table} order by sequence desc limit 1".encode()  # noqa: S608 - constants
                )
            }

    def has_own_events(self) -> bool:
        """Return whether the ledger has events that were written after migration 0004."""
        with self.reading() as connection:
            row = connection.execute(
                "select coalesce(max(sequence), 0) > coalesce((select (details ->> 'sequence')::bigint"
                " from platform.approval_journal where kind = 'adoption'), 0) from platform.approval_events"
            ).fetchone()
        return row == (True,)

    def contains(self, heads: Mapping[str, str]) -> bool:
        """Return whether the chains contain all of the given heads, which `heads` returned earlier."""
        with self.reading() as connection:
            return all(
                chain in CHAINS
                and connection.execute(
                    f"select from platform.{CHAINS[chain]} where sequence || ':' || hash = %s".encode(), [head]
                ).fetchone()
                is not None
                for chain, head in heads.items()
            )

    def frozen(self, number: int) -> Frozen:
        """Return a request and its events, as the texts that are hashed.

        Raises
        ------
        NoSuchRequest
            No request has this number.
        """
        with self.reading() as connection:
            select_request(connection, number)
            return read_frozen(connection, number)

    def audit(self, heads: Mapping[str, str] | None = None) -> list[Finding]:
        """Return the alterations of the ledger. The hashes are recomputed in Python, not by the database.

        Parameters
        ----------
        heads
            Copies of the chains' heads that are stored outside the database. The keys name the place of each copy. The
            values are `sequence:hash` for the chain of events, and `journal sequence:hash` for the journal. The copies
            reveal a chain whose last rows were deleted or whose hashes were recomputed.
        """
        with self.reading() as connection:
            written = read_ledger(connection)
        return findings(written, heads or {})

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Open a transaction for queries.

        Raises
        ------
        LedgerError
            The database does not respond.
        """
        with self._transaction() as connection:
            yield connection

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        import psycopg

        try:
            with self._connect() as connection, connection.transaction():
                yield connection
        except psycopg.Error as error:
            raise LedgerError(
                f"PostgreSQL failed ({first_line(error)}); nothing was recorded. Run `platform-assets "
                "doctor` to see what is reachable"
            ) from error


def select_now(connection: Connection) -> datetime:
    """Return the time of the database's clock."""
    row = connection.execute("select clock_timestamp()").fetchone()
    assert row is not None  # noqa: S101 - narrows the type
    moment: datetime = row[0]
    return moment


def select_request(connection: Connection, number: int) -> Request:
    """Return one request.

    Raises
    ------
    NoSuchRequest
        No request has this number.
    """
    found = select_requests(connection, "r.id = %s", [number])
    if not found:
        raise NoSuchRequest(f"there is no request {number}; `platform-assets decide list --all` shows those that exist")
    return found[0]


def select_requests(connection: Connection, where: str, parameters: list[Any]) -> list[Request]:
    """Return the requests that meet an SQL condition on `r` (request) and `latest` (its last event), newest first."""
    rows = connection.execute(f"{_REQUESTS} where {where} order by r.id desc".encode(), parameters)
    return [Request(*[*row[:9], policy_from_json(row[9]), *row[10:14], State(row[14])]) for row in rows]


def select_events(connection: Connection, where: str, parameters: list[Any]) -> list[Event]:
    """Return the events that meet an SQL condition, oldest first."""
    rows = connection.execute(f"{_EVENTS} where {where} order by sequence".encode(), parameters)
    return [Event(*[*row[:2], State(row[2]), *row[3:]]) for row in rows]


def select_champions(connection: Connection, model: str) -> list[Promotion]:
    """Return the champion and the previous champion; fewer items if a model had fewer than two champions."""
    rows = connection.execute(_CHAMPIONS, [model]).fetchall()
    return [Promotion(*[*row[:5], *select_events(connection, "sequence = %s", [row[5]])]) for row in rows]


def select_stale(connection: Connection, request: Request) -> str | None:
    """Return why an approved request cannot be promoted any more; None if it can."""
    now = select_now(connection)
    return why_stale(request, now, next(iter(select_champions(connection, request.model)), None))
