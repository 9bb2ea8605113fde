"""Measure how the costs of operations on Dagster's history grow with the number of stored runs.

`python -m benchmarks.growth_history HOME RUNS` makes two tables in one run, and copies this run in PostgreSQL until
there are RUNS runs. Then it measures operations of the daemon, of the pages in Dagster's UI, and of a run.
"""

from __future__ import annotations

import os
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg

from benchmarks.growth_files import postmaster
from benchmarks.process_costs import measured
from platform_assets.domains.credit_risk import demo
from platform_assets.orchestration.history import check_states, failed_runs
from platform_assets.orchestration.in_process_runs import run_in_process
from platform_assets.orchestration.run_states import UNFINISHED
from platform_assets.orchestration.storage import dagster_instance

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import psycopg

TABLES = tuple(dg.AssetKey(["credit_risk", name]) for name in ("loans", "loan_features"))
SENSOR, JOB = "credit_loans_changed", "train_credit_risk_model"
ROWS = 3_000
ROUNDS, EVENTS, PAGE = 20, 200, 25
_TABLES_OF_A_RUN = ("runs", "run_tags", "event_logs", "asset_check_executions")
_COLUMNS = "select column_name, data_type from information_schema.columns where table_name = %s and column_name <> 'id'"


def main(home: Path, runs: int) -> None:
    """Measure the operations on a history with `runs` runs."""
    loans = demo.generate(home / "loans.csv", ROWS)
    os.environ |= {"PLATFORM_HOME": str(home / "home"), "PLATFORM_CREDIT_LOANS_URI": str(loans)}
    # Import the definitions after the variables are set, because they read the variables on import.
    from platform_assets.definitions import defs, services

    repository = defs().get_repository_def()
    with closing(services()) as opened, dagster_instance() as instance:
        _make_tables(repository, instance)
        with closing(opened.database.connect("dagster")) as connection:
            _copy_run(connection, instance.get_run_records(limit=1)[0].dagster_run.run_id, runs - 1)
        # Change the file, so that the sensor searches the history for a run that already loaded the new content.
        loans.write_bytes(loans.read_bytes() * 2)
        servers = [postmaster(opened)]
        given = {"sources": opened.sources, "tables": opened.tables}
        for name, operation in _operations(repository, instance, given).items():
            operation()
            measured(name, ROUNDS, _repeated(operation, ROUNDS), servers)
        run = instance.get_runs(limit=1)[0]
        store = _repeated(lambda: instance.report_engine_event("measured", run), EVENTS)
        measured("store an event", EVENTS, store, servers)
        measured("run that makes 2 tables", 1, lambda: _make_tables(repository, instance), servers)


def _operations(
    repository: dg.RepositoryDefinition, instance: dg.DagsterInstance, resources: Mapping[str, object]
) -> dict[str, Callable[[], object]]:
    sensor = repository.get_sensor_def(SENSOR)

    def tick() -> None:
        with dg.build_sensor_context(instance=instance, resources=dict(resources)) as context:
            sensor.evaluate_tick(context)

    return {
        "sensor tick": tick,
        "find unfinished runs": lambda: instance.get_runs(dg.RunsFilter(job_name=JOB, statuses=UNFINISHED), limit=1),
        "list runs, one page": lambda: instance.get_run_records(limit=PAGE),
        "list a table's materialisations, one page": lambda: instance.fetch_materializations(TABLES[0], limit=PAGE),
        "failed runs and checks": lambda: (failed_runs(instance, repository, 0), check_states(instance, repository)),
    }


def _repeated(operation: Callable[[], object], times: int) -> Callable[[], None]:
    def repeat() -> None:
        for _ in range(times):
            operation()

    return repeat


def _make_tables(repository: dg.RepositoryDefinition, instance: dg.DagsterInstance) -> None:
    job = repository.get_implicit_global_asset_job_def().get_subset(asset_selection=set(TABLES))
    if not run_in_process(job, instance).success:
        raise RuntimeError("the run of the tables failed")


def _copy_run(connection: psycopg.Connection, run: str, copies: int) -> None:
    """Copy all rows of a run under new run ids. A third of the copies become runs of the job `JOB`."""
    for table in _TABLES_OF_A_RUN:
        columns = connection.execute(_COLUMNS, [table]).fetchall()
        values = ", ".join(_value(name, kind, run) for name, kind in columns)
        names = ", ".join(f'"{name}"' for name, _ in columns)
        connection.execute(
            f"insert into {table} ({names}) select {values} from {table}, generate_series(1, {copies}) as copies(copy)"
            f" where run_id = '{run}'"
        )
    connection.commit()
    connection.autocommit = True
    connection.execute("analyze")


def _value(name: str, kind: str, run: str) -> str:
    """Return the SQL expression for the value of a column in the copied rows."""
    if name == "pipeline_name":
        return f"case when copy % 3 = 0 then '{JOB}' else {name} end"
    is_text = kind in {"text", "character varying"}
    return f"replace(\"{name}\", '{run}', md5(copy::text)::uuid::text)" if is_text else f'"{name}"'


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
