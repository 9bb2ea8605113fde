"""A sensor on a source: launches a job when the file behind a setting has other bytes than before."""

import json
from dataclasses import asdict, dataclass
from typing import Self

import dagster as dg

from platform_assets.landing.declared_sources import DeclaredSource, Sources
from platform_assets.landing.source_changes import digest_of, look_at
from platform_assets.orchestration.failures import plain_failures
from platform_assets.orchestration.run_states import UNFINISHED

SENSOR_SECONDS = 60
_KEY_DIGITS = 16


@dataclass(frozen=True)
class Seen:
    """What a sensor knows of a file; its cursor.

    Attributes
    ----------
    look
        What its store said of it.
    digest
        SHA-256 of its bytes.
    changes
        How often its bytes have changed, the first time included.
    """

    look: str = ""
    digest: str = ""
    changes: int = 0

    @classmethod
    def of(cls, cursor: str | None) -> Self:
        """What a cursor says; nothing where it says nothing that is understood."""
        try:
            return cls(**json.loads(cursor or "{}"))
        except (TypeError, ValueError):
            return cls()

    def cursor(self) -> str:
        """As Dagster keeps it."""
        return json.dumps(asdict(self))


def source_changed_sensor(name: str, declared: DeclaredSource, job: str) -> dg.SensorDefinition:
    """Launches a job once for each new content of a source; sample data never change.

    The file is read only when its store says something else of it than before (size, time, entity tag); the job is
    launched only when its bytes are others, the first ones included. While the job is at work the change waits.

    Parameters
    ----------
    name
        The sensor's.
    declared
        The source.
    job
        Name of the job.
    """

    @dg.sensor(
        name=name,
        # By name: of the job itself, Dagster 1.13 makes the sensor anew with its resources, and warns of doing so.
        job_name=job,
        minimum_interval_seconds=SENSOR_SECONDS,
        description=f"Launch {job} when the file that {declared.variable} names has other bytes than before.",
    )
    def sensor(
        context: dg.SensorEvaluationContext, sources: dg.ResourceParam[Sources]
    ) -> dg.SensorResult | dg.SkipReason:
        source = sources.given(declared)
        if source is None:
            return dg.SkipReason(f"{declared.variable} is not set")
        if busy := context.instance.get_runs(dg.RunsFilter(job_name=job, statuses=UNFINISHED), limit=1):
            return dg.SkipReason(f"run {busy[0].run_id} of {job} is at work")
        seen = Seen.of(context.cursor)
        with plain_failures():
            look = look_at(source)
            if look and look == seen.look:
                return dg.SkipReason(f"{source} is as it was")
            digest = digest_of(source)
        if digest == seen.digest:
            return dg.SensorResult(
                skip_reason=f"{source} has the same bytes as before",
                cursor=Seen(look, digest, seen.changes).cursor(),
            )
        changed = Seen(look, digest, seen.changes + 1)
        # With the change, for run keys are remembered for ever, and a file may go back to what it was.
        key = f"{declared.variable} {digest[:_KEY_DIGITS]}, change {changed.changes}"
        return dg.SensorResult(run_requests=[dg.RunRequest(run_key=key)], cursor=changed.cursor())

    return sensor
