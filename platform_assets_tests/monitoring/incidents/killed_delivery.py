"""A process that opens an incident and is killed before, or while, it sends the message."""

from __future__ import annotations

import os
import signal
import sys

from sqlalchemy import make_url

from platform_assets.database.connections import Database
from platform_assets.monitoring.incidents.messages import claim
from platform_assets_tests.monitoring.incidents.conftest import desk


def main(database_url: str, hook: str, when: str) -> None:
    at = desk(Database(make_url(database_url)), {"default": [hook]})
    at.incidents.open_incident("run_failed shop/sales", "run 1 failed", occurrence="1")
    if when == "claimed":
        with at.incidents.transaction() as connection:
            claim(connection)
    if when == "asked":
        sys.stdout.write(f"{os.getpid()}\n")
        sys.stdout.flush()
        # Wait until the receiver knows which process to kill.
        sys.stdin.readline()
        at.delivery.deliver()
    os.kill(os.getpid(), signal.SIGKILL)
