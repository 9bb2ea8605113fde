"""Audit of the ledger: find rows that were altered, deleted or added.

The audit computes all hashes in Python, without the database's functions.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from platform_assets.approval.hash_chain import (
    FIRST_HASH,
    FROZEN_EVENTS,
    FROZEN_JOURNAL,
    FROZEN_REQUESTS,
    digest_of,
)
from platform_assets.approval.journal_audit import (
    adopted_until,
    adoption_findings,
    journal_findings,
    projection_findings,
    proof_findings,
    read_rows,
)
from platform_assets.approval.rule_audit import read_requests, rule_findings
from platform_assets.approval.structure_audit import read_definitions, read_grants, structure_findings

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    import psycopg

    from platform_assets.approval.rule_audit import RequestFacts

    Connection = psycopg.Connection[Any]
    Texts = tuple[str | None, ...]

JOURNAL = "journal "
"""Prefix of the journal's chain heads. A head without this prefix belongs to the chain of events."""
_SHOWN = 80
_NUMBER = re.compile("[0-9]{1,18}")
_EVERY = {"request": None}
# Use a full join, because a plot can be missing, or be stored without a request that names it.
_PLOTS = """
select coalesce(r.id, p.request_id), coalesce(r.key, p.name), p.png is not null, r.id is not null,
    coalesce(encode(sha256(p.png), 'hex') = r.value, false)
from (
    select asked.id, named.key, named.value
    from platform.approval_requests asked cross join lateral jsonb_each_text(asked.plots) named
) r full join platform.approval_plots p on p.request_id = r.id and p.name = r.key order by 1, 2
"""
_TRIGGERS = """
select c.relname, t.tgname from pg_trigger t join pg_class c on c.oid = t.tgrelid
join pg_namespace n on n.oid = c.relnamespace
where n.nspname = 'platform' and not t.tgisinternal and t.tgenabled <> 'O' order by 1, 2
"""
_PLOT_FAULTS = {
    (False, True): "is missing",
    (True, False): "was added later: its request does not name it",
    (True, True): "was altered: its digest differs from the one in its request",
}


@dataclass(frozen=True)
class Finding:
    """A row of the ledger that was altered, deleted or added.

    Attributes
    ----------
    row
        The row: `event 7`, `request 3`, `plot roc.png of request 3`.
    told
        Description of the fault.
    """

    row: str
    told: str


@dataclass(frozen=True)
class WrittenLedger:
    """The whole ledger, read in one snapshot.

    Attributes
    ----------
    digests
        Digest of each request, by number.
    events, journal
        Rows of the chains, oldest first, as the texts that are hashed.
    plots
        For each plot: number of the request, file name, whether the plot exists, whether the request names it, and
        whether its digest equals the digest in the request.
    rows
        Rows that need journal entries, by kind and subject; see `journal_audit.read_rows`.
    disabled
        Table and name of each disabled trigger.
    requests
        Facts about each request that `rule_audit` needs, by number of the request.
    definitions
        Digest of each table and function of the ledger, by name.
    grants
        Rights that `migrate` does not grant. Each consists of the table or function, the role, and the right.
    """

    digests: Mapping[int, str]
    events: list[Texts]
    journal: list[Texts]
    plots: list[tuple[int, str, bool, bool, bool]]
    rows: Mapping[tuple[str, str], Mapping[str, Any]]
    disabled: list[tuple[str, str]]
    requests: Mapping[int, RequestFacts]
    definitions: Mapping[str, str]
    grants: list[tuple[str, str, str]]


def read_ledger(connection: Connection) -> WrittenLedger:
    """Read the whole ledger. This must be the first statement of a transaction."""
    connection.execute("set transaction isolation level repeatable read")
    connection.execute("set local search_path = pg_catalog, pg_temp")
    return WrittenLedger(
        digests={int(row[0]): digest_of(row) for row in connection.execute(FROZEN_REQUESTS, _EVERY)},
        events=connection.execute(FROZEN_EVENTS, _EVERY).fetchall(),
        journal=connection.execute(FROZEN_JOURNAL.encode()).fetchall(),
        plots=connection.execute(_PLOTS).fetchall(),
        rows=read_rows(connection),
        disabled=connection.execute(_TRIGGERS).fetchall(),
        requests=read_requests(connection),
        definitions=read_definitions(connection),
        grants=read_grants(connection),
    )


