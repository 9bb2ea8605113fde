"""The ledger's audit: finds what was altered after it was written.

It computes the hashes itself, without the database's functions.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from platform_assets.approval.hash_chain import FIRST_HASH, FROZEN_EVENTS, FROZEN_REQUESTS, digest_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import psycopg

    Connection = psycopg.Connection[Any]

_SHOWN = 80
_EVERY = {"request": None}
_PLOTS = """
select r.id, named.key, p.png is not null, coalesce(encode(sha256(p.png), 'hex') = named.value, false)
from platform.approval_requests r cross join lateral jsonb_each_text(r.plots) named
left join platform.approval_plots p on p.request_id = r.id and p.name = named.key order by 1, 2
"""


@dataclass(frozen=True)
class Finding:
    """Something in the ledger that is not as it was written.

    Attributes
    ----------
    row
        Which: `event 7`, `request 3`, `plot roc.png of request 3`.
    told
        What is wrong with it.
    """

    row: str
    told: str


@dataclass(frozen=True)
class WrittenLedger:
    """All that the ledger holds, read at one moment.

    Attributes
    ----------
    digests
        Of the requests, by number.
    events
        Oldest first, as the texts of which their hashes are made.
    plots
        Number of the request, file name, whether the plot is there, and whether it is the one that was frozen.
    """

    digests: Mapping[int, str]
    events: list[tuple[str | None, ...]]
    plots: list[tuple[int, str, bool, bool]]


def read_ledger(connection: Connection) -> WrittenLedger:
    """Read the whole ledger; the first statement of a transaction."""
    # One moment for all of it.
    connection.execute("set transaction isolation level repeatable read")
    return WrittenLedger(
        digests={int(row[0]): digest_of(row) for row in connection.execute(FROZEN_REQUESTS, _EVERY)},
        events=connection.execute(FROZEN_EVENTS, _EVERY).fetchall(),
        plots=connection.execute(_PLOTS).fetchall(),
    )


def findings(written: WrittenLedger, heads: Mapping[str, str]) -> list[Finding]:
    """Return what is not as it was written.

    Parameters
    ----------
    written
        The ledger.
    heads
        Ends of the chain that somebody else kept, as `Event.head`, by who that is.
    """
    return [
        *_chain_findings(written.events, written.digests),
        *_plot_findings(written.plots),
        *_head_findings(written.events, heads),
    ]


def _chain_findings(events: list[tuple[str | None, ...]], digests: Mapping[int, str]) -> list[Finding]:
    findings: list[Finding] = []
    altered: Counter[int] = Counter()
    expected, previous = 1, FIRST_HASH
    for event in events:
        sequence, request = int(event[0] or 0), int(event[1] or 0)
        request_digest, previous_hash, hashed = event[-3:]
        if sequence != expected:
            missing = f"event {expected}" if sequence == expected + 1 else f"events {expected} to {sequence - 1}"
            findings.append(Finding(missing, "missing: somebody deleted it"))
        elif previous_hash != previous:
            findings.append(Finding(f"event {sequence}", "does not follow the one before: one of both was altered"))
        if digest_of(event[:-1]) != hashed:
            findings.append(Finding(f"event {sequence}", "altered after it was written"))
        if request not in digests:
            findings.append(Finding(f"request {request}", f"missing, and event {sequence} is of it"))
        elif digests[request] != request_digest and not altered[request]:
            altered[request] += 1
            findings.append(Finding(f"request {request}", f"altered after event {sequence} was written"))
        expected, previous = sequence + 1, hashed or ""
    seen = {int(event[1] or 0) for event in events}
    return findings + [
        Finding(f"request {number}", "none of its events is there") for number in digests if number not in seen
    ]


def _plot_findings(plots: list[tuple[int, str, bool, bool]]) -> list[Finding]:
    return [
        Finding(
            f"plot {name} of request {number}",
            "its picture is not the one that was frozen" if there else "it is missing",
        )
        for number, name, there, same in plots
        if not same
    ]


def _head_findings(events: list[tuple[str | None, ...]], heads: Mapping[str, str]) -> Iterator[Finding]:
    chain = {int(event[0] or 0): str(event[-1]) for event in events}
    for who, head in heads.items():
        sequence, _, hashed = head.partition(":")
        if not sequence.isdecimal():
            yield Finding(who, f"names no event of the ledger: {head[:_SHOWN]!r}")
            continue
        found = chain.get(int(sequence))
        if found is None:
            end = ": the end of the ledger was cut off" if int(sequence) > max(chain, default=0) else ""
            yield Finding(f"event {sequence}", f"{who} has seen it, and it is gone{end}")
        elif found != hashed:
            told = f"{who} has seen another one: the ledger was written anew from there, or earlier"
            yield Finding(f"event {sequence}", told)
