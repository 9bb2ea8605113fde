"""Benchmark of the service's start: seconds until it is live (its port responds) and ready (its champion is loaded).

Two programs are started alternately: `platform-assets serve` on a platform with a champion, and a Python process that
only imports the libraries of the service. The difference is the cost of the platform's own code. CPU times are shown
too, because other load on the machine affects them less.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from contextlib import closing, suppress
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from benchmarks.live_platform import live_platform
from benchmarks.servers import LOOPBACK, Server, free_port

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Seconds = tuple[float, float]
"""Elapsed seconds and CPU seconds."""

ROUNDS = 5
MOST_SECONDS_TO_LIVE = 1.5
MOST_TIMES_THE_IMPORTS = 1.5
PATIENCE_SECONDS = 120.0
PROGRAM = Path(sys.executable).with_name("platform-assets")
LIBRARIES = (
    *("typer", "rich.console", "rich.table", "pydantic_settings", "fastapi", "uvicorn", "itsdangerous"),
    *(
        "prometheus_client",
        "psycopg",
        "sqlalchemy",
        "pyarrow.fs",
        "deltalake.fs",
        "skops.io",
        "threadpoolctl",
        "pandas",
    ),
    *("sklearn.calibration", "sklearn.compose", "sklearn.ensemble", "sklearn.impute", "sklearn.linear_model"),
    *("sklearn.pipeline", "sklearn.preprocessing"),
)


def run() -> None:
    """Print the median start times, and whether they meet the limits."""
    with (
        tempfile.TemporaryDirectory(prefix="benchmark-", ignore_cleanup_errors=True) as name,
        live_platform(Path(name) / "home") as live,
    ):
        seconds_of_imports(), seconds_to_start(live.environment)  # warms the file cache
        rounds = [(seconds_of_imports(), *seconds_to_start(live.environment)) for _ in range(ROUNDS)]
    imports, live_, ready = zip(*rounds, strict=True)
    ratio = _middle(ready, 0) / _middle(imports, 0)
    print(f"\nstart of the service, medians of {ROUNDS} rounds, load average {os.getloadavg()[0]:.1f}")
    print(f"{'':32}{'seconds':>9}{'CPU seconds':>14}")
    for title, each in (
        ("bare import of its libraries", imports),
        ("live", live_),
        ("ready, with its champion", ready),
    ):
        print(f"{title:32}{_middle(each, 0):9.2f}{_middle(each, 1):14.2f}")
    print(f"live within {MOST_SECONDS_TO_LIVE} s: {_verdict(fine=_middle(live_, 0) <= MOST_SECONDS_TO_LIVE)}")
    print(f"ready after {ratio:.2f} times the duration of the imports (limit: {MOST_TIMES_THE_IMPORTS}): ", end="")
    print(_verdict(fine=ratio <= MOST_TIMES_THE_IMPORTS))


def seconds_of_imports() -> Seconds:
    """Measure a Python process that imports the libraries and exits."""
    began = time.perf_counter()
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", f"import {', '.join(LIBRARIES)}"], check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.perf_counter() - began, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def seconds_to_start(environment: Mapping[str, str]) -> tuple[Seconds, Seconds]:
    """Start a service; measure the time until it is live, and the time until it is ready.

    Raises
    ------
    RuntimeError
        The service exits, or is not ready in time.
    """
    port = free_port()
    began = time.perf_counter()
    process = subprocess.Popen(
        [PROGRAM, "serve"],
        env={**environment, "PLATFORM_SERVICE_PORT": str(port)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    server = Server(process, port)
    try:
        found = []
        for path in ("/health/live", "/health/ready"):
            while not _is_ok(port, path):
                if process.poll() is not None or time.perf_counter() > began + PATIENCE_SECONDS:
                    raise RuntimeError(f"the service exited, or {path} did not return 200 in time")
                # 10 ms is precise enough. Polling without a pause would take CPU time from the service.
                time.sleep(0.01)
            found.append((time.perf_counter() - began, server.processor_seconds()))
        return found[0], found[1]
    finally:
        process.terminate()
        process.wait()


def _middle(each: Sequence[Seconds], place: int) -> float:
    return median(one[place] for one in each)


def _verdict(*, fine: bool) -> str:
    return "met" if fine else "NOT met"


def _is_ok(port: int, path: str) -> bool:
    with (
        closing(HTTPConnection(LOOPBACK, port, timeout=PATIENCE_SECONDS)) as connection,
        suppress(OSError, HTTPException),
    ):
        connection.request("GET", path)
        return connection.getresponse().status == HTTPStatus.OK
    return False


if __name__ == "__main__":
    run()
