"""A source's sensor launches its job if the table was not made from the file's current content.

The sensor reads the file only if the file has changed since the last tick.
"""

import gzip
import hashlib
import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
import pytest

from platform_assets.domains.credit_risk.settings import CreditRiskSettings
from platform_assets.domains.credit_risk.sources import LOANS
from platform_assets.landing.declared_sources import Sources
from platform_assets.landing.sensors import RETRY_AFTER, Seen, reason_to_wait, source_changed_sensor
from platform_assets.settings import Settings
from platform_assets_tests.instances import empty_instance

pytestmark = pytest.mark.requirement("PLT-2")

JOB, FILE, TABLE, FAILING = "train_breakage_model", "test/file", "test/table", "test/failing"


@dg.asset
def readings(context: dg.AssetExecutionContext) -> dg.MaterializeResult[None]:
    if context.run.tags[FAILING] == "readings":
        raise dg.Failure("the lake is away")
    content = Path(context.run.tags[FILE]).read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    Path(context.run.tags[TABLE]).write_text(digest)
    return dg.MaterializeResult(metadata={"source_digest": digest})


@dg.asset(deps=[readings])
def breakage_model(context: dg.AssetExecutionContext) -> None:
    if context.run.tags[FAILING] == "model":
        raise dg.Failure("no space left")


SENSOR = source_changed_sensor("breakage_readings_changed", LOANS, readings, JOB)
REPOSITORY = dg.Definitions(
    [readings, breakage_model],
    jobs=[dg.define_asset_job(JOB, [readings, breakage_model]), dg.define_asset_job("load", [readings])],
    sensors=[SENSOR],
).get_repository_def()


@dataclass(frozen=True)
class Tables:
    """Stand-in for the table store. `file` holds the digest of the content from which `readings` was made."""

    file: Path

    def source_digest(self, name: str) -> str | None:
        assert name == "readings"
        return self.file.read_text() if self.file.exists() else None


class Watched:
    """A file that a sensor watches. Each call of `tick` evaluates the sensor, as Dagster's daemon does."""

    def __init__(self, folder: Path, instance: dg.DagsterInstance) -> None:
        self.file = folder / "readings"
        self.home = folder / "home"
        self.tables = Tables(folder / "table")
        self.instance = instance
        self.uri = str(self.file)
        self.cursor: str | None = None
        self._tags: dict[str, str] = {}
        self._written = 0

    def write(self, content: str) -> None:
        self.file.write_text(content)
        # Set a new modification time, because the file system can give two quick writes the same time.
        self._written += 1
        os.utime(self.file, (self._written, self._written))

    def tick(self) -> str:
        """Evaluate the sensor. Return the key of the requested run, or the reason to skip."""
        sources = Sources(Settings(home=self.home), (CreditRiskSettings(credit_loans_uri=self.uri),))
        context = dg.build_sensor_context(
            instance=self.instance,
            cursor=self.cursor,
            resources={"sources": sources, "tables": self.tables},
            repository_def=REPOSITORY,
        )
        data = SENSOR.evaluate_tick(context)
        self.cursor = data.cursor
        assert [path for path in self.home.rglob("*") if path.is_file()] == []
        if not data.run_requests:
            return data.skip_message or ""
        [request] = data.run_requests
        self._tags = dict(request.tags)
        return request.run_key or ""

    def run(self, failing: str = "", job: str = JOB, file: Path | None = None) -> None:
        """Run a job. If it is the sensor's job, add the tags of the sensor's last run request."""
        tags = {FILE: str(file or self.file), TABLE: str(self.tables.file), FAILING: failing} | (
            self._tags if job == JOB else {}
        )
        done = REPOSITORY.get_job(job).execute_in_process(instance=self.instance, tags=tags, raise_on_error=False)
        assert done.success != bool(failing)


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    with empty_instance() as instance:
        yield Watched(tmp_path, instance)


VARIABLE = "PLATFORM_CREDIT_LOANS_URI"
ONE, TWO = f"{VARIABLE} 7692c3ad3540bb80", f"{VARIABLE} 3fc4ccfe745870e2"


def loaded(watched: Watched) -> str:
    return f"readings is up to date with {watched.file} ({VARIABLE})"


def test_each_change_of_the_file_launches_the_job_once(watched: Watched) -> None:
    for content, key in (("one", ONE), ("two", TWO), ("one", ONE)):
        watched.write(content)
        run = 1 if watched.instance.get_runs_count(dg.RunsFilter(tags={"platform/source": key})) == 0 else 2
        assert watched.tick() == f"{key}, run {run}"
        watched.run()
        assert watched.tick() == loaded(watched)
        watched.write(content)
        assert watched.tick() == loaded(watched)


@pytest.mark.requirement("PLT-12")
def test_restored_content_is_loaded_again_even_if_its_first_load_was_recorded_late(watched: Watched) -> None:
    for content in ("one", "two"):
        watched.write(content)
        watched.tick()
        watched.run()
    # The run for "one" came first, but Dagster records its materialisation only now, after that of the run for "two".
    first = dg.AssetMaterialization("readings", metadata={"source_digest": hashlib.sha256(b"one").hexdigest()})
    watched.instance.report_runless_asset_event(first)
    assert watched.tick() == loaded(watched)
    watched.write("one")
    assert watched.tick() == f"{ONE}, run 2"


