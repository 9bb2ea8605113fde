"""Sensors that launch jobs for incoming data: one for a source, and one for a landing zone.

The sensor on a source launches a job if the table was not made from the file's current content. The sensor uses the
content digest that the published table records, and not Dagster's history: if two runs load different files, the run
that published first may record its materialisation last. The sensor on a landing zone launches a job while files are
waiting.
"""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Protocol, Self

import dagster as dg

from platform_assets.landing.declared_sources import DeclaredSource, Sources
from platform_assets.landing.landing_zone import DeclaredZone, LandingZones
from platform_assets.landing.source_files import look_at
from platform_assets.landing.zone_files import Waiting
from platform_assets.orchestration.failures import plain_failures
from platform_assets.orchestration.run_states import UNFINISHED
from platform_assets.settings import variable

SENSOR_SECONDS = 60
RETRY_AFTER = (5 * 60, 60 * 60, 6 * 60 * 60)
"""Seconds to wait after each failed run for the same content. After the last retry the sensor waits for a new file."""
SOURCE_TAG = "platform/source"
"""Tag of a run that the sensor launched: variable and content digest."""
ZONE_SECONDS = 15
"""Minimum time between two scans of a landing zone, in seconds."""
DISCOVER_SECONDS = 0.7
"""Time limit for reading files in one scan of a landing zone, in seconds."""
ZONE_RETRY = (60, 5 * 60, 15 * 60, 60 * 60)
"""Seconds to wait after each failed run of a zone's job. The last value applies to all further failures."""
_KEY_DIGITS = 16
_FAILED = {dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED}


