"""Records of a landing zone's files in PostgreSQL: which contents have landed, and which files the zone lists.

`landing_files` has one row for all files with the same content, and is authoritative. `landing_names` is a cache with a
row per listed file: when its size and marks (see `Look`) were first seen, and the digest of its content, so that an
unchanged file is not read again.
"""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from platform_assets.landing.zone_folder import Look

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager
    from datetime import datetime, timedelta

    import psycopg

    Connect = Callable[[], AbstractContextManager[psycopg.Connection[Any]]]

State = Literal["found", "landed", "processed", "set_aside"]

# Serialise the writers of a zone. They would deadlock otherwise, because they change many rows in different orders.
_TURN = "select pg_advisory_xact_lock(hashtextextended('platform.landing_names ' || %s, 0))"
_REMEMBER = """
insert into platform.landing_names (zone, name, size, marks, seen_at)
select %s, name, size, marks::jsonb, case when is_complete then '-infinity' else clock_timestamp() end
from unnest(%s::text[], %s::bigint[], %s::text[], %s::boolean[]) as looks(name, size, marks, is_complete)
on conflict (zone, name) do update
set size = excluded.size, marks = excluded.marks, seen_at = excluded.seen_at, digest = null, problem = null
"""
_UNREAD = """
select name, size, marks from platform.landing_names
where zone = %s and digest is null and seen_at <= clock_timestamp() - make_interval(secs => %s)
order by problem is not null, seen_at, name
"""
_FOUND = """
insert into platform.landing_files as known (zone, digest, names, size)
select %s, digest, array_agg(name order by place), min(size)
from unnest(%s::text[], %s::text[], %s::bigint[]) with ordinality as read(name, digest, size, place)
group by digest
on conflict (zone, digest) do update
set names = known.names || array(select name from unnest(excluded.names) as name where name <> all (known.names)),
    size = excluded.size, reason = case when known.state = 'found' then null else known.reason end
where not excluded.names <@ known.names or known.size is null or (known.state = 'found' and known.reason is not null)
"""
_DIGESTED = """
update platform.landing_names as listed set digest = read.digest, problem = null
from unnest(%s::text[], %s::text[], %s::bigint[], %s::text[]) as read(name, digest, size, marks)
where zone = %s and listed.name = read.name and listed.size = read.size and listed.marks = read.marks::jsonb
"""
_IS_THERE = "exists (select from platform.landing_names n where n.zone = f.zone and n.digest = f.digest)"
_COUNT = f"""
select count(*) filter (where state = 'found' and (batch is not null or {_IS_THERE})),
    count(*) filter (where state = 'found' and batch is null and not {_IS_THERE}),
    count(*) filter (where state = 'landed'), count(*) filter (where state = 'set_aside')
from platform.landing_files f where zone = %s and state <> 'processed'
"""  # noqa: S608 - only constants
_COUNT_UNREAD = """
select count(*) filter (where problem is null), min(name) filter (where problem is null),
    count(problem), min(problem)
from platform.landing_names where zone = %s and digest is null
"""
_CLAIM = f"""
with waiting as (
    select digest, coalesce(size, 0) as size, sum(coalesce(size, 0)) over (order by first_seen_at, digest) as bytes
    from platform.landing_files f where zone = %s and state = 'found' and batch is null and {_IS_THERE}
    order by first_seen_at, digest limit %s
)
update platform.landing_files f set batch = %s, batch_at = clock_timestamp(), run = %s
from waiting where f.zone = %s and f.digest = waiting.digest and waiting.bytes - waiting.size < %s
"""  # noqa: S608 - only constants
_OF_BATCH = """
select f.digest, f.batch_at, n.name, n.size, n.marks
from platform.landing_files f left join platform.landing_names n on n.zone = f.zone and n.digest = f.digest
where f.zone = %s and f.batch = %s and f.state = 'found' order by f.first_seen_at, f.digest, n.name
"""
_PROCESSED_BEFORE = """
select n.name, n.size, n.marks from platform.landing_names n
join platform.landing_files f on f.zone = n.zone and f.digest = n.digest
where f.zone = %s and f.state = 'processed' and greatest(f.first_seen_at, n.seen_at) < now() - %s
"""
_FINISH = """
update platform.landing_files set run = %s,
    state = case when digest = any (%s) then 'landed' else 'set_aside' end,
    reason = case when digest = any (%s) then null else %s end
where zone = %s and batch = %s and state = 'found'
"""
_SET_ASIDE = """
update platform.landing_files f set state = 'set_aside', reason = given.reason, run = %s, batch = null
from unnest(%s::text[], %s::text[]) as given(digest, reason)
where f.zone = %s and f.digest = given.digest and f.state = 'found'
"""
_RELEASE = """
update platform.landing_files f set batch = null, batch_at = null, reason = given.reason
from unnest(%s::text[], %s::text[]) as given(digest, reason)
where f.zone = %s and f.digest = given.digest and f.state = 'found'
"""
_LOOK_AGAIN = """
update platform.landing_names n set digest = null, problem = given.reason
from unnest(%s::text[], %s::text[]) as given(digest, reason) where n.zone = %s and n.digest = given.digest
"""
_ADOPT = """
insert into platform.landing_files as known (zone, digest, names, state, reason, batch, run)
select %s, digest, array[name], %s, %s, %s, %s from unnest(%s::text[], %s::text[]) as rows(digest, name)
on conflict (zone, digest) do update
set state = excluded.state, reason = excluded.reason, batch = excluded.batch, run = excluded.run
where known.state = 'found'
"""
UNUSABLE = "none of its rows can be used; they are in the quarantine"


