"""Build credit risk's tables from the real loans on a Spark cluster; they must equal those that DuckDB builds."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg
import ibis
import pytest

from platform_assets.domains.credit_risk.features import loan_features, newest_per_client
from platform_assets.domains.credit_risk.schemas import CLIENT_FEATURES, LOAN_FEATURES
from platform_assets.lake.validation import checks_of, conform
from platform_assets.orchestration.storage import dagster_instance
from platform_assets.services import Services
from platform_assets.settings import load_settings
from platform_assets_tests.spark import driver_options

if TYPE_CHECKING:
    from platform_assets.base.frames import Expression
    from platform_assets_tests.spark import Cluster

LOANS, CLIENTS = 615_509, 28_977
MEAN = "avg_amount_loans_previous"
CLOSE = 1e-12


@pytest.mark.slow
@pytest.mark.release
@pytest.mark.requirement("PLT-9")
def test_the_tables_of_the_real_loans_equal_those_of_duckdb(
    spark_cluster: Cluster, real_data: Path, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    configuration = tmp_path / "spark"
    configuration.mkdir()
    options = "\n".join(f"{name} {value}" for name, value in driver_options().items())
    (configuration / "spark-defaults.conf").write_text(options)
    variables = {
        "PLATFORM_HOME": str(tmp_path / "home"),
        "PLATFORM_DATABASE_URL": database_url,
        "PLATFORM_CREDIT_LOANS_URI": str(real_data / "credit" / "dataset_credit_risk.parquet"),
        "PLATFORM_ENGINE": "spark",
        "PLATFORM_SPARK_REMOTE": spark_cluster.master,
        "SPARK_CONF_DIR": str(configuration),
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    command = [str(Path(sys.executable).with_name("dagster")), "asset", "materialize", "-m"]
    command += ["platform_assets.definitions", "--select", "*credit_risk/client_features"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-4000:]

    services = Services(load_settings())
    loans = services.tables.scan("credit_risk/loans")
    assert_same(services, services.tables.scan(LOAN_FEATURES.name), conform(loan_features(loans), LOAN_FEATURES), LOANS)
    expected = conform(newest_per_client(services.tables.scan(LOAN_FEATURES.name)), CLIENT_FEATURES)
    online = conform(services.engine.as_expression(services.online.read(CLIENT_FEATURES.name)), CLIENT_FEATURES)
    assert_same(services, online, expected, CLIENTS)
    version = services.tables.current(LOAN_FEATURES.name)
    assert version is not None
    written = services.tables.scan(LOAN_FEATURES.name)
    with services.engine.stage(written) as staged:
        # Spark must have recorded the digest that DuckDB calculates for the same rows.
        assert version.digest == staged.digest
    wanted = [(schema.name, check.name) for schema in (LOAN_FEATURES, CLIENT_FEATURES) for check in checks_of(schema)]
    keys = [dg.AssetCheckKey(dg.AssetKey(table.split("/")), check) for table, check in wanted]
    with dagster_instance() as instance:
        found = instance.event_log_storage.get_latest_asset_check_execution_by_key(keys)
    assert {key: record.status.value for key, record in found.items()} == dict.fromkeys(keys, "SUCCEEDED")
    services.close()


def assert_same(services: Services, found: Expression, expected: Expression, rows: int) -> None:
    """Compare the column `MEAN` with a relative tolerance, and all other columns by digest."""
    with services.engine.stage(found.drop(MEAN)) as ours, services.engine.stage(expected.drop(MEAN)) as theirs:
        assert (ours.rows, ours.digest) == (rows, theirs.digest)
    key = "loan_id"
    pairs = found.select(key, ours=found[MEAN]).join(expected.select(key, theirs=expected[MEAN]), key)
    alike = ibis.or_(
        pairs.ours.isnull() & pairs.theirs.isnull(), (pairs.ours - pairs.theirs).abs() <= CLOSE * pairs.theirs.abs()
    )
    assert pairs.filter(alike).count().to_pyarrow().as_py() == rows
