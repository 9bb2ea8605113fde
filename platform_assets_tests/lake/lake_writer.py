"""A process that publishes to a lake, for tests of concurrent and killed writers.

`warm.py` starts the process. Its argument is its scratch folder. Each line of its standard input is a JSON object with
a job for `work` or `die_while_publishing`. After each job, the process prints the line `done`.
"""

from __future__ import annotations

import json
import resource
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from platform_assets.engine.query_engine import Engine
from platform_assets.lake.delta_tables import TableStore


@dataclass(frozen=True)
class Job:
    """A writer's job: publish `rounds` times."""

    table: str
    writer: str
    rounds: int
    partition: str | None = None


def rows_of(job: Job, turn: int) -> pd.DataFrame:
    """Return the rows of one round. The number of rows differs in each round, so that a mix of versions is detected."""
    frame = pd.DataFrame({"writer": job.writer, "turn": turn, "row": range(100 + turn)})
    return frame if job.partition is None else frame.assign(part=job.partition)


def work(store: TableStore, engine: Engine, job: Job) -> None:
    for turn in range(job.rounds):
        with engine.stage(rows_of(job, turn), job.partition and "part") as staged:
            store.publish(
                job.table,
                staged,
                metadata={"writer": job.writer, "turn": turn},
                partitions=[job.partition] if job.partition else (),
            )


def die_while_publishing(store: TableStore, engine: Engine, table: str, rows: int, remark: str) -> None:
    """Publish rows. The kernel kills this process as soon as it has written 50,000 bytes to a file."""
    with engine.stage(pd.DataFrame({"writer": [str(row) for row in range(rows)]})) as staged:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        store.publish(table, staged, metadata={"remark": remark})


def main(scratch: str) -> None:
    engine = Engine(Path(scratch), "200MB", 1)
    for line in sys.stdin:
        order = json.loads(line)
        store = TableStore(order["uri"], engine, order["options"])
        if "dies" in order:
            die_while_publishing(store, engine, **order["dies"])
        else:
            work(store, engine, Job(**order["job"]))
        sys.stdout.write("done\n")
        sys.stdout.flush()