@dataclass(frozen=True)
class Waiting:
    """Counts of the files of a zone, for messages.

    Attributes
    ----------
    found
        Contents that wait for a run.
    absent
        Contents that were removed from the zone before a run took them.
    landed
        Unprocessed contents whose rows are in the lake.
    set_aside
        Contents that cannot be used.
    unread
        Files that are not settled, or whose content was not read yet.
    unread_name
        Name of one of the unread files.
    unreadable
        Files that cannot be read.
    problem
        Why one of the unreadable files cannot be read.
    """

    found: int
    absent: int
    landed: int
    set_aside: int
    unread: int
    unread_name: str | None
    unreadable: int
    problem: str | None

    def with_problems(self, problems: Mapping[str, str]) -> Waiting:
        """Return the counts, including files that could not be listed. `problems` maps their names to the reasons."""
        if not problems:
            return self
        name, reason = min(problems.items())
        return replace(self, unreadable=self.unreadable + len(problems), problem=self.problem or f"{name} {reason}")


@dataclass(frozen=True)
class ZoneFile:
    """Files with the same content, which is to be loaded once.

    Attributes
    ----------
    digest
        SHA-256 of the content.
    looks
        Listed metadata of each file that has this content now, by file name.
    """

    digest: str
    looks: Mapping[str, Look]


@dataclass(frozen=True)
class LandedFile:
    """Files of a zone with the same content, and the state of that content.

    Attributes
    ----------
    digest
        SHA-256 of the content.
    names
        Every file name with this content, in the order of discovery.
    size
        Size in bytes; None if only the lake has a record of the file.
    first_seen_at
        Time at which the content was first read.
    state
        `found`, `landed`, `processed` or `set_aside`.
    reason
        Why a `set_aside` content cannot be used, or why a `found` content cannot be read.
    run
        Dagster run that last changed the state.
    """

    digest: str
    names: Sequence[str]
    size: int | None
    first_seen_at: datetime
    state: State
    reason: str | None
    run: str | None


_FILE = "select digest, names, size, first_seen_at, state, reason, run from platform.landing_files"


