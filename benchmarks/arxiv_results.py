"""Benchmark of `GET /results` with a million stored results: the first, a middle and the last page.

The time of a page covers the whole request, without the network. For comparison, the benchmark also times an SQL
statement that finds the same rows with OFFSET.
"""

from __future__ import annotations

import tempfile
import time
from contextlib import closing
from functools import partial
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from starlette.testclient import TestClient

from platform_assets.app import application
from platform_assets.services import open_services
from platform_assets.settings import Settings
from platform_assets.web.api_keys import Keys

if TYPE_CHECKING:
    from collections.abc import Callable

    import psycopg

    from platform_assets.services import Services

RESULTS, PER_QUERY, ITEMS = 1_000_000, 100, 10
ROUNDS = 51
LIMIT_MILLISECONDS = 20
FILL = f"""
insert into arxiv_harvest.queries (query, server, asked_at, status, total_results, num_results)
select 'ti:"paper ' || n || '"', 'bench', now(), 200, {PER_QUERY}, {PER_QUERY}
from generate_series(1, {RESULTS // PER_QUERY}) n;
insert into arxiv_harvest.papers (digest, arxiv_id, version, title, authors, journal, categories, stored_at)
select n, '9901.' || n, 1, 'A title of usual length, number ' || n, array['Ada Maestro', 'Bo Novak'],
    case when n %% 4 = 0 then 'Invented Letters ' || n end, array['cs.LG'], now()
from generate_series(1, {RESULTS // 2}) n;
insert into arxiv_harvest.results (number, query_id, position, paper_id, stored_at)
select n, (select min(id) from arxiv_harvest.queries) + (n - 1) / {PER_QUERY}, (n - 1) %% {PER_QUERY},
    (select min(id) from arxiv_harvest.papers) + n %% {RESULTS // 2}, now()
from generate_series(1, {RESULTS}) n;
insert into arxiv_harvest.result_count (id, results) values (1, {RESULTS});
"""
OFFSET = f"""
select p.authors, p.title, p.journal from arxiv_harvest.results r join arxiv_harvest.papers p on p.id = r.paper_id
order by r.stored_at, r.number limit {ITEMS} offset %s
"""


def run() -> None:
    """Print the times."""
    # Ignore errors on removal, because the embedded server may still be stopping and using its folder.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        home = Path(folder) / "home"
        with closing(open_services(Settings(home=home, rate_limit="off"))) as services:
            _measure(services)


def _measure(services: Services) -> None:
    with services.database.connect("platform") as connection:
        for statement in FILL.strip().split(";\n"):
            connection.execute(statement.replace("%%", "%").encode())
        assert isinstance(services.keys, Keys)
        key = services.keys.add("bench", "bench", {"read"})
        client = TestClient(application(services), headers={"Authorization": f"Bearer {key}"})
        print(f"\n/results over {RESULTS:,} stored results, {ITEMS} per page, medians of {ROUNDS}, milliseconds")
        for place, page in {"first": 0, "middle": RESULTS // ITEMS // 2, "last": RESULTS // ITEMS - 1}.items():
            params = {"page": str(page), "items_per_page": str(ITEMS)}
            assert len(client.get("/results", params=params).json()) == ITEMS
            taken = _milliseconds(partial(client.get, "/results", params=params), ROUNDS)
            offset = _milliseconds(partial(_by_offset, connection, page * ITEMS), 3)
            told = "ok" if taken < LIMIT_MILLISECONDS else f"slower than {LIMIT_MILLISECONDS} ms"
            print(f"  {place:8} page {page:>7,}: {taken:7.2f} ({told}); SQL with OFFSET {offset:8.2f}")


def _by_offset(connection: psycopg.Connection[Any], rows: int) -> None:
    connection.execute(OFFSET.encode(), [rows]).fetchall()


def _milliseconds(work: Callable[[], object], rounds: int) -> float:
    def once() -> float:
        start = time.perf_counter()
        work()
        return time.perf_counter() - start

    return 1_000 * median(once() for _ in range(rounds))


if __name__ == "__main__":
    run()
