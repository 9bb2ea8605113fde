"""Celery workers are killed during runs: each run ends, no table is half-written, and the next run succeeds."""

from __future__ import annotations

import threading
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import dagster as dg
import pytest

from platform_assets.domains.credit_risk.demo import generate
from platform_assets.operations.dead_runs import fail_dead_runs
from platform_assets.orchestration.failures import reason
from platform_assets.orchestration.storage import dagster_instance
from platform_assets.services import Services
from platform_assets.settings import load_settings
from platform_assets_tests.orchestration.runs_elsewhere import launched
from platform_assets_tests.postgres import wait_until
from platform_assets_tests.serving_thread import serving
from platform_assets_tests.warm import Process, WarmParent, command

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytest.importorskip("dagster_celery", reason="needs the extra celery: make test EXTRAS=celery")
ROWS = 2_000
LOANS, FEATURES = dg.AssetKey(["credit_risk", "loans"]), dg.AssetKey(["credit_risk", "loan_features"])
TABLE = "credit_risk/loans"


@dataclass
class SlowSource:
    """A web server that serves one file. It sends the second half of the file only after `released` is set."""

    content: bytes
    released: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def running(self) -> Iterator[str]:
        """Serve the file, and yield its address."""
        source = self

        class Handler(BaseHTTPRequestHandler):
            def do_HEAD(self) -> None:
                self.send_response(200)
                self.send_header("Content-Length", str(len(source.content)))
                self.end_headers()

            def do_GET(self) -> None:
                self.do_HEAD()
                half = len(source.content) // 2
                self.wfile.write(source.content[:half])
                self.wfile.flush()
                source.released.wait()
                self.wfile.write(source.content[half:])

            def log_message(self, *_: object) -> None: ...

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        with serving(server):
            try:
                yield f"http://127.0.0.1:{server.server_port}/loans.csv"
            finally:
                self.released.set()


@dataclass(frozen=True)
class Workers:
    """Celery workers with a separate `PLATFORM_HOME` each, as on different machines."""

    warm: WarmParent
    folder: Path
    stack: ExitStack

    def start(self, name: str, queue: str) -> Process:
        """Start a worker, and wait until it is ready."""
        log = self.folder / f"{name}.log"
        output = self.stack.enter_context(log.open("w"))
        variables = {"PLATFORM_HOME": str(self.folder / name)}
        worker = self.warm.start(command, "worker", queue, stdout=output, stderr=output, variables=variables)
        self.stack.enter_context(worker)
        self.stack.callback(worker.kill_group)
        wait_until(lambda: " ready." in log.read_text(), lambda: f"{name} was ready: {log.read_text()}")
        return worker


@dataclass(frozen=True)
class Runs:
    """Launches runs of credit risk's first two tables, and reads their state."""

    instance: dg.DagsterInstance

    def launch(self) -> str:
        """Add a run to Dagster's queue, and return its id."""
        return launched(self.instance, LOANS, FEATURES).run_id

    def status(self, run_id: str) -> dg.DagsterRunStatus:
        """Return the status of a run."""
        run = self.instance.get_run_by_id(run_id)
        assert run is not None
        return run.status

    def worker_of_first_step(self, run_id: str) -> str:
        """Wait until the first step has started, and return the worker's name."""
        self._wait_for(run_id, dg.DagsterEventType.STEP_START)
        events = self.instance.all_logs(run_id, of_type=dg.DagsterEventType.ENGINE_EVENT)
        found = [
            str(log.dagster_event.engine_event_data.metadata["Celery worker"].value)
            for log in events
            if log.dagster_event and "Celery worker" in log.dagster_event.engine_event_data.metadata
        ]
        return found[-1]

    def end(self, run_id: str) -> dg.DagsterRunStatus:
        """Wait for the end of a run; return its status."""
        finished = {dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE}
        wait_until(lambda: self.status(run_id) in finished, lambda: f"the run ended: {self.messages(run_id)}")
        return self.status(run_id)

    def messages(self, run_id: str) -> str:
        """Return all messages of a run's event log, followed by the error messages of failed steps."""
        logs = self.instance.all_logs(run_id)
        reasons = [reason(log.get_dagster_event().step_failure_data.error) for log in logs if _is_failure(log)]
        return "\n".join([*(f"{log.dagster_event_type} {log.message}" for log in logs), *reasons])

    def _wait_for(self, run_id: str, kind: dg.DagsterEventType) -> None:
        wait_until(lambda: self.instance.all_logs(run_id, of_type=kind), lambda: f"{kind}: {self.messages(run_id)}")


def _is_failure(log: dg.EventLogEntry) -> bool:
    return log.is_dagster_event and log.get_dagster_event().is_step_failure


@pytest.mark.slow
@pytest.mark.release
@pytest.mark.requirement("PLT-9", "PLT-10")
def test_runs_end_if_their_workers_are_killed_and_the_next_run_succeeds(
    redis_server: str, warm: WarmParent, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = SlowSource(generate(tmp_path / "loans.csv", ROWS).read_bytes())
    with ExitStack() as stack:
        variables = {
            "PLATFORM_HOME": str(tmp_path / "home"),
            "PLATFORM_LAKE_URI": str(tmp_path / "lake"),
            "PLATFORM_DATABASE_URL": database_url,
            "PLATFORM_CELERY_BROKER_URL": redis_server,
            "PLATFORM_EXECUTOR": "celery",
            "PLATFORM_RUN_LAUNCHER": "celery",
            "PLATFORM_CREDIT_LOANS_URI": stack.enter_context(source.running()),
        }
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        instance = stack.enter_context(dagster_instance())
        services = Services(load_settings())
        stack.callback(services.close)
        workers, runs = Workers(warm, tmp_path, stack), Runs(instance)
        of_runs = workers.start("runs", "runs")
        of_steps = [workers.start(name, "steps") for name in ("steps0", "steps1")]

        # Kill the worker that executes the first step while it reads the source. The run's process runs on another
        # worker, and marks the run as failed.
        killed = runs.launch()
        name = runs.worker_of_first_step(killed)
        assert fail_dead_runs(instance) == []
        doomed = next(worker for worker in of_steps if f"-{worker.pid}@" in name)
        doomed.kill_group()
        assert runs.end(killed) == dg.DagsterRunStatus.FAILURE
        assert "its Celery worker has died" in runs.messages(killed)
        assert services.tables.current(TABLE) is None

        # Kill the worker that executes runs. `fail_dead_runs` finds the dead run, because the killed process no longer
        # holds the run's lock.
        orphaned = runs.launch()
        runs.worker_of_first_step(orphaned)
        of_runs.kill_group()
        wait_until(lambda: fail_dead_runs(instance) == [orphaned], "the dead run was found")
        assert "the process of this run has died" in runs.messages(orphaned)
        assert services.tables.current(TABLE) is None

        # Let the dead run's step finish. The next run succeeds, although only one worker for steps is left.
        source.released.set()
        workers.start("runs1", "runs")
        completed = runs.launch()
        assert runs.end(completed) == dg.DagsterRunStatus.SUCCESS, runs.messages(completed)
        rows = [len(services.tables.read(name)) for name in (TABLE, f"{TABLE}_quarantine")]
        # Each distinct line becomes one row, except the header.
        assert sum(rows) == len({*source.content.splitlines()}) - 1
        assert len({version.digest for version in services.tables.versions(TABLE)}) == 1
        assert fail_dead_runs(instance) == []
