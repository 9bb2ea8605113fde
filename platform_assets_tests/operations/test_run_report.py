"""The run report for assets that succeed, fail, or are skipped."""

import signal
from collections.abc import Iterator
from typing import Any

import dagster as dg
import pytest

from platform_assets.base.errors import TableError
from platform_assets.operations.run_report import NEWEST_PARTITIONS, Outcome, Report, materialise_all
from platform_assets.serving.assets import WAITS
from platform_assets_tests.command_line import listening_to_interrupts
from platform_assets_tests.instances import empty_instance


@dg.asset
def first() -> dg.MaterializeResult[None]:
    return dg.MaterializeResult(
        metadata={"dagster/row_count": 1_234, "quarantined_rows": 5, WAITS: "1 file is waiting"}
    )


@dg.asset(deps=[first])
def second() -> None: ...


@dg.asset(deps=[second])
def third() -> None: ...


@dg.asset
def alone() -> None: ...


@dg.asset(deps=[first])
def zz_last() -> None: ...


@dg.asset(name="second", deps=[first])
def raising() -> None:
    raise ValueError("[/no markup] the disk is blue") from RuntimeError("the sky fell")


@dg.asset(name="second", deps=[first])
def failing() -> None:
    raise dg.Failure("the source is empty", allow_retries=False)


@dg.asset(name="second", deps=[first])
def refusing() -> None:
    raise TableError("the disk is full")


@dg.asset(name="second", deps=[first])
def interrupted() -> None:
    signal.raise_signal(signal.SIGINT)


@dg.asset(name="second", deps=[first])
def interrupted_in_duckdb() -> None:
    # This is DuckDB's error if SIGINT arrives during a query.
    raise RuntimeError("Query interrupted")


@dg.asset(name="second", deps=[first], check_specs=[dg.AssetCheckSpec("rows_are_blue", asset="second", blocking=True)])
def blocked() -> Iterator[Any]:
    yield dg.AssetCheckResult(passed=False, check_name="rows_are_blue")
    raise dg.Failure("second is not published", allow_retries=False)


@dg.asset_check(asset=second)
def rows_are_many() -> dg.AssetCheckResult:
    return dg.AssetCheckResult(passed=True)


@dg.asset_check(asset=second)
def rows_are_red() -> dg.AssetCheckResult:
    return dg.AssetCheckResult(passed=False, severity=dg.AssetCheckSeverity.WARN)


@dg.asset_check(asset=second, blocking=True)
def rows_are_green() -> dg.AssetCheckResult:
    return dg.AssetCheckResult(passed=False)


@dg.asset_check(asset=second)
def rows_are_present() -> dg.AssetCheckResult:
    raise dg.Failure("the database is away")


def report_of(*assets: Any) -> Report:
    checks = [one for one in assets if isinstance(one, dg.AssetChecksDefinition)]
    definitions = dg.Definitions(
        [one for one in assets if one not in checks], asset_checks=checks, executor=dg.in_process_executor
    )
    with empty_instance() as instance:
        return materialise_all(definitions, instance, lambda _: None)


def states(report: Report) -> dict[str, str]:
    return {outcome.asset: outcome.state for outcome in report.outcomes}


def outcome(report: Report, asset: str = "second") -> Outcome:
    return next(one for one in report.outcomes if one.asset == asset)


def test_the_report_of_a_successful_run_lists_each_asset_as_done() -> None:
    report = report_of(third, second, first, rows_are_many)
    assert report.complete
    assert [(one.asset, one.state, one.reason) for one in report.outcomes] == [
        ("first", "done", ""),
        ("second", "done", ""),
        ("third", "done", ""),
    ]
    assert (outcome(report, "first").rows, outcome(report, "first").quarantined) == (1_234, 5)
    assert (outcome(report).rows, outcome(report).quarantined) == (None, None)
    assert (outcome(report, "first").waits, outcome(report).waits) == ("1 file is waiting", "")
    assert (outcome(report).passed, outcome(report).failed) == (["rows_are_many"], [])
    assert all(one.seconds > 0 for one in report.outcomes)


