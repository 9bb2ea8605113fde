"""Benchmark of look-ups of one row by key on an event loop: `database/async_reads.py` compared with asyncpg.

asyncpg is measured in its two fastest configurations: one prepared statement on a persistent connection, which runs one
statement at a time, and its connection pool, which also reuses prepared statements. The platform and asyncpg are
measured alternately. They look up the same rows in the same order, on the same server and with the same type of event
loop. A ratio of 2 means twice as many look-ups per second as asyncpg's pool.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from itertools import cycle
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import uvicorn
from pydantic import SecretStr

from platform_assets.database.async_reads import AsyncReads
from platform_assets.services import open_services
from platform_assets.settings import Settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from platform_assets.database.connections import Database

ROWS = 1_000
ROUNDS = 5
SECONDS = 1.0
AT_A_TIME = (1, 4, 16, 64)
POOLED = 10
OURS, KEPT, POOL = "async_reads.py", "asyncpg, kept connection", "asyncpg, pool"
COLUMNS = "client_id, as_of, loan_id, nb_previous_loans, avg_amount_loans_previous, age, years_on_the_job, flag_own_car"
QUERY = f"select {COLUMNS} from credit_risk.client_features where client_id = "

LookUp = Callable[[int], Awaitable["Mapping[str, Any]"]]


def run(rounds: int = ROUNDS) -> None:
    """Measure the platform and asyncpg on a new embedded server."""
    with tempfile.TemporaryDirectory(prefix="benchmark-", ignore_cleanup_errors=True) as name:
        services = open_services(Settings(home=Path(name), database_url=SecretStr("")))
        try:
            with services.database.pooled() as connection:
                connection.execute(
                    f"insert into credit_risk.client_features ({COLUMNS}) "
                    f"select n, '2021-01-01', n, 3, 123.25, 38, 9, 1 from generate_series(1, {ROWS}) n".encode()
                )
                connection.commit()
            # Use the same event loop as the service.
            with asyncio.Runner(loop_factory=uvicorn.Config("none").get_loop_factory()) as runner:
                runner.run(_measure(services.database, rounds))
        finally:
            services.close()


async def _measure(database: Database, rounds: int) -> None:
    async with _ways(database) as ways:
        await _require_same_rows(ways)
        print(f"\nsingle-row look-ups per second; medians of {rounds} measurements of {SECONDS:g} s, after a warm-up")
        print(f"{'at a time':>10}" + "".join(f"{name:>28}" for name in ways) + f"{'ratio to the pool':>20}")
        for clients in AT_A_TIME:
            found: dict[str, list[float]] = {name: [] for name in ways}
            for number in range(rounds + 1):
                for name, look_up in ways.items():
                    rate = await _rate(look_up, clients)
                    found[name] += [rate] if number else []
            middle = {name: median(rates) for name, rates in found.items()}
            shown = "".join(f"{rate:28,.0f}" for rate in middle.values())
            print(f"{clients:10}{shown}{middle[OURS] / middle[POOL]:20.1f}")


@asynccontextmanager
async def _ways(database: Database) -> AsyncIterator[dict[str, LookUp]]:
    import asyncpg

    url = database.url("platform").set(drivername="postgresql", query={}).render_as_string(hide_password=False)
    reads = AsyncReads(database.connect_to_read)
    kept = await asyncpg.connect(url)
    statement, one_at_a_time = await kept.prepare(f"{QUERY}$1"), asyncio.Lock()

    async def ours(client: int) -> Mapping[str, Any]:
        [row] = await reads.rows(f"{QUERY}%s".encode(), [client])
        return row

    async def by_kept_connection(client: int) -> Mapping[str, Any]:
        async with one_at_a_time:
            return dict(await statement.fetchrow(client))

    async with asyncpg.create_pool(url, min_size=POOLED, max_size=POOLED) as pool:

        async def by_pool(client: int) -> Mapping[str, Any]:
            return dict(await pool.fetchrow(f"{QUERY}$1", client))

        yield {OURS: ours, KEPT: by_kept_connection, POOL: by_pool}
    await kept.close()
    reads.close()


async def _rate(look_up: LookUp, clients: int) -> float:
    """Return the total look-ups per second of the clients. Each client waits for its row before its next query."""
    numbers, done = cycle(range(1, ROWS + 1)), 0
    began = time.perf_counter()

    async def ask() -> None:
        nonlocal done
        while time.perf_counter() < began + SECONDS:
            await look_up(next(numbers))
            done += 1

    await asyncio.gather(*(ask() for _ in range(clients)))
    return done / (time.perf_counter() - began)


async def _require_same_rows(ways: Mapping[str, LookUp]) -> None:
    rows: Sequence[Mapping[str, Any]] = [await look_up(7) for look_up in ways.values()]
    assert all(row == rows[0] for row in rows), rows


if __name__ == "__main__":
    run(*map(int, sys.argv[1:]))