def findings(written: WrittenLedger, heads: Mapping[str, str]) -> list[Finding]:
    """Return the rows that were altered, deleted or added.

    Parameters
    ----------
    written
        The whole ledger, as read in one snapshot.
    heads
        Copies of the chains' heads; see `LedgerQueries.audit`.
    """
    found = [
        *_event_findings(written.events, written.digests),
        *_plot_findings(written.plots),
        *_chain_findings(written.journal, "journal entry"),
        *(Finding(*one) for one in journal_findings(written.journal, written.rows)),
        *(Finding(*one) for one in adoption_findings(written.events, written.journal)),
        *(Finding(*one) for one in projection_findings(written.events, written.rows)),
        *(Finding(*one) for one in proof_findings(written.events, written.journal, written.rows)),
        *(Finding(f"table {table}", f"its trigger {name} is disabled") for table, name in written.disabled),
        *(Finding(*one) for one in structure_findings(written.definitions, written.grants)),
    ]
    # Do not report rule violations of rows that are already reported as altered, because the alteration explains them.
    named = {one.row for one in found}
    for number, sequence, told in rule_findings(
        written.events, written.journal, written.requests, adopted_until(written.journal)
    ):
        if not named & {f"request {number}", f"event {sequence}"}:
            found.append(Finding(f"event {sequence}", told))
    for where, head in heads.items():
        is_journal = head.startswith(JOURNAL)
        chain, noun = (written.journal, "journal entry") if is_journal else (written.events, "event")
        found += _head_findings(chain, noun, where, head.removeprefix(JOURNAL))
    return found


def _event_findings(events: list[Texts], digests: Mapping[int, str]) -> list[Finding]:
    found = _chain_findings(events, "event")
    altered: Counter[int] = Counter()
    for event in events:
        sequence, request, digest = event[0], int(event[1] or 0), event[-3]
        if request not in digests:
            found.append(Finding(f"request {request}", f"missing, although event {sequence} belongs to it"))
        elif digests[request] != digest and not altered[request]:
            altered[request] += 1
            found.append(Finding(f"request {request}", f"altered after event {sequence} was written"))
    seen = {int(event[1] or 0) for event in events}
    return found + [
        Finding(f"request {number}", "all of its events are missing") for number in digests if number not in seen
    ]


def _chain_findings(chain: list[Texts], noun: str) -> list[Finding]:
    """Return gaps, rows with a wrong `previous_hash`, and rows with a wrong `hash`."""
    found: list[Finding] = []
    expected, previous = 1, FIRST_HASH
    for row in chain:
        sequence, previous_hash, hashed = int(row[0] or 0), row[-2], row[-1]
        if sequence != expected:
            several = f"{'journal entries' if noun == 'journal entry' else 'events'} {expected} to {sequence - 1}"
            missing = f"{noun} {expected}" if sequence == expected + 1 else several
            found.append(Finding(missing, "missing: deleted after it was written"))
        elif previous_hash != previous:
            found.append(
                Finding(
                    f"{noun} {sequence}",
                    "its previous_hash differs from the hash of the row before it: one of the two was altered",
                )
            )
        if digest_of(row[:-1]) != hashed:
            found.append(Finding(f"{noun} {sequence}", "altered after it was written"))
        expected, previous = sequence + 1, hashed or ""
    return found


def _plot_findings(plots: Iterable[tuple[int, str, bool, bool, bool]]) -> Iterator[Finding]:
    for number, name, exists, named, same in plots:
        if not same:
            yield Finding(f"plot {name} of request {number}", _PLOT_FAULTS[exists, named])


def _head_findings(chain: list[Texts], noun: str, where: str, head: str) -> Iterator[Finding]:
    hashes = {int(row[0] or 0): str(row[-1]) for row in chain}
    sequence, _, hashed = head.partition(":")
    if not _NUMBER.fullmatch(sequence):
        yield Finding(where, f"has the malformed head {head[:_SHOWN]!r}")
        return
    found = hashes.get(int(sequence))
    if found is None:
        end = ": the end of the chain was deleted" if int(sequence) > max(hashes, default=0) else ""
        yield Finding(f"{noun} {sequence}", f"missing, although {where} contains its hash{end}")
    elif found != hashed:
        told = f"differs from the copy in {where}: the chain was rewritten at this point or earlier"
        yield Finding(f"{noun} {sequence}", told)
