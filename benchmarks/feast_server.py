"""Run Feast's Python server on the platform's rows, to compare it with the platform's service.

Feast is installed into its own environment in `.bench`, because it needs an older pandas. The server requires no API
key. It runs with its fastest options: no access log, no worker restart every 1,000 requests, and no reloading of the
registry. Like the platform, it has one worker.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from shutil import which
from typing import TYPE_CHECKING, Any

import pandas as pd

from benchmarks import feast_store
from benchmarks.load import request
from benchmarks.servers import Side, free_port, started
from platform_assets.database.opening import open_owner

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from benchmarks.live_platform import Live

FEAST = "0.67.0"
PROJECT = Path(__file__).parents[1]
ENVIRONMENT = PROJECT / ".bench" / f"feast-{FEAST}-{sys.version_info[0]}.{sys.version_info[1]}"
DATABASE = "feast"
POSTGRES, SQLITE = "Feast, PostgreSQL", "Feast, SQLite"
REPOSITORY: dict[str, Any] = {
    "project": "benchmark",
    "provider": "local",
    "registry": "registry.db",
    "entity_key_serialization_version": 3,
}
SERVE = (
    "--host",
    "127.0.0.1",
    "--workers",
    "1",
    "--no-access-log",
    "--max-requests",
    "0",
    "--registry_ttl_sec",
    "3600",
)


def feast_environment() -> Path | None:
    """Install Feast if necessary, and return the folder of its programs.

    If the installation fails, print the reason and return None.
    """
    programs = ENVIRONMENT / "bin"
    ready = ENVIRONMENT / "ready"
    if not ready.exists():
        uv = os.environ.get("UV") or which("uv") or next(map(str, PROJECT.glob(".uv/*/bin/uv")), "uv")
        make = [uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(ENVIRONMENT)]
        fill = [uv, "pip", "install", "--quiet", "--python", str(programs / "python"), f"feast[postgres]=={FEAST}"]
        for command in (make, fill):
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                print(f"\nFeast {FEAST} cannot be installed, so there is no comparison with it: {done.stderr.strip()}")
                return None
        ready.touch()
    return programs


@contextmanager
def feast_sides(live: Live, programs: Path, folder: Path) -> Iterator[list[Side]]:
    """Start two Feast servers: one with a store in the platform's PostgreSQL, one with a store in SQLite."""
    rows = folder / "rows.parquet"
    _rows(live.clients).to_parquet(rows, index=False)
    stores = {POSTGRES: _postgres_store(live), SQLITE: {"type": "sqlite", "path": "online.db"}}
    with ExitStack() as stack:
        yield [
            stack.enter_context(_side(name, store, live, programs, folder / f"feast-{store['type']}"))
            for name, store in stores.items()
        ]


def told(answer: Any) -> dict[str, Any]:
    """Return the client id and the features in a response of Feast."""
    values = [result["values"][0] for result in answer["results"]]
    return dict(zip(answer["metadata"]["feature_names"], values, strict=True))


@contextmanager
def _side(name: str, store: Mapping[str, Any], live: Live, programs: Path, folder: Path) -> Iterator[Side]:
    folder.mkdir()
    # JSON is also valid YAML.
    (folder / "feature_store.yaml").write_text(json.dumps(REPOSITORY | {"online_store": store}))
    environment = {name: text for name, text in os.environ.items() if name != "PYTHONPATH"} | {"FEAST_USAGE": "False"}
    fill: list[str | Path] = [programs / "python", feast_store.__file__, folder, folder.parent / "rows.parquet"]
    subprocess.run(fill, env=environment, check=True, capture_output=True)
    port = free_port()
    command: list[str | Path] = [programs / "feast", "--chdir", folder, "serve", "--port", str(port), *SERVE]
    with started(command, port, "/health", environment, folder / "log") as server:
        yield Side(name, server, [_request(client) for client in live.numbers])


def _request(client: int) -> bytes:
    names = [f"{feast_store.VIEW}:{name}" for name in feast_store.TYPES]
    body = {"features": names, "entities": {feast_store.KEY: [client]}}
    return request("POST", "/get-online-features", json.dumps(body).encode())


def _rows(clients: pd.DataFrame) -> pd.DataFrame:
    rows = clients[[feast_store.KEY, feast_store.TIME, *feast_store.TYPES]].astype(feast_store.TYPES)
    return rows.assign(**{feast_store.TIME: pd.to_datetime(rows[feast_store.TIME], utc=True)})


def _postgres_store(live: Live) -> dict[str, Any]:
    """Create a database for Feast on the platform's PostgreSQL server; return the configuration of the store.

    All threads of the Feast server share one connection, which is Feast's default.
    """
    with closing(open_owner("", live.services.settings.home)) as owner:
        with owner.connect("platform") as connection:
            connection.execute(f"create database {DATABASE}".encode())
        url = owner.url("platform")
    return {
        "type": "postgres",
        "host": url.host,
        "port": url.port,
        "database": DATABASE,
        "user": url.username,
        "password": url.password,
        "sslmode": "disable",
    }