@pytest.mark.requirement("PLT-3", "PLT-5")
@pytest.mark.parametrize(
    ("assets", "complete", "reason"),
    [
        pytest.param([second, rows_are_red], True, "", id="a warning"),
        pytest.param([second, rows_are_green], False, "", id="a blocking check that fails"),
        pytest.param([second, rows_are_present], False, "the database is away", id="a check that cannot be made"),
        pytest.param([failing], False, "the source is empty", id="a failure that says why"),
        pytest.param([refusing], False, "the disk is full", id="an error of ours"),
        pytest.param([raising], False, "RuntimeError: the sky fell", id="any error"),
        pytest.param([blocked], False, "second is not published", id="an asset with a failed blocking check"),
    ],
)
def test_failures_make_a_run_incomplete_but_warnings_do_not(assets: list[Any], complete: bool, reason: str) -> None:
    report = report_of(first, *assets)
    assert report.complete is complete
    assert outcome(report).reason == reason
    assert states(report)["first"] == "done"


@pytest.mark.requirement("PLT-5")
def test_only_assets_downstream_of_a_failed_asset_are_skipped_and_the_reason_is_reported() -> None:
    report = report_of(first, failing, third, alone)
    assert states(report) == {"first": "done", "second": "failed", "third": "skipped", "alone": "done"}
    assert outcome(report, "third").reason == "needs second"


@pytest.mark.parametrize("asset", [interrupted, interrupted_in_duckdb])
def test_an_interruption_ends_the_run_and_is_reported(asset: Any) -> None:
    with listening_to_interrupts():
        report = report_of(first, asset, third, zz_last)
    assert report.interrupted
    assert not report.complete
    assert states(report) == {"first": "done", "second": "failed", "third": "skipped", "zz_last": "skipped"}
    assert outcome(report).reason == "interrupted; run again"
    assert outcome(report, "zz_last").reason == "the run ended early: interrupted; run again"
    assert not report_of(first, failing).interrupted


def test_the_report_lists_failed_checks() -> None:
    assert outcome(report_of(first, second, rows_are_red, rows_are_many)).failed == ["rows_are_red"]
    assert (outcome(report_of(first, blocked)).failed, outcome(report_of(first, blocked)).blocked) == (
        ["rows_are_blue"],
        True,
    )


def test_progress_is_reported_during_the_run() -> None:
    seen: list[tuple[str, str]] = []
    with empty_instance() as instance:
        materialise_all(
            dg.Definitions([first, failing, third], executor=dg.in_process_executor),
            instance,
            lambda outcome: seen.append((outcome.asset, outcome.state)),
        )
    assert seen == [
        ("first", "running"),
        ("first", "done"),
        ("second", "running"),
        ("second", "failed"),
        ("third", "skipped"),
    ]


def test_dagster_records_the_run_with_its_assets() -> None:
    with empty_instance() as instance:
        report = materialise_all(dg.Definitions([first, second]), instance, lambda _: None)
        run = instance.get_run_by_id(report.run_id)
        assert run is not None
        assert run.is_success
        assert run.asset_selection == {first.key, second.key}


MONTHS = dg.MonthlyPartitionsDefinition("2020-01-01", end_offset=2)
seen: dict[str, list[str]] = {}


@dg.asset(partitions_def=MONTHS)
def monthly(context: dg.AssetExecutionContext) -> None:
    seen["monthly"] = list(context.partition_keys)


@dg.asset(deps=[monthly])
def all_months() -> None: ...


@dg.asset(partitions_def=dg.StaticPartitionsDefinition(["a", "b"]))
def lettered() -> None: ...


@pytest.mark.requirement("PLT-3")
def test_the_newest_partitions_of_a_table_are_materialised() -> None:
    with empty_instance() as instance:
        report = materialise_all(dg.Definitions(assets=[monthly, all_months]), instance, lambda _: None)
    assert report.complete
    assert [outcome.asset for outcome in report.outcomes] == ["monthly", "all_months"]
    assert seen["monthly"] == list(MONTHS.get_partition_keys()[-NEWEST_PARTITIONS:])


def test_a_run_of_tables_with_different_partitions_is_refused_with_the_reason() -> None:
    with empty_instance() as instance:
        report = materialise_all(dg.Definitions(assets=[monthly, lettered]), instance, lambda _: None)
    assert {outcome.state for outcome in report.outcomes} == {"skipped"}
    assert "lettered, monthly have different partitions" in report.outcomes[1].reason
