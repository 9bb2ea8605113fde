"""A process that executes a job when a file appears, so that two such processes start the job at the same time."""

import json
import sys
import time
from pathlib import Path
from typing import Any

from platform_assets import definitions
from platform_assets.orchestration.failures import reason
from platform_assets.orchestration.in_process_runs import QUIET, backfill
from platform_assets.orchestration.storage import dagster_instance


def main(job: str, gate: str, options: str) -> None:
    """Print `ready`, wait for the file `gate`, execute the job, and print the reasons of failed steps as JSON.

    `options` is a JSON object with the options of `execute_in_process`, or a JSON list with the first and the last
    partition of a backfill.
    """
    found = definitions.defs().resolve_job_def(job)
    with dagster_instance() as instance:
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        while not Path(gate).exists():
            time.sleep(0.005)
        failures = _failures(found, instance, json.loads(options))
    sys.stdout.write(json.dumps(failures) + "\n")


def _failures(job: Any, instance: Any, options: Any) -> list[str]:
    if isinstance(options, list):
        parts: list[Any] = []
        first, last = options
        backfill(job, instance, first, last, parts.append)
        return [part.failure for part in parts if part.failure]
    config = {**QUIET, **options.pop("run_config", {})}
    result = job.execute_in_process(instance=instance, raise_on_error=False, run_config=config, **options)
    return [reason(event.step_failure_data.error) for event in result.all_events if event.is_step_failure]
