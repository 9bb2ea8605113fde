"""Partitioned tables with the real IO manager: a run replaces only its own partitions."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pandas as pd
import pytest

from platform_assets.base.frames import Expression, Frame
from platform_assets.base.provenance import code_version
from platform_assets.definitions import resources
from platform_assets.lake.assets import IO_MANAGER, PARTITION_BY, table_asset
from platform_assets.lake.expectations import has_rows, is_unique, is_within, warns
from platform_assets.lake.schemas import PARTITION, Column, TableSchema
from platform_assets.lake.validation import Rows
from platform_assets.services import Services
from platform_assets.settings import Settings
from platform_assets_tests.instances import empty_instance

MONTHS = dg.StaticPartitionsDefinition(["2026-01", "2026-02", "2026-03"])
COLUMNS = (Column("month", "string", "The month."), Column("power_mw", "int64", "Power.", "MW"))
LOAD = TableSchema("grid/load", COLUMNS, key=("month",), expectations=(has_rows(),), partition_by="month")
PEAK = TableSchema("grid/peak", COLUMNS, key=("month",), partition_by="month")
YEAR = TableSchema("grid/year", (COLUMNS[1],), key=("power_mw",))
HOURLY = TableSchema(
    "grid/hourly",
    (Column("at", "timestamp", "The hour.", "UTC"), COLUMNS[1]),
    key=("at",),
    expectations=(is_unique("at"), warns(is_within("power_mw", 0, 9))),
    partition_by=lambda rows: rows.at.strftime("%Y-%m"),
)
OWNERS = ["team:grid"]
factor = {"value": 1}


@table_asset(LOAD, owners=OWNERS, partitions_def=MONTHS)
def load(context: dg.AssetExecutionContext) -> Frame:
    """One row for each month of the run."""
    months = list(context.partition_keys)
    return pd.DataFrame({"month": months, "power_mw": [int(month[-1]) * factor["value"] for month in months]})


@table_asset(PEAK, owners=OWNERS, partitions_def=MONTHS)
def peak(load: Expression) -> Expression:
    """The upstream rows with ten times the power."""
    return load.mutate(power_mw=load.power_mw * 10)


@table_asset(HOURLY, owners=OWNERS, partitions_def=MONTHS)
def hourly(context: dg.AssetExecutionContext) -> Rows:
    """Two hours of each month of the run."""
    times = [f"{month}-{day} 00:00" for month in context.partition_keys for day in ("01", "02")]
    rows = pd.DataFrame({"at": pd.to_datetime(times), "power_mw": factor["value"]})
    return Rows(rows, {"months": list(context.partition_keys)}, demo=True)


@table_asset(YEAR, owners=OWNERS)
def year(load: Frame) -> Frame:
    """Sum over all months."""
    return pd.DataFrame({"power_mw": [int(load.power_mw.sum())]})


@dg.asset(key_prefix="grid", io_manager_key=IO_MANAGER, partitions_def=MONTHS, metadata={PARTITION_BY: "month"})
def plain(context: dg.AssetExecutionContext) -> Frame:
    return pd.DataFrame({"month": [context.partition_key], "power_mw": [1]})


@dg.asset(key_prefix="grid", io_manager_key=IO_MANAGER, partitions_def=MONTHS)
def without_column(context: dg.AssetExecutionContext) -> Frame:
    return pd.DataFrame({"month": [context.partition_key]})


@table_asset(
    TableSchema("grid/stray", COLUMNS, key=("month",), partition_by="month"), owners=OWNERS, partitions_def=MONTHS
)
def stray() -> Frame:
    """Return rows of a month that is not a partition of the run."""
    return pd.DataFrame({"month": ["2026-03"], "power_mw": [3]})


@pytest.fixture
def services(tmp_path: Path) -> Iterator[Services]:
    factor["value"] = 1
    services = Services(Settings(home=tmp_path))
    yield services
    services.engine.close()


def materialise(services: Services, *assets: Any, partition: str | None = None) -> dg.ExecuteInProcessResult:
    with empty_instance() as instance:
        return dg.materialize(
            [load, peak, year, plain, without_column, stray, hourly],
            selection=list(assets),
            partition_key=partition,
            resources=resources(lambda: services),
            instance=instance,
            raise_on_error=False,
        )


def rows(services: Services, name: str) -> dict[str, int]:
    table = services.tables.read(name)
    return dict(zip(table.month, table.power_mw, strict=True))


@pytest.mark.requirement("PLT-1", "PLT-7")
def test_a_run_replaces_only_its_own_partition(services: Services) -> None:
    assert materialise(services, load, peak, partition="2026-01").success
    assert materialise(services, load, peak, partition="2026-02").success
    assert rows(services, "grid/load") == {"2026-01": 1, "2026-02": 2}
    factor["value"] = 5
    result = materialise(services, load, peak, partition="2026-02")
    assert rows(services, "grid/load") == {"2026-01": 1, "2026-02": 10}
    assert rows(services, "grid/peak") == {"2026-01": 10, "2026-02": 100}
    [metadata] = [one.metadata for one in result.asset_materializations_for_node("grid__load")]
    assert services.tables.current("grid/load").metadata["code"] == metadata["code"].value == code_version()  # type: ignore[union-attr]
    assert (metadata["dagster/row_count"].value, metadata["dagster/partition_row_count"].value) == (2, 1)


def test_a_run_for_several_partitions_publishes_them_in_one_version(services: Services) -> None:
    assert materialise(services, plain, partition="2026-01").success
    with empty_instance() as instance:
        tags = {"dagster/asset_partition_range_start": "2026-02", "dagster/asset_partition_range_end": "2026-03"}
        result = dg.materialize([load], resources=resources(lambda: services), instance=instance, tags=tags)
    assert result.success
    assert rows(services, "grid/load") == {"2026-02": 2, "2026-03": 3}
    assert [version.version for version in services.tables.versions("grid/load")] == [0]


@pytest.mark.requirement("ESI-4", "PLT-7")
def test_partitions_can_be_computed_from_another_column(services: Services) -> None:
    assert materialise(services, hourly, partition="2026-01").success
    first = services.tables.current("grid/hourly")
    assert first is not None
    factor["value"] = 2
    result = materialise(services, hourly, partition="2026-02")
    table = services.tables.read("grid/hourly").sort_values("at")
    assert list(table.columns) == ["at", "power_mw"]
    assert table.power_mw.tolist() == [1, 1, 2, 2]
    newest = services.tables.current("grid/hourly")
    assert newest is not None
    assert newest.parts["2026-01"] == first.parts["2026-01"]
    february = services.tables.scan("grid/hourly", partitions=["2026-02"]).to_pyarrow().to_pydict()
    assert february["power_mw"] == [2, 2]
    assert services.tables.read("grid/hourly", version=first.version).power_mw.tolist() == [1, 1]
    [metadata] = [one.metadata for one in result.asset_materializations_for_node("grid__hourly")]
    assert (metadata["months"].value, metadata["demo"].value) == (["2026-02"], True)
    assert newest.metadata["demo"] is True
    assert PARTITION not in str(metadata["preview"].value)


def test_each_partition_of_a_run_shows_its_own_number_of_rows(services: Services) -> None:
    with empty_instance() as instance:
        tags = {"dagster/asset_partition_range_start": "2026-01", "dagster/asset_partition_range_end": "2026-03"}
        result = dg.materialize([hourly], resources=resources(lambda: services), instance=instance, tags=tags)
    found = result.asset_materializations_for_node("grid__hourly")
    counts = {one.partition: one.metadata["dagster/partition_row_count"].value for one in found}
    assert counts == {"2026-01": 2, "2026-02": 2, "2026-03": 2}
    assert {one.metadata["dagster/row_count"].value for one in found} == {6}


@pytest.mark.requirement("PLT-5")
def test_a_failed_check_with_severity_warn_does_not_prevent_publication(services: Services) -> None:
    factor["value"] = 10
    result = materialise(services, hourly, partition="2026-01")
    assert result.success
    checks = {one.check_name: one for one in result.get_asset_check_evaluations()}
    failed = checks["power_mw_is_within_bounds"]
    assert (failed.passed, failed.severity, failed.blocking) == (False, dg.AssetCheckSeverity.WARN, False)
    assert checks["at_is_unique"].blocking
    assert services.tables.read("grid/hourly").power_mw.tolist() == [10, 10]


def test_an_unpartitioned_table_reads_all_upstream_partitions(services: Services) -> None:
    for month in ("2026-01", "2026-02", "2026-03"):
        assert materialise(services, load, partition=month).success
    assert materialise(services, year).success
    assert services.tables.read("grid/year").power_mw.tolist() == [6]


def test_the_metadata_of_a_plain_asset_can_name_its_partition_column(services: Services) -> None:
    assert materialise(services, plain, partition="2026-01").success
    assert materialise(services, plain, partition="2026-02").success
    assert rows(services, "grid/plain") == {"2026-01": 1, "2026-02": 1}


@pytest.mark.parametrize(
    ("asset", "told"),
    [
        (
            without_column,
            "grid/without_column is partitioned; set partition_expr in its metadata to the partition column",
        ),
        (stray, "rows of partitions ['2026-03'] are staged, but only ['2026-01'] are to be replaced"),
    ],
)
def test_stray_partitions_and_an_unknown_partition_column_are_refused(
    services: Services, asset: Any, told: str
) -> None:
    result = materialise(services, asset, partition="2026-01")
    [failure] = [event for event in result.all_node_events if event.is_step_failure]
    assert told in str(failure.step_failure_data.error)
    assert not services.tables.exists("/".join(asset.key.path))


@pytest.mark.parametrize("partitions_def", [None, MONTHS])
def test_partitioning_only_the_schema_or_only_the_asset_is_refused(
    partitions_def: dg.PartitionsDefinition[str] | None,
) -> None:
    schema = YEAR if partitions_def else LOAD
    with pytest.raises(ValueError, match="set both partitions_def and the schema's partition_by, or neither"):
        table_asset(schema, owners=OWNERS, partitions_def=partitions_def)


@pytest.mark.parametrize("kind", [{"source": True}, {"store": "online"}])
def test_only_derived_lake_tables_can_be_partitioned(kind: Any) -> None:
    with pytest.raises(ValueError, match="only a derived lake table can be partitioned"):
        TableSchema("grid/load", COLUMNS, key=("month",), partition_by="month", **kind)
