"""Benchmark of HTTP requests: predictions compared with MLflow's scoring server, features with Feast's server.

All servers use one platform with a champion, created for this benchmark. Each server is one process on loopback. The
servers are measured alternately, with the same load generator and the same people in the same order. For each request,
the platform checks an API key and writes a log line. For a prediction, it also looks up the features and records the
prediction. MLflow receives the features in the request. Neither MLflow nor Feast requires a key.

The overhead of a prediction is its median latency over HTTP minus the median time of the model's own `predict_proba`,
called in this process with a prepared vector. CPU times are shown too, because other load on the machine affects them
less. They do not include the database.

The champion is always the same candidate of the model, so that the results of two benchmark runs can be compared.

`python -m benchmarks.serving ROUNDS CANDIDATE` sets the number of rounds and the candidate; `make bench` uses the
defaults.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, Protocol

import pandas as pd

from benchmarks.feast_server import POSTGRES, SQLITE, feast_environment, feast_sides, told
from benchmarks.live_platform import Live, live_platform
from benchmarks.load import Answers, answer_to, request
from benchmarks.servers import START_SECONDS, Server, Side, Turn, free_port, started
from platform_assets.domains.credit_risk.model import MODEL, NAMES
from platform_assets.models.registry import CHAMPION

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

OURS, MLFLOW, ITSELF = "platform", "mlflow models serve", "the model itself, in process"
ROUNDS = 5
CANDIDATE = "logistic regression"
SECONDS = 2.0
WARM_UP_SECONDS = 1.0
MANY = 16
COMPARED = 50
"""Number of clients whose responses must be equal on all servers."""
TOLERANCE = 1e-9
MOST_OVERHEAD = 0.5
"""Maximum overhead of a prediction, as a multiple of MLflow's."""
LEAST_THROUGHPUT = 3.0
"""Minimum throughput, as a multiple of Feast's."""
PROGRAMS = Path(sys.executable).parent

Turns = dict[str, list[Turn]]


class Contender(Protocol):
    """A server or function to compare. The benchmark measures all of them alternately."""

    name: str

    def take_turn(self, clients: int, seconds: float) -> Turn: ...


class ModelItself:
    """The champion's own `predict_proba`, called on one prepared row. Overheads are measured relative to its time."""

    name = ITSELF

    def __init__(self, live: Live) -> None:
        assert live.champion
        self.model = live.services.artefacts.load(live.champion.digest)
        rows = live.clients[NAMES]
        self.rows = [self.model.vectors(rows.iloc[[place]]) for place in range(len(rows))]
        self._next = cycle(self.rows)

    def take_turn(self, clients: int, seconds: float) -> Turn:
        """Call the function for `seconds` seconds, on one thread like the servers."""
        from threadpoolctl import threadpool_limits

        assert clients == 1
        took = []
        with threadpool_limits(1):
            began, used = time.perf_counter(), time.process_time()
            while (start := time.perf_counter()) < began + seconds:
                self.model.estimator.predict_proba(next(self._next))
                took.append(1000 * (time.perf_counter() - start))
            used = time.process_time() - used
        return Turn(Answers(took, time.perf_counter() - began, 0.0), used)