class ZoneFiles:
    """The records of the files of one zone.

    Parameters
    ----------
    connect
        Context manager that yields a connection to the platform's database and rolls back uncommitted work.
    zone
        Name of the zone.
    """

    def __init__(self, connect: Connect, zone: str) -> None:
        self._connect = connect
        self.zone = zone

    @contextmanager
    def _writing(self) -> Iterator[psycopg.Connection[Any]]:
        with self._connect() as connection, connection.transaction():
            connection.execute(_TURN, [self.zone])
            yield connection

    def _rows(self, query: str, *values: Any) -> list[Any]:
        with self._connect() as connection:
            return connection.execute(query.encode(), values).fetchall()

    # What the zone lists

    def listed(self) -> dict[str, Look]:
        """Return the files that the last listing found."""
        rows = self._rows("select name, size, marks from platform.landing_names where zone = %s", self.zone)
        return {name: Look(size, marks) for name, size, marks in rows}

    def remember(self, looks: Mapping[str, Look], gone: Collection[str], complete: Collection[str] = ()) -> None:
        """Store new and changed files, and delete the records of removed files.

        Parameters
        ----------
        looks
            The new and changed files. The time for which they must be unchanged begins now.
        gone
            Names that are not listed any more.
        complete
            Names of the files that the platform wrote itself. They are treated as settled immediately.
        """
        if not looks and not gone:
            return
        names = sorted(looks)
        sizes, marks = [looks[name].size for name in names], [json.dumps(looks[name].marks) for name in names]
        with self._writing() as connection:
            connection.execute(_REMEMBER, [self.zone, names, sizes, marks, [name in complete for name in names]])
            connection.execute(
                "delete from platform.landing_names where zone = %s and name = any (%s)", [self.zone, list(gone)]
            )

    def unread(self, settle_seconds: float) -> dict[str, Look]:
        """Return settled files whose content was not read yet, oldest first, and files with a problem last."""
        return {name: Look(size, marks) for name, size, marks in self._rows(_UNREAD, self.zone, settle_seconds)}

    def add(self, read: Mapping[str, tuple[Look, str]]) -> None:
        """Store the digests of files, by name, together with their listed metadata."""
        if not read:
            return
        names, digests = list(read), [digest for _, digest in read.values()]
        sizes, marks = zip(*((look.size, json.dumps(look.marks)) for look, _ in read.values()), strict=True)
        with self._writing() as connection:
            connection.execute(_FOUND, [self.zone, names, digests, list(sizes)])
            connection.execute(_DIGESTED, [names, digests, list(sizes), list(marks), self.zone])

    def note_problems(self, problems: Mapping[str, str]) -> None:
        """Store why files cannot be read. `problems` maps their names to the reasons."""
        if not problems:
            return
        with self._writing() as connection:
            connection.execute(
                "update platform.landing_names n set problem = given.reason"
                " from unnest(%s::text[], %s::text[]) as given(name, reason) where n.zone = %s and n.name = given.name",
                [list(problems), list(problems.values()), self.zone],
            )

    def waiting(self) -> Waiting:
        """Count the unread and unreadable files, and the distinct file contents in each state except `processed`."""
        [counts] = self._rows(_COUNT, self.zone)
        [unread] = self._rows(_COUNT_UNREAD, self.zone)
        return Waiting(*counts, *unread)

    # Batches; the caller holds the zone's lock

    def batches(self) -> tuple[int, int]:
        """Return the number of the last batch with landed files, and the number of the last batch in any state."""
        query = (
            "select coalesce(max(batch) filter (where state in ('landed', 'processed')), 0), coalesce(max(batch), 0)"
            " from platform.landing_files where zone = %s"
        )
        [(landed, last)] = self._rows(query, self.zone)
        return landed, last

    def unfinished(self) -> list[int]:
        """Return the numbers of batches that a run has begun and not finished."""
        query = (
            "select distinct batch from platform.landing_files"
            " where zone = %s and state = 'found' and batch is not null order by batch"
        )
        return [number for (number,) in self._rows(query, self.zone)]

    def claim(self, batch: int, most_files: int, most_bytes: int, run: str) -> None:
        """Assign the oldest waiting files to a batch: at least one file, within the limits of files and bytes."""
        with self._writing() as connection:
            connection.execute(_CLAIM.encode(), [self.zone, most_files, batch, run, self.zone, most_bytes])

    def of_batch(self, batch: int) -> tuple[datetime | None, list[ZoneFile]]:
        """Return the time at which a batch was created, and its unfinished files."""
        looks: dict[str, dict[str, Look]] = {}
        at = None
        for digest, batch_at, name, size, marks in self._rows(_OF_BATCH, self.zone, batch):
            at = batch_at
            found = looks.setdefault(digest, {})
            if name is not None:
                found[name] = Look(size, marks)
        return at, [ZoneFile(digest, found) for digest, found in looks.items()]

    def finish(self, batch: int, usable: Collection[str], run: str) -> None:
        """Give the files of a batch the state `landed`, or `set_aside` if they have no usable row."""
        digests = sorted(usable)
        with self._writing() as connection:
            connection.execute(_FINISH, [run, digests, digests, UNUSABLE, self.zone, batch])

    def set_aside(self, reasons: Mapping[str, str], run: str) -> None:
        """Give unusable contents the state `set_aside`. `reasons` maps their digests to the reasons."""
        if reasons:
            with self._writing() as connection:
                connection.execute(_SET_ASIDE, [run, list(reasons), list(reasons.values()), self.zone])

    def release(self, reasons: Mapping[str, str]) -> None:
        """Remove contents that are currently unreadable from their batch. A later scan reads their files again.

        `reasons` maps the digests of these contents to the reasons.
        """
        if reasons:
            given = [list(reasons), list(reasons.values()), self.zone]
            with self._writing() as connection:
                connection.execute(_RELEASE, given)
                connection.execute(_LOOK_AGAIN, given)

    def find_again(self, after: int) -> int:
        """Mark files as found if their batch number is above `after`, and return the number of marked files.

        The lake lost the rows of these files.
        """
        with self._writing() as connection:
            return connection.execute(
                "update platform.landing_files set state = 'found', batch = null, batch_at = null"
                " where zone = %s and state in ('landed', 'processed') and batch > %s",
                [self.zone, after],
            ).rowcount

    def adopt(self, landed: Mapping[str, str], unusable: Mapping[str, str], batch: int, run: str) -> None:
        """Record contents as `landed` or `set_aside` if their rows are in the lake, but PostgreSQL does not show this.

        Parameters
        ----------
        landed
            Name of each file; the keys are digests.
        unusable
            Name of each file with rows only in the quarantine; the keys are digests.
        batch
            Number of the last batch in the lake.
        run
            Id of the Dagster run.
        """
        with self._writing() as connection:
            for state, reason, files in (("landed", None, landed), ("set_aside", UNUSABLE, unusable)):
                digests, names = list(files), list(files.values())
                connection.execute(_ADOPT, [self.zone, state, reason, batch, run, digests, names])

    def processed_before(self, age: timedelta) -> dict[str, Look]:
        """Return the files in the zone whose content has been processed and was first seen more than `age` ago."""
        return {name: Look(size, marks) for name, size, marks in self._rows(_PROCESSED_BEFORE, self.zone, age)}

    # Processing of landed files

    def landed(self, limit: int | None = None) -> list[LandedFile]:
        """Return contents that have landed and are not processed, the oldest first."""
        query = f"{_FILE} where zone = %s and state = 'landed' order by first_seen_at, digest limit %s"
        return [LandedFile(*row) for row in self._rows(query, self.zone, limit)]

    def find(self, name_or_digest: str) -> list[LandedFile]:
        """Return the contents with this digest or file name, newest first."""
        query = f"{_FILE} where zone = %s and (digest = %s or names @> array[%s]) order by first_seen_at desc, digest"
        return [LandedFile(*row) for row in self._rows(query, self.zone, name_or_digest, name_or_digest)]

    def mark_processed(self, connection: psycopg.Connection[Any], digests: Collection[str], run: str) -> set[str]:
        """Mark landed contents as processed in the caller's transaction. Return those that were not marked before."""
        query = (
            "update platform.landing_files set state = 'processed', run = %s"
            " where zone = %s and digest = any (%s) and state = 'landed' returning digest"
        )
        return {digest for (digest,) in connection.execute(query, [run, self.zone, sorted(digests)])}
