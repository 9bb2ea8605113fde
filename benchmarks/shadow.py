"""Benchmark of predictions with and without a shadow: the latency in one process of the service.

The champion is the platform's credit model. The shadow version is a gradient boosting model on the same features, which
takes longer to score. The shadow is started and stopped alternately, and each measurement begins when the service has
noticed the change.

`python -m benchmarks.shadow ROUNDS` sets the number of rounds; `make bench` uses the default.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.live_platform import Live, live_platform
from benchmarks.load import answer_to, request
from benchmarks.servers import Server, Side, Turn, wait_until
from benchmarks.serving import key_of, serve, wait_until_live
from platform_assets.approval.requests import Actor, Proposal
from platform_assets.domains.credit_risk.model import MODEL, NAMES, gradient_boosting
from platform_assets.domains.credit_risk.schemas import LOAN_FEATURES
from platform_assets.engine.query_engine import as_frame
from platform_assets.models.fitted_model import GOLDEN_ROWS, FittedModel, library_versions
from platform_assets.models.thread_limits import one_thread

if TYPE_CHECKING:
    from collections.abc import Callable

ROUNDS = 5
SECONDS = 3.0
CLIENTS = (1, 16)
QUANTILES = ("p50", "p99")
WITHOUT, WITH = "without a shadow", "with a shadow"
VERSION = 2
PERSON = Actor("benchmark")


def run(rounds: int = ROUNDS) -> None:
    """Measure predictions with and without a shadow on one platform."""
    with tempfile.TemporaryDirectory(prefix="benchmark-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        with live_platform(folder / "home") as live, serve(live, folder) as server:
            if live.champion is None:
                print("shadows are not measured: the model fails its gate on these loans, so there is no champion")
                return
            challenge(live)
            bodies = [json.dumps({"client_id": number}).encode() for number in live.numbers]
            asked = [request("POST", "/predictions/credit-risk", body, key_of(live)) for body in bodies]
            side = Side("platform", server, asked)
            wait_until_live(side)
            for clients in CLIENTS:
                measure(live, server, side, clients, rounds)
            print_counts(live, server)


def challenge(live: Live) -> None:
    """Fit a gradient boosting model, and open an approval request for it as version 2."""
    champion, services = live.champion, live.services
    assert champion is not None
    frame = as_frame(services.tables.scan(LOAN_FEATURES.name).order_by("loan_id"))
    with one_thread():
        estimator = gradient_boosting(1).fit(frame[NAMES], frame["status"])
    golden = frame[NAMES].head(GOLDEN_ROWS)
    model = FittedModel(estimator, tuple(NAMES), golden, np.zeros(len(golden)), library_versions())
    digest = services.artefacts.save(dataclasses.replace(model, golden_scores=model.scores(golden)))
    evidence = services.ledger.request(champion.request_id).evidence
    seen = (champion.version, champion.digest)
    services.ledger.open_request(
        Proposal(
            model=MODEL.name,
            version=VERSION,
            digest=digest,
            threshold=champion.threshold,
            launched_by="benchmark",
            requested_by=None,
            policy=MODEL.approval,
            evidence=evidence,
            champion=seen,
        )
    )


def measure(live: Live, server: Server, side: Side, clients: int, rounds: int) -> None:
    """Measure predictions alternately with and without a shadow, and print the medians."""
    turns: dict[str, list[Turn]] = {WITHOUT: [], WITH: []}
    side.take_turn(clients, SECONDS)
    for _ in range(rounds):
        turns[WITHOUT].append(side.take_turn(clients, SECONDS))
        shadow = live.services.shadow_ledger.start(MODEL.name, VERSION, 1, PERSON)
        wait_for(live, server, lambda found: found is not None and found["loaded"])
        turns[WITH].append(side.take_turn(clients, SECONDS))
        live.services.shadow_ledger.stop(shadow.request_id, PERSON)
        wait_for(live, server, lambda found: found is None)
    print(f"\n{clients} concurrent requests, each for one client; medians of {rounds} measurements of {SECONDS:g} s")
    print(f"{'':20}{'per s':>8}{'p50 ms':>9}{'p99 ms':>9}{'server CPU ms':>15}")
    for name, each in turns.items():
        rate = median(turn.answers.per_second for turn in each)
        p50, p99 = (median(getattr(turn.answers, what) for turn in each) for what in QUANTILES)
        used = median(turn.server_milliseconds for turn in each)
        print(f"{name:20}{rate:8.0f}{p50:9.2f}{p99:9.2f}{used:15.2f}")
    for what in QUANTILES:
        pairs = zip(turns[WITH], turns[WITHOUT], strict=True)
        ratio = median(getattr(one.answers, what) / getattr(other.answers, what) for one, other in pairs)
        print(f"{what} with a shadow: {ratio:.2f} times the {what} without (median of {rounds} ratios)")


def wait_for(live: Live, server: Server, holds: Callable[[Any], bool]) -> None:
    """Wait until the shadow that the service reports in `GET /models` fulfils a condition."""

    def noticed() -> bool:
        models = answer_to(server.port, request("GET", "/models", headers=key_of(live)))
        return holds(next(one["shadow"] for one in json.loads(models) if one["model"] == MODEL.name))

    wait_until(noticed, "the service did not start or stop the shadow in time")


def print_counts(live: Live, server: Server) -> None:
    """Print the metrics of the shadow: how many rows it scored, and how many were dropped."""
    text = answer_to(server.port, request("GET", "/metrics", headers=key_of(live))).decode()
    print(f"load average {os.getloadavg()[0]:.1f}")
    for line in text.splitlines():
        if line.startswith(("platform_shadow_rows_total", "platform_shadow_dropped_total")):
            print(line)


if __name__ == "__main__":
    run(*map(int, sys.argv[1:]))