def run(rounds: int = ROUNDS, candidate: str = CANDIDATE) -> None:
    """Measure predictions and features on one platform, whose champion is the model's candidate `candidate`."""
    with tempfile.TemporaryDirectory(prefix="benchmark-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        with live_platform(folder / "home", candidate) as live, serve(live, folder) as ours:
            _demand_key(live, ours)
            print(
                f"\n{len(live.clients):,} clients, champion: {candidate}, {os.cpu_count()} processors, "
                f"load average {os.getloadavg()[0]:.1f}"
            )
            if live.champion is None:
                print("predictions are not measured: the model fails its gate on these loans, so there is no champion")
            else:
                _measure_predictions(live, ours, folder, rounds)
            if programs := feast_environment():
                with feast_sides(live, programs, folder) as theirs:
                    _measure_features(live, ours, theirs, rounds)


def _measure_predictions(live: Live, server: Server, folder: Path, rounds: int) -> None:
    bodies = [json.dumps({"client_id": number}).encode() for number in live.numbers]
    ours = Side(OURS, server, [request("POST", "/predictions/credit-risk", body, key_of(live)) for body in bodies])
    itself = ModelItself(live)
    wait_until_live(ours)
    with _mlflow(live, folder) as mlflow:
        forms = [Side(MLFLOW, mlflow, _invocations(live, form)) for form in FORMS]
        _demand_same_predictions(live, itself, ours, forms)
        theirs = min(forms, key=lambda side: side.take_turn(1, WARM_UP_SECONDS).answers.p50)
        turns = _in_turns([itself, ours, theirs], 1, rounds)
    form = list(FORMS)[forms.index(theirs)]
    _print(f"one prediction, one client (MLflow's fastest input format: {form})", turns)
    overhead = {
        name: median(
            turn.answers.p50 - floor.answers.p50 for turn, floor in zip(turns[name], turns[ITSELF], strict=True)
        )
        for name in (OURS, MLFLOW)
    }
    ratio = overhead[OURS] / overhead[MLFLOW]
    print(f"overhead per prediction: platform {overhead[OURS]:.2f} ms, MLflow {overhead[MLFLOW]:.2f} ms")
    print(f"ratio of the overheads {ratio:.2f} (limit: {MOST_OVERHEAD}): {_verdict(fine=ratio <= MOST_OVERHEAD)}")


def _measure_features(live: Live, server: Server, theirs: Sequence[Side], rounds: int) -> None:
    path = "/features/credit-risk"
    ours = Side(OURS, server, [request("GET", f"{path}/{number}", headers=key_of(live)) for number in live.numbers])
    _demand_same_features(live, ours, theirs)
    for clients in (1, MANY):
        turns = _in_turns([ours, *theirs], clients, rounds)
        _print(f"features of one client per request, {clients} concurrent requests", turns)
        for name in (POSTGRES, SQLITE):
            throughput, slow = (_middle(turns[OURS], what) / _middle(turns[name], what) for what in (_rate, _p99))
            fine = throughput >= LEAST_THROUGHPUT and slow < 1
            print(
                f"{throughput:.1f} times the throughput of {name} (target: {LEAST_THROUGHPUT:g}), "
                f"{slow:.2f} times its p99 latency (target: below 1): {_verdict(fine=fine)}"
            )


def _in_turns(contenders: Sequence[Contender], clients: int, rounds: int) -> Turns:
    for contender in contenders:
        contender.take_turn(clients, WARM_UP_SECONDS)
    turns: Turns = {contender.name: [] for contender in contenders}
    for _ in range(rounds):
        for contender in contenders:
            turns[contender.name].append(contender.take_turn(clients, SECONDS))
    return turns


def _print(title: str, turns: Turns) -> None:
    rounds = len(next(iter(turns.values())))
    print(f"\n{title}; medians of {rounds} measurements of {SECONDS:g} s each, after a warm-up")
    print(f"{'':32}{'per s':>8}{'p50 ms':>9}{'p99 ms':>9}{'server CPU ms':>15}{'client CPU ms':>15}")
    for name, each in turns.items():
        print(
            f"{name:32}{_middle(each, _rate):8.0f}{_middle(each, _p50):9.2f}{_middle(each, _p99):9.2f}"
            f"{_middle(each, lambda turn: turn.server_milliseconds):15.2f}"
            f"{_middle(each, lambda turn: 1000 * turn.answers.asking_seconds / len(turn.answers.milliseconds)):15.2f}"
        )


def _middle(turns: Sequence[Turn], what: Callable[[Turn], float]) -> float:
    return median(map(what, turns))


def _rate(turn: Turn) -> float:
    return turn.answers.per_second


def _p50(turn: Turn) -> float:
    return turn.answers.p50


def _p99(turn: Turn) -> float:
    return turn.answers.p99


def _verdict(*, fine: bool) -> str:
    return "met" if fine else "NOT met"


@contextmanager
def serve(live: Live, folder: Path) -> Iterator[Server]:
    """Start the service of a platform."""
    port = free_port()
    environment = live.environment | {"PLATFORM_SERVICE_PORT": str(port)}
    with started([PROGRAMS / "platform-assets", "serve"], port, "/health/ready", environment, folder / "log") as server:
        yield server


@contextmanager
def _mlflow(live: Live, folder: Path) -> Iterator[Server]:
    """Start MLflow's scoring server in this Python environment, with the champion from MLflow's registry."""
    assert live.champion
    registered = live.services.registry.by_alias(MODEL.name, CHAMPION)
    assert registered
    assert registered.digest == live.champion.digest
    port = free_port()
    environment = live.environment | {
        "MLFLOW_TRACKING_URI": live.services.mlflow_tracking_uri,
        "MLFLOW_DISABLE_TELEMETRY": "true",
        # Use one thread, as the platform does. More threads would be slower, because they wait for each other.
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        # MLflow searches PATH for uvicorn.
        "PATH": f"{PROGRAMS}{os.pathsep}{os.environ['PATH']}",
    }
    command = [str(PROGRAMS / "mlflow"), "models", "serve", "--model-uri", f"models:/{MODEL.name}@{CHAMPION}"]
    command += ["--host", "127.0.0.1", "--port", str(port), "--env-manager", "local"]
    with started(command, port, "/ping", environment, folder / "log of MLflow") as server:
        yield server


FORMS: Mapping[str, Callable[[list[str], list[Any]], Any]] = {
    "dataframe_split": lambda names, values: {"columns": names, "data": [values]},
    "dataframe_records": lambda names, values: [dict(zip(names, values, strict=True))],
    "inputs": lambda names, values: {name: [value] for name, value in zip(names, values, strict=True)},
    "instances": lambda names, values: [dict(zip(names, values, strict=True))],
}
"""MLflow's input formats: functions that make a request body from the names and values of one row."""


def _invocations(live: Live, form: str) -> list[bytes]:
    rows = live.clients[NAMES].astype(object).to_numpy().tolist()
    plain = ([None if pd.isna(value) else value for value in row] for row in rows)
    bodies = ({form: FORMS[form](NAMES, values)} for values in plain)
    return [request("POST", "/invocations", json.dumps(body).encode()) for body in bodies]


def key_of(live: Live) -> dict[str, str]:
    """Return the header with the platform's API key."""
    return {"Authorization": f"Bearer {live.key}"}


def wait_until_live(ours: Side) -> None:
    """Wait until a prediction succeeds, because the champion can be loaded after the service is ready."""
    end = time.monotonic() + START_SECONDS
    while True:
        try:
            ours.answer(0)
        except RuntimeError:
            if time.monotonic() > end:
                raise
            time.sleep(0.1)
        else:
            return


def _demand_key(live: Live, server: Server) -> None:
    """Assert that the platform rejects a wrong key.

    If it accepted one, it would not check keys, and its measured times would not include this check.
    """
    wrong = request("GET", f"/features/credit-risk/{live.numbers[0]}", headers={"Authorization": "Bearer wrong"})
    try:
        answer_to(server.port, wrong)
    except RuntimeError as error:
        if " 401 " in str(error):
            return
        raise
    raise RuntimeError("the platform accepted a wrong API key")


def _demand_same_predictions(live: Live, itself: ModelItself, ours: Side, theirs: Sequence[Side]) -> None:
    assert live.champion
    for place in range(COMPARED):
        answer = ours.answer(place)
        assert (answer["client_id"], answer["approval_id"]) == (live.numbers[place], live.champion.request_id)
        expected = float(itself.model.estimator.predict_proba(itself.rows[place])[0, 1])
        found = [answer["probability"], *(side.answer(place)["predictions"][0][1] for side in theirs)]
        assert all(abs(one - expected) <= TOLERANCE for one in found), (found, expected)


def _demand_same_features(live: Live, ours: Side, theirs: Sequence[Side]) -> None:
    for place in range(COMPARED):
        answer = ours.answer(place)
        features = answer.get("features", answer)
        expected = {"client_id": live.numbers[place]} | {name: features[name] for name in NAMES}
        for side in theirs:
            found = told(side.answer(place))
            assert found == expected, (found, expected)


if __name__ == "__main__":
    _, *given = sys.argv
    run(int(given[0]) if given else ROUNDS, given[1] if len(given) > 1 else CANDIDATE)
