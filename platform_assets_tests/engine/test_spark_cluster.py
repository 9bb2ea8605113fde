"""The engine on a Spark cluster: the same rows, digests and errors as on DuckDB."""

from __future__ import annotations

import datetime as dt
import socket
from decimal import Decimal
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import pyarrow as pa
import pytest

from platform_assets.base.errors import SchemaError, TableError
from platform_assets.engine import spark_cluster
from platform_assets.engine.local_time import local_time
from platform_assets.engine.query_engine import Engine
from platform_assets.engine.spark_cluster import SparkCluster, why_not
from platform_assets.lake.delta_tables import TableStore
from platform_assets_tests.engine.test_local_time import UTC_TIMES
from platform_assets_tests.ports import reserve_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from platform_assets.base.frames import Expression
    from platform_assets_tests.spark import Cluster

pytestmark = pytest.mark.requirement("PLT-9")
DAY, NOON = dt.date(2024, 2, 29), dt.datetime(2024, 2, 29, 12, 0, 0, 1)
COLUMNS = {
    "flag": (pa.bool_(), [True, None, False]),
    "tiny": (pa.int8(), [-128, None, 127]),
    "small": (pa.int16(), [-(2**15), 0, None]),
    "whole": (pa.int32(), [-(2**31), None, 1]),
    "large": (pa.int64(), [-(2**63), None, 2**63 - 1]),
    "single": (pa.float32(), [0.1, None, float("nan")]),
    "double": (pa.float64(), [0.1, float("inf"), None]),
    "money": (pa.decimal128(38, 12), [Decimal("12345678901234567890123456.123456789012"), None, Decimal(0)]),
    "text": (pa.string(), ["", None, "żółć 🐍\n'\"`"]),
    "bytes": (pa.binary(), [b"", None, b"\x00\xff"]),
    "day": (pa.date32(), [DAY, None, dt.date(1900, 1, 1)]),
    "wall": (pa.timestamp("us"), [NOON, None, NOON]),
    "instant": (pa.timestamp("us", tz="UTC"), [NOON.replace(tzinfo=dt.UTC), None, NOON.replace(tzinfo=dt.UTC)]),
}


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory, spark_cluster: Cluster) -> Iterator[Engine]:
    scratch = tmp_path_factory.mktemp("it's a [scratch] folder=1")
    engine = Engine(scratch, "200MB", 1, SparkCluster(spark_cluster.remote))
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def tables(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> TableStore:
    tables = TableStore(str(tmp_path_factory.mktemp("lake")), engine)
    everything = pa.table({name: pa.array(values, kind) for name, (kind, values) in COLUMNS.items()})
    shops = pa.table({"shop": ["a b", "c/d", "a b"], "sold": [1, 2, 300]})
    for name, rows in {"test/everything": everything, "test/shops": shops}.items():
        with engine.stage(rows) as staged:
            tables.publish(name, staged)
    return tables


@pytest.fixture
def shops(tables: TableStore) -> Expression:
    return tables.scan("test/shops", on_cluster=True)


def test_every_stored_type_keeps_its_values_and_digest(engine: Engine, tables: TableStore) -> None:
    on_duckdb = tables.scan("test/everything")
    on_spark = tables.scan("test/everything", on_cluster=True)
    assert engine.is_on_cluster(on_spark)
    assert not engine.is_on_cluster(on_duckdb)
    with engine.stage(on_duckdb) as expected, engine.stage(on_spark) as staged:
        assert staged.is_on_cluster
        assert staged.schema == expected.schema
        assert staged.digest == expected.digest
        version = tables.publish("test/copy", staged)
    assert (version.rows, version.digest) == (3, expected.digest)


def test_partition_digests_equal_those_of_duckdb(engine: Engine, tables: TableStore, shops: Expression) -> None:
    with (
        engine.stage(tables.scan("test/shops"), "shop") as expected,
        engine.stage(shops, "shop") as staged,
    ):
        assert {name: part.digest for name, part in staged.parts.items()} == {
            name: part.digest for name, part in expected.parts.items()
        }
        tables.publish("test/by_shop", staged)
    [row] = tables.scan("test/by_shop", partitions=["c/d"], on_cluster=True).to_pyarrow().to_pylist()
    assert row == {"shop": "c/d", "sold": 2}


def test_a_table_without_rows_can_be_staged_and_read(engine: Engine, shops: Expression) -> None:
    nothing = shops.filter(shops.sold > 1000)
    for partition_by in (None, "shop"):
        with engine.stage(nothing, partition_by) as staged:
            assert staged.rows == 0
            assert engine.staged(staged).count().to_pyarrow().as_py() == 0


def test_a_missing_partition_value_raises_the_same_error_as_on_duckdb(engine: Engine, tables: TableStore) -> None:
    messages = []
    for on_cluster in (False, True):
        rows = tables.scan("test/shops", on_cluster=on_cluster)
        with pytest.raises(TableError) as error:
            engine.stage(rows.mutate(shop=rows.shop.nullif("c/d")), "shop")
        messages.append(str(error.value))
    assert (
        messages
        == ["partition column shop has a value that is missing, empty or too long; correct it, or drop the row"] * 2
    )


def test_a_value_that_does_not_fit_its_type_is_refused(engine: Engine, shops: Expression) -> None:
    with pytest.raises(SchemaError, match="does not fit its column's type"):
        engine.stage(shops.mutate(sold=shops.sold.cast("int8")))


def test_a_table_larger_than_the_drivers_memory_is_staged(engine: Engine, tables: TableStore) -> None:
    """Staging does not send the table to the driver, where a result larger than `LARGEST_RESULT` would fail."""
    with engine.stage(pa.table({"number": range(400_000)})) as staged:
        tables.publish("test/numbers", staged)
    rows = tables.scan("test/numbers", on_cluster=True)
    with pytest.raises(TableError, match="maxResultSize"), engine.plain_errors():
        rows.to_pyarrow()
    with engine.stage(rows.mutate(twice=rows.number * 2)) as doubled:
        assert doubled.rows == 400_000


def test_local_times_equal_those_of_the_standard_library(engine: Engine, tables: TableStore) -> None:
    with engine.stage(pa.table({"at": pa.array(map(dt.datetime.fromisoformat, UTC_TIMES), pa.timestamp("us"))})) as at:
        tables.publish("test/times", at)
    rows = tables.scan("test/times", on_cluster=True)
    found = rows.mutate(local=local_time(rows.at, "Europe/Madrid")).to_pyarrow().to_pylist()
    zone = ZoneInfo("Europe/Madrid")
    assert len(found) == len(UTC_TIMES)
    for row in found:
        assert row["local"] == row["at"].replace(tzinfo=dt.UTC).astimezone(zone).replace(tzinfo=None)


@pytest.mark.parametrize("scheme", ["sc", "spark"])
def test_an_unreachable_cluster_fails_at_once_with_its_address_in_the_error(scheme: str) -> None:
    pytest.importorskip("pyspark", reason="needs the extra spark: make test EXTRAS=spark")
    address = f"{scheme}://127.0.0.1:{reserve_port()}"
    with pytest.raises(
        TableError, match=f"^Spark at {address} cannot be used: the address cannot be reached .*PLATFORM_SPARK_REMOTE"
    ):
        _ = SparkCluster(address).ibis


def test_java_is_needed_only_if_the_spark_driver_runs_in_this_process(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(spark_cluster, "find_spec", lambda _: True)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    assert "install Java 17" in (why_not("local[2]") or "")
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    assert f"JAVA_HOME is {tmp_path}, which has no bin/java" in (why_not("local[2]") or "")
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert why_not(f"sc://127.0.0.1:{server.getsockname()[1]}") is None
    monkeypatch.setattr(spark_cluster, "find_spec", lambda _: None)
    assert "EXTRAS=spark" in (why_not("local[2]") or "")