@dataclass(frozen=True)
class Seen:
    """The sensor's cursor: a cache, so that an unchanged file is not read again. If it is lost, no file is missed.

    Attributes
    ----------
    look
        Facts about the file (size, time, entity tag), as JSON.
    digest
        SHA-256 of the content that the file had when these facts were recorded.
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


class PublishedTables(Protocol):
    """The published tables; implemented by `lake.delta_tables.TableStore`."""

    def source_digest(self, name: str) -> str | None:
        """Return the SHA-256 of the content that a table was made from; None if there is no table or source."""
        ...


def source_changed_sensor(
    name: str, declared: DeclaredSource, table: dg.AssetsDefinition, job: str
) -> dg.SensorDefinition:
    """Make a sensor that launches a job when the content of a source changes. Sample data are ignored.

    The file is read only if its size, time or entity tag changed. The job is launched if the table was not made from
    this content. If the run fails, it is retried after the times in `RETRY_AFTER`. While a run of the job is
    unfinished, no further run is launched.

    Parameters
    ----------
    name
        Name of the sensor.
    declared
        Declaration of the source.
    table
        The asset that is made from the source.
    job
        Name of the job, which materialises the asset.
    """

    @dg.sensor(
        name=name,
        # Pass the job's name, because with a job object Dagster 1.13 rebuilds the sensor and logs a warning.
        job_name=job,
        minimum_interval_seconds=SENSOR_SECONDS,
        description=(
            f"Launch {job} if {table.key.to_user_string()} was not made from the current file in {declared.variable}. "
            "A failed run is retried after 5 minutes, 1 hour and 6 hours; after that, launch the job by hand or "
            "deliver a new file."
        ),
    )
    def sensor(
        context: dg.SensorEvaluationContext,
        sources: dg.ResourceParam[Sources],
        tables: dg.ResourceParam[PublishedTables],
    ) -> dg.SensorResult | dg.SkipReason:
        source = sources.given(declared)
        if source is None:
            return dg.SkipReason(f"{declared.variable} is not set")
        if busy := context.instance.get_runs(dg.RunsFilter(job_name=job, statuses=UNFINISHED), limit=1):
            return dg.SkipReason(f"run {busy[0].run_id} of {job} has not finished")
        seen = Seen.of(context.cursor)
        with plain_failures():
            facts = look_at(source)
            look = json.dumps(facts, sort_keys=True) if facts else ""
            digest = seen.digest if look and look == seen.look else sources.content_digest(declared, source)
            is_published = tables.source_digest("/".join(table.key.path)) == digest
        cursor = Seen(look, digest).cursor()
        if is_published and not _failed_later(context.instance, table.key, job):
            return dg.SensorResult(
                skip_reason=f"{table.key.to_user_string()} is up to date with {source}", cursor=cursor
            )
        due = _run_for(context.instance, job, f"{declared.variable} {digest[:_KEY_DIGITS]}")
        if isinstance(due, str):
            return dg.SensorResult(skip_reason=f"{source}: {due}; to try now, launch {job}", cursor=cursor)
        return dg.SensorResult(run_requests=[due], cursor=cursor)

    return sensor


def _run_for(instance: dg.DagsterInstance, job: str, tag: str) -> dg.RunRequest | str:
    """Return a run request for the current content, or the reason to wait after failed runs."""
    runs = instance.get_run_records(dg.RunsFilter(job_name=job, tags={SOURCE_TAG: tag}))
    if reason := reason_to_wait(_failures(runs), time.time()):
        return reason
    # Number the run keys, because Dagster never launches two runs with the same key.
    return dg.RunRequest(run_key=f"{tag}, run {len(runs) + 1}", tags={SOURCE_TAG: tag})


def files_landed_sensor(
    name: str,
    declared: DeclaredZone,
    job: str,
    waits_for: Callable[[dg.SensorEvaluationContext], str | None] | None = None,
    resources: set[str] | None = None,
) -> dg.SensorDefinition:
    """Make a sensor that scans a landing zone, and launches a job if files wait and the job has no unfinished run.

    PostgreSQL records which files have landed, so the sensor needs no cursor and its runs need no run key. Resetting
    the cursor or clearing Dagster's storage therefore loads no file again. After a failed run, the sensor waits a
    minute, and longer after each further failure.

    Parameters
    ----------
    name
        Name of the sensor.
    declared
        Declaration of the zone.
    job
        Name of the job, which materialises the zone's table and its downstream assets.
    waits_for
        Function that returns why landed files cannot be processed now, or None if they can. Without this function,
        landed files do not launch the job.
    resources
        Names of the resources that `waits_for` uses.
    """

    @dg.sensor(
        name=name,
        job_name=job,
        minimum_interval_seconds=ZONE_SECONDS,
        required_resource_keys={"zones", *(resources or ())},
        description=(
            f"Launch {job} for new files in {declared.variable}. A file is loaded after it has not changed for "
            f"{variable(declared.settle_seconds)} seconds. Equal files are loaded only once. If the variable "
            "is not set, the sensor watches the folder of the sample files."
        ),
    )
    def sensor(context: dg.SensorEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        zones: LandingZones = context.resources.zones
        with plain_failures():
            zone = zones.given(declared)
            if zone is None:
                return dg.SkipReason(f"{declared.variable} is not set")
            waiting = zone.discover(DISCOVER_SECONDS)
        held = waits_for(context) if waits_for and waiting.landed else None
        told = described(waiting, held)
        if not waiting.found and not (waits_for and waiting.landed and held is None):
            return dg.SkipReason(f"no file in {zone.folder.source} is ready{told}")
        if busy := context.instance.get_runs(dg.RunsFilter(job_name=job, statuses=UNFINISHED), limit=1):
            return dg.SkipReason(f"run {busy[0].run_id} of {job} has not finished{told}")
        failures = _failures(context.instance.get_run_records(dg.RunsFilter(job_name=job), limit=len(ZONE_RETRY)))
        due = failures[0] + ZONE_RETRY[len(failures) - 1] if failures else 0.0
        if time.time() < due:
            again = f"consecutive failed runs of {job}: {len(failures)}; the next run starts at {_clock(due)}"
            return dg.SkipReason(f"{again}{told}")
        return dg.RunRequest()

    return sensor


def described(waiting: Waiting, held: str | None) -> str:
    """Return which files of a zone are waiting and why, as clauses that begin with a semicolon."""
    said = [
        (waiting.found, "ready: {}"),
        (waiting.unread, f"just written or not yet read: {{}}, for example {waiting.unread_name}"),
        (waiting.unreadable, f"unreadable: {{}}, for example {waiting.problem}"),
        (waiting.landed, "landed but not processed: {}" + (f" ({held})" if held else "")),
        (waiting.absent, "removed before landing: {}"),
        (waiting.set_aside, "unusable: {}"),
    ]
    return "".join(f"; {text.format(number)}" for number, text in said if number)


def reason_to_wait(failures: Sequence[float], now: float) -> str | None:
    """Return the reason not to launch a run for the current content yet, or None if a run is due.

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
        return f"{failed}; there are no more automatic retries"
    due = failures[0] + RETRY_AFTER[len(failures) - 1]
    return None if now >= due else f"{failed}; the next retry is at {_clock(due)}"


def _clock(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%H:%M} UTC"


def _failed_later(instance: dg.DagsterInstance, table: dg.AssetKey, job: str) -> bool:
    """Whether the job was the last to publish the table, and failed in a later step, so that it must be retried."""
    event = instance.get_latest_materialization_event(table)
    run = instance.get_run_by_id(event.run_id) if event else None
    return run is not None and run.job_name == job and run.status in _FAILED


def _failures(runs: Sequence[dg.RunRecord]) -> list[float]:
    """Return the end times of the failed runs since the last success, newest first."""
    found = []
    for run in runs:
        if run.dagster_run.status not in _FAILED:
            break
        found.append(run.end_time or run.update_timestamp.timestamp())
    return found
