"""A Spark cluster of two workers with a Connect server, started from the files of the package pyspark.

`conftest.py` loads this module as a plugin.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from platform_assets_tests.postgres import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

HOST = "127.0.0.1"
WORKERS = 2
DRIVER_MEMORY = "480m"
"""Memory of the driver: slightly more than the minimum that Spark accepts."""
LARGEST_RESULT = "1m"
"""Largest result that Spark sends to its driver. It is so small that a query that collects a table fails."""


@dataclass(frozen=True)
class Cluster:
    """Addresses of a running cluster.

    Attributes
    ----------
    master
        Master of the cluster, as `spark://host:port`.
    remote
        Spark Connect server that runs its queries on the cluster, as `sc://host:port`.
    """

    master: str
    remote: str


@pytest.fixture(scope="session")
def spark_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A standalone cluster of two workers, and a Connect server on it."""
    if find_spec("pyspark") is None:
        pytest.skip("needs the extra spark: make test EXTRAS=spark")
    if shutil.which("java") is None:
        pytest.skip("needs Java: apt-get install default-jre-headless")
    logs = tmp_path_factory.mktemp("spark")
    with ExitStack() as started:
        at = ["--host", HOST, "--port", "0", "--webui-port", "0"]
        started.enter_context(_started("Master", ["org.apache.spark.deploy.master.Master", *at], logs))
        address = f"spark://{HOST}:{_port(logs / 'Master', 'sparkMaster')}"
        for number in range(WORKERS):
            worker = ["org.apache.spark.deploy.worker.Worker", "--host", HOST, "--webui-port", "0", "--cores", "2"]
            worker += ["--memory", "1400m", "--work-dir", str(logs / f"work{number}"), address]
            started.enter_context(_started(f"Worker{number}", worker, logs))
        wait_until(
            lambda: (logs / "Master").read_text().count("Registering worker ") == WORKERS,
            lambda: f"Spark's master had its workers: {(logs / 'Master').read_text()}",
        )
        options = {**driver_options(), "spark.connect.grpc.binding.port": "0", "spark.cores.max": "2"}
        server = ["org.apache.spark.deploy.SparkSubmit", "--master", address, "--driver-memory", DRIVER_MEMORY]
        server += [word for name, value in options.items() for word in ("--conf", f"{name}={value}")]
        server += ["--class", "org.apache.spark.sql.connect.service.SparkConnectServer", "spark-internal"]
        started.enter_context(_started("Connect", server, logs))
        connect = _port(logs / "Connect", "org.apache.spark.sql.connect.service.SparkConnectService$")
        yield Cluster(address, f"sc://{HOST}:{connect}")


def driver_options() -> dict[str, str]:
    """Return settings of a Spark driver with too little memory to hold a table."""
    return {
        "spark.driver.memory": DRIVER_MEMORY,
        "spark.driver.maxResultSize": LARGEST_RESULT,
        "spark.driver.host": HOST,
        "spark.driver.bindAddress": HOST,
        "spark.executor.memory": "600m",
        "spark.sql.shuffle.partitions": "4",
        "spark.ui.enabled": "false",
    }


@contextmanager
def _started(name: str, command: Sequence[str], logs: Path) -> Iterator[None]:
    import pyspark

    home = Path(pyspark.__path__[0])
    variables = {"SPARK_HOME": str(home), "SPARK_LOCAL_IP": HOST, "SPARK_LOCAL_DIRS": str(logs / "local")}
    with (logs / name).open("wb") as log:
        process = subprocess.Popen(
            [str(home / "bin" / "spark-class"), *command],
            stdout=log,
            stderr=log,
            env={**os.environ, **variables},
            start_new_session=True,
        )
        try:
            yield
        finally:
            # Kill the process group, because it includes the executors that a worker started.
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _port(log: Path, service: str) -> int:
    """Return the port that a service chose, once its log names it.

    Spark chooses the port itself, so no other program can take it between the choice and the start.
    """
    line = re.compile(rf"Successfully started service '{re.escape(service)}' on port (\d+)\.")
    wait_until(lambda: line.search(log.read_text()), lambda: f"Spark's {service} had started: {log.read_text()}")
    return int(line.findall(log.read_text())[0])