def test_a_file_that_was_only_repacked_launches_no_job(watched: Watched) -> None:
    watched.write("one")
    watched.tick()
    watched.run()
    watched.file.write_bytes(gzip.compress(b"one"))
    assert watched.tick() == loaded(watched)


def test_no_file_is_missed_and_no_run_is_launched_twice_if_the_cursor_is_lost(watched: Watched) -> None:
    for content in ("one", "two"):
        watched.write(content)
        requested = watched.tick()
        for cursor in (
            None,
            "",
            "not json",
            "[]",
            '{"sequence": 3}',
            "3",
            '{"look": "x", "digest": "y", "changes": 2}',
        ):
            watched.cursor = cursor
            assert watched.tick() == requested
        watched.run()
        watched.cursor = None
        assert watched.tick() == loaded(watched)
    assert Seen.of(Seen("a", "b").cursor()) == Seen("a", "b")


@pytest.mark.parametrize("failing", ["readings", "model"])
def test_a_failed_run_is_retried_later_even_if_the_cursor_is_lost(watched: Watched, failing: str) -> None:
    watched.write("one")
    watched.tick()
    watched.run(failing)
    for cursor in (watched.cursor, None):
        watched.cursor = cursor
        assert watched.tick().startswith(
            f"{watched.file} ({VARIABLE}): 1 run failed for this content; the next retry is at "
        )
    watched.write("two")
    assert watched.tick() == f"{TWO}, run 1"


def test_a_successful_manual_run_ends_the_retries(watched: Watched) -> None:
    watched.write("one")
    watched.tick()
    watched.run("readings")
    watched.run(job="load")
    assert watched.tick() == loaded(watched)


def test_the_job_is_launched_again_after_the_table_was_made_from_another_file(watched: Watched) -> None:
    watched.write("one")
    watched.tick()
    watched.run()
    other = watched.file.with_name("other")
    other.write_text("two")
    watched.run(job="load", file=other)
    assert watched.tick() == f"{ONE}, run 2"


def test_each_retry_waits_longer_and_retries_stop_after_four_failures() -> None:
    failures: list[float] = []
    assert reason_to_wait(failures, 0) is None
    for number, seconds in enumerate(RETRY_AFTER, start=1):
        failures = [1_000_000.0, *failures]
        assert f"{number} run" in str(reason_to_wait(failures, 1_000_000 + seconds - 1))
        assert reason_to_wait(failures, 1_000_000 + seconds) is None
    assert (
        reason_to_wait([0.0, *failures], 1e12) == "4 runs failed for this content; there are no more automatic retries"
    )


def test_no_run_is_launched_while_another_run_of_the_job_is_unfinished(watched: Watched) -> None:
    watched.write("one")
    run = watched.instance.create_run_for_job(REPOSITORY.get_job(JOB), status=dg.DagsterRunStatus.STARTED)
    assert watched.tick() == f"run {run.run_id} of {JOB} has not finished"
    assert watched.cursor is None
    watched.instance.report_run_canceled(run)
    assert watched.tick() == f"{ONE}, run 1"


def test_the_file_is_read_again_only_if_its_size_inode_or_timestamps_changed(watched: Watched) -> None:
    watched.write("one")
    watched.tick()
    state = watched.file.stat()
    watched.cursor = json.dumps(json.loads(watched.cursor or "") | {"digest": "of something else"})
    assert watched.tick() == f"{VARIABLE} of something els, run 1"
    # The new file has the same size and modification time, as after `cp -p`, but a different inode.
    (watched.file.parent / "other").write_text("two")
    (watched.file.parent / "other").replace(watched.file)
    os.utime(watched.file, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert watched.tick() == f"{TWO}, run 1"
    # Overwriting in place keeps the size and inode, and `utime` restores the modification time; only `ctime` differs.
    watched.file.write_text("one")
    os.utime(watched.file, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert watched.tick() == f"{ONE}, run 1"


@pytest.mark.requirement("PLT-12")
def test_a_file_that_was_just_written_is_read_again_on_the_next_tick(watched: Watched) -> None:
    # A second write within the same clock tick could leave the modification time unchanged.
    watched.file.write_text("one")
    watched.tick()
    assert Seen.of(watched.cursor).look == ""
    old = time.time() - 3
    os.utime(watched.file, (old, old))
    watched.tick()
    assert Seen.of(watched.cursor).look


def test_a_damaged_file_launches_the_job_so_that_its_run_reports_the_damage(watched: Watched) -> None:
    watched.file.write_bytes(gzip.compress(b"one" * 999)[:-9])
    requested = watched.tick()
    assert requested.endswith(", run 1")
    assert watched.tick() == requested


def test_sample_data_never_launch_the_job(watched: Watched) -> None:
    watched.uri = ""
    assert watched.tick() == f"{VARIABLE} is not set"


@pytest.mark.requirement("PLT-8")
def test_an_unreachable_source_fails_the_tick_and_leaves_the_cursor_unchanged(watched: Watched) -> None:
    watched.write("one")
    watched.tick()
    before = watched.cursor
    watched.uri = "ftp://reader:hunter2-of-the-source@127.0.0.1:1/readings"
    with pytest.raises(Exception, match="/readings .PLATFORM_CREDIT_LOANS_URI. cannot be inspected: ") as raised:
        watched.tick()
    assert "hunter2" not in str(raised.value)
    assert watched.cursor == before
