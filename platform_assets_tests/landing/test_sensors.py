"""The sensor on a source launches its job once for each new content, and looks before it reads."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import dagster as dg
import pytest

from platform_assets.domains.credit_risk.settings import CreditRiskSettings
from platform_assets.domains.credit_risk.sources import LOANS
from platform_assets.landing.declared_sources import Sources
from platform_assets.landing.sensors import Seen, source_changed_sensor
from platform_assets.settings import Settings
from platform_assets_tests.instances import empty_instance

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.requirement("PLT-2")

JOB = "train_breakage_model"


@dg.op
def nothing() -> None: ...


@dg.job(name=JOB)
def train() -> None:
    nothing()


SENSOR = source_changed_sensor("breakage_readings_changed", LOANS, JOB)


class Watched:
    """A file that a sensor watches, tick by tick, as Dagster's daemon would."""

    def __init__(self, folder: Path, instance: dg.DagsterInstance) -> None:
        self.file = folder / "readings"
        self.instance = instance
        self.uri = str(self.file)
        self.cursor: str | None = None
        self._written = 0

    def write(self, content: str) -> None:
        self.file.write_text(content)
        # Two writes may fall into one tick of the file system's clock.
        self._written += 1
        os.utime(self.file, (self._written, self._written))

    def tick(self) -> list[str | None] | str | None:
        """Keys of the runs that are launched, or why there are none."""
        context = dg.build_sensor_context(
            instance=self.instance,
            cursor=self.cursor,
            resources={"sources": Sources(Settings(), (CreditRiskSettings(credit_loans_uri=self.uri),))},
            repository_def=dg.Definitions(jobs=[train], sensors=[SENSOR]).get_repository_def(),
        )
        data = SENSOR.evaluate_tick(context)
        self.cursor = data.cursor
        return [request.run_key for request in data.run_requests or ()] or data.skip_message


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    with empty_instance() as instance:
        yield Watched(tmp_path, instance)


def key(digest: str, change: int) -> list[str]:
    return [f"PLATFORM_CREDIT_LOANS_URI {digest}, change {change}"]


ONE, TWO = "7692c3ad3540bb80", "3fc4ccfe745870e2"


def test_each_new_content_launches_the_job_once(watched: Watched) -> None:
    watched.write("one")
    assert watched.tick() == key(ONE, 1)
    assert watched.tick() == f"{watched.file} (PLATFORM_CREDIT_LOANS_URI) is as it was"
    watched.write("two")
    assert watched.tick() == key(TWO, 2)
    watched.write("two")
    assert watched.tick() == f"{watched.file} (PLATFORM_CREDIT_LOANS_URI) has the same bytes as before"
    assert watched.tick() == f"{watched.file} (PLATFORM_CREDIT_LOANS_URI) is as it was"


def test_a_file_that_goes_back_to_what_it_was_is_a_change_with_a_key_of_its_own(watched: Watched) -> None:
    for change, (content, digest) in enumerate([("one", ONE), ("two", TWO), ("one", ONE)], start=1):
        watched.write(content)
        assert watched.tick() == key(digest, change)


def test_while_the_job_is_at_work_the_change_waits(watched: Watched) -> None:
    watched.write("one")
    run = watched.instance.create_run_for_job(train, status=dg.DagsterRunStatus.STARTED)
    assert watched.tick() == f"run {run.run_id} of {JOB} is at work"
    assert watched.cursor is None
    watched.instance.report_run_canceled(run)
    assert watched.tick() == key(ONE, 1)


def test_the_file_is_read_only_when_it_looks_different(watched: Watched) -> None:
    watched.write("one")
    watched.tick()
    state = watched.file.stat()
    watched.cursor = json.dumps(json.loads(watched.cursor or "") | {"digest": "of something else"})
    assert "is as it was" in str(watched.tick())
    # Replaced by another file of the same size and time, as `cp -p` does.
    (watched.file.parent / "other").write_text("two")
    (watched.file.parent / "other").replace(watched.file)
    os.utime(watched.file, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert watched.tick() == key(TWO, 2)


def test_a_cursor_that_nobody_understands_is_none(watched: Watched) -> None:
    watched.write("one")
    for cursor in ("", "not json", "[]", '{"sequence": 3}', "3"):
        watched.cursor = cursor
        assert watched.tick() == key(ONE, 1)
    assert Seen.of(Seen("a", "b", 3).cursor()) == Seen("a", "b", 3)


def test_sample_data_never_change(watched: Watched) -> None:
    watched.uri = ""
    assert watched.tick() == "PLATFORM_CREDIT_LOANS_URI is not set"


@pytest.mark.requirement("PLT-8")
def test_a_source_that_is_away_fails_the_tick_with_its_name_and_moves_nothing(watched: Watched) -> None:
    watched.write("one")
    watched.tick()
    before = watched.cursor
    watched.uri = "ftp://reader:hunter2-of-the-source@127.0.0.1:1/readings"
    with pytest.raises(Exception, match="/readings .PLATFORM_CREDIT_LOANS_URI. cannot be looked at: ") as raised:
        watched.tick()
    assert "hunter2" not in str(raised.value)
    assert watched.cursor == before
