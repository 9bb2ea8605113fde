"""The servers that `platform-assets up` starts: MLflow, the service, Dagster's webserver and its daemon.

All listen on loopback only, because MLflow and Dagster do not authenticate their users.
"""

from __future__ import annotations

import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from platform_assets.base.errors import DatabaseError, first_line
from platform_assets.monitoring.incidents import kinds
from platform_assets.monitoring.incidents.kinds import cause
from platform_assets.operations.supervisor import Server, ServerEnded
from platform_assets.orchestration.storage import PROJECT, dagster_home_for_servers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from platform_assets.operations.up_lock import DatabaseClaim
    from platform_assets.services import Services
    from platform_assets.settings import Settings

LOOPBACK = "127.0.0.1"
SERVICE = "platform"
SERVICE_FILE = "pg_service.conf"


def servers(services: Services) -> list[Server]:
    """Return the servers of a platform on one machine. MLflow is included unless a tracking server is configured."""
    settings = services.settings
    return [
        *([] if settings.mlflow_tracking_uri else [_mlflow(services)]),
        Server(
            name="Dagster UI",
            command=[program("dagster-webserver"), "-h", LOOPBACK, "-p", str(settings.dagster_port), *_workspace()],
            environment=dagster_environment(settings),
            port=settings.dagster_port,
            health_path="/server_info",
        ),
        Server(
            name="service",
            command=[program("platform-assets"), "serve"],
            # With this setting, the service reports a dead daemon.
            environment={"PLATFORM_AUTOMATION": "on"},
            port=settings.service_port,
            health_path="/health/live",
        ),
        Server(
            name="Dagster daemon",
            command=[program("dagster-daemon"), "run", *_workspace()],
            environment=dagster_environment(settings),
        ),
    ]


def _mlflow(services: Services) -> Server:
    from platform_assets.models.artifact_locations import follow_home

    settings = services.settings
    follow_home(services.mlflow_tracking_uri, settings.home / "mlflow")
    url, following = services.mlflow_tracking_uri, {}
    if services.database.embedded:
        url = services.database.psycopg2_url("mlflow", SERVICE)
        following = {"PGSERVICEFILE": str(write_service_file(services))}
    return Server(
        name="MLflow",
        command=[
            *(program("mlflow"), "server", "--host", LOOPBACK, "--port", str(settings.mlflow_port)),
            # Start one process. By default, MLflow starts 24 and takes three times as long to become ready.
            *("--workers", "1", "--artifacts-destination", str(settings.home / "mlflow")),
        ],
        environment={
            # Pass the URL in the environment, because every user of the machine can read a process's arguments.
            "MLFLOW_BACKEND_STORE_URI": url,
            **following,
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            "MLFLOW_DISABLE_TELEMETRY": "true",
        },
        port=settings.mlflow_port,
        health_path="/health",
        page="/#/models",
        note="(read only: promotions and approvals happen in the service)",
    )


def write_service_file(services: Services) -> Path:
    """Write the address of the embedded PostgreSQL to a file that MLflow's driver reads for each new connection."""
    file = services.settings.home / "postgres" / SERVICE_FILE
    url = services.database.url("mlflow")
    with tempfile.NamedTemporaryFile("w", dir=file.parent, prefix=SERVICE_FILE, delete=False) as new:
        new.write(f"[{SERVICE}]\nhost={url.host}\nport={url.port}\n")
    return Path(new.name).replace(file)


class DatabaseWatch:
    """Watches the database for `up`: reports an unreachable database, and restarts the embedded server.

    Each server reconnects automatically. MLflow reads the new port from the service file.

    Parameters
    ----------
    services
        The platform's services.
    say
        Function that prints a message.
    claim
        Lock in the database, which is taken again after the database was unreachable.
    """

    def __init__(self, services: Services, say: Callable[[str], None], claim: DatabaseClaim) -> None:
        self._services = services
        self._say = say
        self._claim = claim
        self._is_up = True
        self._port = services.database.url("mlflow").port

    def __call__(self) -> None:
        """Check the database, and write its port to MLflow's service file if it has changed.

        Raises
        ------
        PlatformError
            Another `platform-assets up` took the lock while the database was unreachable.
        """
        database = self._services.database
        try:
            # If the connection fails, the database object restarts the embedded server.
            database.reads.rows(b"select 1")
            self._claim.keep()
        except DatabaseError as error:
            if self._is_up:
                self._say(f"the database does not respond: {first_line(error)}")
            self._is_up = False
            return
        if not self._is_up:
            self._say("the database responds again")
        self._is_up = True
        port = database.url("mlflow").port
        if database.embedded and port != self._port:
            write_service_file(self._services)
            self._port = port


@contextmanager
def watched(services: Services) -> Iterator[None]:
    """Watch Dagster's daemon and the disk while the servers run, and open an incident if a server ends unexpectedly."""
    watch = services.watch(expects_daemon=True, owners={})
    ended = cause(kinds.SERVER_ENDED, "platform-assets up")
    services.incidents.recover(ended)
    watch.start()
    try:
        yield
    except ServerEnded as error:
        # Leave out the log lines, because they may contain secrets.
        services.incidents.open_incident(ended, str(error).partition(";")[0])
        services.delivery.deliver()
        raise
    finally:
        watch.close()


def _workspace() -> list[str]:
    return ["-w", str(PROJECT / "workspace.yaml")]


def dagster_environment(settings: Settings) -> dict[str, str]:
    """Return the environment variables for Dagster's programs. The daemon requires DAGSTER_HOME."""
    return {"DAGSTER_HOME": str(dagster_home_for_servers(settings)), "PLATFORM_AUTOMATION": "on"}


def program(name: str) -> str:
    """Return the path of a program of this Python environment."""
    return str(Path(sys.executable).with_name(name))
