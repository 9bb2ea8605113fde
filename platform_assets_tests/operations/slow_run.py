"""A run that stays in its middle until a line comes in on standard input."""

import os
import sys
import time
from pathlib import Path

import dagster as dg

from platform_assets.orchestration.storage import dagster_instance


def main(note: str, *wishes: str) -> None:
    """Write the run's id to the note, and that of a child that lives on, for those who wish to `fork`."""

    @dg.asset
    def slow(context: dg.AssetExecutionContext) -> None:
        child = os.fork() if "fork" in wishes else -1
        if child == 0:
            time.sleep(600)
        part = Path(f"{note}.part")
        part.write_text(f"{context.run_id} {child}")
        part.rename(note)
        sys.stdin.readline()

    dg.materialize([slow], instance=dagster_instance())
