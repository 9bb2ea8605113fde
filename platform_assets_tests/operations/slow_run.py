"""A run whose step waits for a line on standard input."""

import os
import sys
import time
from pathlib import Path

import dagster as dg

from platform_assets.orchestration.storage import dagster_instance


def main(note: str, *options: str) -> None:
    """Write the run's id to the file `note`. With the option `fork`, start a long-lived child and add its PID."""

    @dg.asset
    def slow(context: dg.AssetExecutionContext) -> None:
        child = os.fork() if "fork" in options else -1
        if child == 0:
            time.sleep(600)
        part = Path(f"{note}.part")
        part.write_text(f"{context.run_id} {child}")
        part.rename(note)
        sys.stdin.readline()

    dg.materialize([slow], instance=dagster_instance())
