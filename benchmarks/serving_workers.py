"""Benchmark of the service with 1, 2 and 4 workers: throughput, latency and CPU time of features and predictions.

The load generator, the database and the services share the processors of this machine, so more workers increase the
throughput only if the machine has idle processors. The CPU time per request depends less on idle processors. It
includes the supervisor and all workers, but not the database.

`python -m benchmarks.serving_workers ROUNDS CLIENTS` sets the number of rounds and the number of concurrent clients.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from benchmarks.live_platform import live_platform
from benchmarks.load import answer_to, request
from benchmarks.servers import Side, free_port, started, wait_until
from platform_assets.domains.credit_risk.model import MODEL

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from benchmarks.live_platform import Live
    from benchmarks.servers import Server, Turn

WORKERS = (1, 2, 4)
ROUNDS = 5
CLIENTS = 32
SECONDS = 2.0
PROGRAM = Path(sys.executable).with_name("platform-assets")


def run(rounds: int = ROUNDS, clients: int = CLIENTS) -> None:
    """Measure services with different numbers of workers, alternately, on one platform."""
    with tempfile.TemporaryDirectory(prefix="benchmark-", ignore_cleanup_errors=True) as name, ExitStack() as opened:
        folder = Path(name)
        live = opened.enter_context(live_platform(folder / "home"))
        if live.champion is None:
            raise RuntimeError("the model fails its gate on these loans, so there is no champion to serve")
        servers = {workers: opened.enter_context(_service(live, workers, folder)) for workers in WORKERS}
        headers = {"Authorization": f"Bearer {live.key}"}
        features = [request("GET", f"/features/credit-risk/{one}", headers=headers) for one in live.numbers]
        bodies = [json.dumps({"client_id": one}).encode() for one in live.numbers]
        predictions = [request("POST", "/predictions/credit-risk", body, headers) for body in bodies]
        for title, requests in (("features of one client", features), ("prediction for one client", predictions)):
            sides = {workers: Side(str(workers), server, requests) for workers, server in servers.items()}
            _print(title, clients, _in_turns(sides, clients, rounds))


def _in_turns(sides: dict[int, Side], clients: int, rounds: int) -> dict[int, list[Turn]]:
    for side in sides.values():
        side.take_turn(clients, SECONDS)
    turns: dict[int, list[Turn]] = {workers: [] for workers in sides}
    for _ in range(rounds):
        for workers, side in sides.items():
            # Each measurement opens new connections, because their distribution over the workers is random.
            turns[workers].append(side.take_turn(clients, SECONDS))
    return turns


def _print(title: str, clients: int, turns: dict[int, list[Turn]]) -> None:
    rounds = len(next(iter(turns.values())))
    print(f"\n{title}, {clients} concurrent clients; medians of {rounds} measurements of {SECONDS:g} s each")
    print(f"{os.cpu_count()} processors, load average {os.getloadavg()[0]:.1f}")
    print(f"{'workers':>8}{'per s':>8}{'p50 ms':>9}{'p99 ms':>9}{'CPU s per 1,000':>17}{'client CPU s':>14}")
    for workers, each in turns.items():
        print(
            f"{workers:8}{_middle(each, lambda turn: turn.answers.per_second):8.0f}"
            f"{_middle(each, lambda turn: turn.answers.p50):9.2f}{_middle(each, lambda turn: turn.answers.p99):9.2f}"
            f"{_middle(each, lambda turn: turn.server_milliseconds):17.2f}"
            f"{_middle(each, lambda turn: 1000 * turn.answers.asking_seconds / len(turn.answers.milliseconds)):14.2f}"
        )


def _middle(turns: Sequence[Turn], what: Callable[[Turn], float]) -> float:
    return median(map(what, turns))


@contextmanager
def _service(live: Live, workers: int, folder: Path) -> Iterator[Server]:
    """Start a service, and yield it when the champion is live in all workers."""
    port = free_port()
    environment = live.environment | {"PLATFORM_SERVICE_PORT": str(port)}
    with started(
        [PROGRAM, "serve", "--workers", str(workers)], port, "/health/ready", environment, folder / f"log of {workers}"
    ) as server:
        metrics = request("GET", "/metrics", headers={"Authorization": f"Bearer {live.key}"})
        wait_until(
            lambda: _live_workers(answer_to(port, metrics).decode()) >= workers,
            f"the champion did not become live in all {workers} workers",
        )
        yield server


def _live_workers(metrics: str) -> int:
    found = [line for line in metrics.splitlines() if line.startswith("platform_model_live{")]
    return sum(f'model="{MODEL.name}"' in line and line.endswith(" 1.0") for line in found)


if __name__ == "__main__":
    run(*map(int, sys.argv[1:]))
