"""Backfills that execute their runs in the calling process."""

from collections.abc import Iterator

import dagster as dg
import pytest

from platform_assets.base.errors import PlatformError
from platform_assets.orchestration.in_process_runs import PartRun, backfill, partition_tags, partitions_of_run
from platform_assets_tests.instances import empty_instance

DAYS = dg.StaticPartitionsDefinition([f"day {number}" for number in range(1, 8)])
broken: set[str] = set()
made: list[str] = []


def daily_assets(per_run: int | None) -> list[dg.AssetsDefinition]:
    with pytest.warns(dg.BetaWarning):

        @dg.asset(partitions_def=DAYS, backfill_policy=dg.BackfillPolicy(per_run))
        def daily(context: dg.AssetExecutionContext) -> dg.MaterializeResult[None]:
            if broken.intersection(context.partition_keys):
                raise dg.Failure(f"no data for {context.partition_keys[0]}", allow_retries=False)
            made.extend(context.partition_keys)
            return dg.MaterializeResult(metadata={"dagster/row_count": len(context.partition_keys)})

    return [daily]


@dg.asset
def whole() -> None: ...


def job_of(assets: list[dg.AssetsDefinition]) -> dg.JobDefinition:
    job = dg.define_asset_job("load", selection=assets)
    return dg.Definitions(assets=assets, jobs=[job]).resolve_job_def("load")


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    broken.clear()
    made.clear()
    with empty_instance() as instance:
        yield instance


def ranges(runs: list[PartRun]) -> list[tuple[str, str]]:
    return [(run.first[-1], run.last[-1]) for run in runs]


@pytest.mark.requirement("ESI-4")
@pytest.mark.parametrize(
    ("per_run", "expected"),
    [(3, [("2", "4"), ("5", "6")]), (1, [(day, day) for day in "23456"]), (None, [("2", "6")]), (9, [("2", "6")])],
)
def test_the_backfill_policy_limits_the_number_of_partitions_per_run(
    instance: dg.DagsterInstance, per_run: int | None, expected: list[tuple[str, str]]
) -> None:
    runs: list[PartRun] = []
    assert backfill(job_of(daily_assets(per_run)), instance, "day 2", "day 6", runs.append)
    assert ranges(runs) == expected
    assert made == [f"day {number}" for number in range(2, 7)]
    assert sum(run.tables[0][1] for run in runs) == 5
    assert {run.run_id for run in runs} == {run.run_id for run in instance.get_runs()}


@pytest.mark.requirement("ESI-4")
def test_a_failed_run_ends_the_backfill_and_the_next_backfill_continues(instance: dg.DagsterInstance) -> None:
    job = job_of(daily_assets(2))
    broken.add("day 4")
    runs: list[PartRun] = []
    assert not backfill(job, instance, "day 1", "day 7", runs.append)
    assert ranges(runs) == [("1", "2"), ("3", "4")]
    assert [run.failure for run in runs] == [None, "no data for day 3"]
    broken.clear()
    # A backfill of a different range, run in between, must not change where the failed backfill resumes.
    assert backfill(job, instance, "day 1", "day 2")
    made.clear()
    runs.clear()
    assert backfill(job, instance, "day 1", "day 7", runs.append)
    assert ranges(runs) == [("1", "2"), ("3", "4"), ("5", "6"), ("7", "7")]
    assert [bool(run.run_id) for run in runs] == [False, True, True, True]
    assert made == [f"day {number}" for number in range(3, 8)]
    # After a completed backfill, the next backfill starts from the beginning.
    made.clear()
    assert backfill(job, instance, "day 1", "day 7")
    assert len(made) == 7


@pytest.mark.parametrize(("first", "last"), [("day 0", "day 2"), ("day 2", "day 8"), ("day 3", "day 2")])
def test_unknown_partitions_are_refused(instance: dg.DagsterInstance, first: str, last: str) -> None:
    with pytest.raises(
        PlatformError, match=f"load has no partitions {first} to {last}; its partitions are day 1 to day 7"
    ):
        backfill(job_of(daily_assets(1)), instance, first, last)


def test_a_job_without_partitions_is_refused(instance: dg.DagsterInstance) -> None:
    with pytest.raises(PlatformError, match="load has no partitions a to b; it is not partitioned"):
        backfill(job_of([whole]), instance, "a", "b")


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ({}, []),
        ({"dagster/partition": "day 3"}, ["day 3"]),
        (partition_tags("day 3", "day 5"), ["day 3", "day 4", "day 5"]),
    ],
)
def test_the_partitions_of_a_run_are_read_from_its_tags(
    instance: dg.DagsterInstance, tags: dict[str, str], expected: list[str]
) -> None:
    run = instance.create_run_for_job(job_of(daily_assets(1)), tags=tags)
    assert list(partitions_of_run(run, DAYS)) == expected
