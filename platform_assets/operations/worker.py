"""A Celery worker, which executes the runs or the steps of one queue."""

from __future__ import annotations

import logging
import os
import socket
from typing import TYPE_CHECKING

from platform_assets.base.command_line import say
from platform_assets.base.errors import PlatformError
from platform_assets.base.logs import configure_logging
from platform_assets.orchestration.celery_app import demand_broker, worker_app
from platform_assets.orchestration.storage import dagster_home_for_servers
from platform_assets.settings import load_settings

if TYPE_CHECKING:
    from platform_assets.orchestration.celery_app import Queue
    from platform_assets.services import Services


def work(services: Services, queue: Queue, processes: int) -> None:
    """Execute the work of a queue until a signal arrives.

    Parameters
    ----------
    services
        The platform's services.
    queue
        Name of the queue.
    processes
        Number of processes.

    Raises
    ------
    PlatformError
        The settings are for one machine only, the database or the broker does not respond, or the database belongs to
        another lake.
    """
    settings = services.settings
    if not settings.celery_broker_url.get_secret_value():
        raise PlatformError(
            "a worker needs PLATFORM_CELERY_BROKER_URL; set it to the same value as on the other machines"
        )
    app = worker_app(settings)
    demand_broker(app)
    services.demand_own_lake()
    services.close()
    # The task of a run opens the Dagster instance in DAGSTER_HOME.
    os.environ["DAGSTER_HOME"] = str(dagster_home_for_servers(settings))
    say(f"platform-assets: executing {queue}, {processes} at a time")
    configure_logging(load_settings().secrets(), logging.INFO)
    # Silence this logger at level INFO. It logs the arguments of each task, which describe the whole instance.
    logging.getLogger("celery.app.trace").setLevel(logging.WARNING)
    # Disable gossip and mingle, because the platform does not use the messages that they exchange between workers.
    worker = app.Worker(
        hostname=f"{queue}-{os.getpid()}@{socket.gethostname()}",
        queues=[queue],
        concurrency=processes,
        loglevel="INFO",
        without_gossip=True,
        without_mingle=True,
    )
    worker.start()
    if worker.exitcode:
        raise PlatformError(f"the worker ended with exit code {worker.exitcode}; the reason is in its log")
