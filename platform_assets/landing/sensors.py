"""A sensor on a source: launches a job until the source's table is made from the current content of the file."""

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Self

import dagster as dg

from platform_assets.landing.declared_sources import DeclaredSource, Sources
from platform_assets.landing.source_files import look_at
from platform_assets.orchestration.failures import plain_failures
from platform_assets.orchestration.run_states import UNFINISHED

SENSOR_SECONDS = 60
RETRY_AFTER = (5 * 60, 60 * 60, 6 * 60 * 60)
"""Seconds to wait after each failed run for the same content. After the last retry the sensor waits for a new file."""
SOURCE_TAG = "platform/source"
"""Tag of a run that the sensor launched: variable and content digest."""
DIGEST = "source_digest"
"""Metadata of a table: SHA-256 of the content that it was made from."""
_KEY_DIGITS = 16
_FAILED = {dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED}


@dataclass(frozen=True)
class Seen:
    """The sensor's cursor: a cache that spares reading an unchanged file. Losing it loses no file.

    Attributes
    ----------
    look
        Facts that the file's store gave, as JSON.
    digest
        SHA-256 of the content at that time.
    """

    look: str = ""
    digest: str = ""

    @classmethod
    def of(cls, cursor: str | None) -> Self:
        """Return the content of a cursor; empty if it cannot be read."""
        try:
            return cls(**json.loads(cursor or "{}"))
        except (TypeError, ValueError):
            return cls()

    def cursor(self) -> str:
        """Return the cursor as Dagster stores it."""
        return json.dumps(asdict(self))


def source_changed_sensor(
    name: str, declared: DeclaredSource, table: dg.AssetsDefinition, job: str
) -> dg.SensorDefinition:
    """Make a sensor that launches a job for each new content of a source. Sample data never change.

    The file is read only if the facts that its store gives (size, time, entity tag) changed. The job is launched if
    the table was not made from this content. If the run fails, it is retried after the times in `RETRY_AFTER`. While
    a run of the job is unfinished, no further one is launched.

    Parameters
    ----------
    name
        Name of the sensor.
    declared
        The source.
    table
        The asset that is made from the source. Its materialisations record the digest of the content.
    job
        Name of the job, which materialises the asset.
    """

    @dg.sensor(
        name=name,
        # By name, because with a job object Dagster 1.13 rebuilds the sensor with its resources, and warns.
        job_name=job,
        minimum_interval_seconds=SENSOR_SECONDS,
        description=(
            f"Launch {job} if {table.key.to_user_string()} was not made from the current file in {declared.variable}. "
            "A failed run is retried after 5 minutes, 1 hour and 6 hours; after that, launch the job by hand or "
            "deliver a new file."
        ),
    )
    def sensor(
        context: dg.SensorEvaluationContext, sources: dg.ResourceParam[Sources]
    ) -> dg.SensorResult | dg.SkipReason:
        source = sources.given(declared)
        if source is None:
            return dg.SkipReason(f"{declared.variable} is not set")
        if busy := context.instance.get_runs(dg.RunsFilter(job_name=job, statuses=UNFINISHED), limit=1):
            return dg.SkipReason(f"run {busy[0].run_id} of {job} is unfinished")
        seen = Seen.of(context.cursor)
        with plain_failures():
            facts = look_at(source)
            look = json.dumps(facts, sort_keys=True) if facts else ""
            digest = seen.digest if look and look == seen.look else sources.content_digest(declared, source)
        cursor = Seen(look, digest).cursor()
        if _is_loaded(context.instance, table.key, digest, job):
            return dg.SensorResult(
                skip_reason=f"{table.key.to_user_string()} was made from {source} as it is now", cursor=cursor
            )
        tag = f"{declared.variable} {digest[:_KEY_DIGITS]}"
        runs = context.instance.get_run_records(dg.RunsFilter(job_name=job, tags={SOURCE_TAG: tag}))
        if reason := reason_to_wait(_failures(runs), time.time()):
            return dg.SensorResult(skip_reason=f"{source}: {reason}; to try now, launch {job}", cursor=cursor)
        # Dagster never launches a run key twice, so the key counts the runs.
        request = dg.RunRequest(run_key=f"{tag}, run {len(runs) + 1}", tags={SOURCE_TAG: tag})
        return dg.SensorResult(run_requests=[request], cursor=cursor)

    return sensor


def reason_to_wait(failures: Sequence[float], now: float) -> str | None:
    """Return why no run is launched for a content yet; None if one is due.

    Parameters
    ----------
    failures
        End times of the runs that failed for the content since the last success, newest first, in seconds.
    now
        The current time, in seconds.
    """
    if not failures:
        return None
    failed = f"{len(failures)} run{'s' if len(failures) > 1 else ''} failed for this content"
    if len(failures) > len(RETRY_AFTER):
        return f"{failed}; it is not retried automatically any more"
    due = failures[0] + RETRY_AFTER[len(failures) - 1]
    return None if now >= due else f"{failed}; the next retry is at {datetime.fromtimestamp(due, UTC):%H:%M} UTC"


def _is_loaded(instance: dg.DagsterInstance, table: dg.AssetKey, digest: str, job: str) -> bool:
    """Whether a table was made from a content. If the job's own run then failed in a later step, it was not."""
    event = instance.get_latest_materialization_event(table)
    made = event.asset_materialization if event else None
    if event is None or made is None or DIGEST not in made.metadata or made.metadata[DIGEST].value != digest:
        return False
    run = instance.get_run_by_id(event.run_id)
    return not (run and run.job_name == job and run.status in _FAILED)


def _failures(runs: Sequence[dg.RunRecord]) -> list[float]:
    """Return the end times of the newest runs up to the last success."""
    found = []
    for run in runs:
        if run.dagster_run.status not in _FAILED:
            break
        found.append(run.end_time or run.update_timestamp.timestamp())
    return found
