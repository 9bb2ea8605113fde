from __future__ import annotations

import os
import re
import time
from datetime import timedelta
from pathlib import Path

import pytest

from platform_assets.base.errors import TableError
from platform_assets_tests.lake.sales_lake import NAME, NOW, Lake, contents, sales


@pytest.mark.requirement("PLT-10")
def test_vacuum_keeps_recent_versions_and_the_given_versions(lake: Lake) -> None:
    for amount in range(4):
        lake.publish(sales(amount))
    assert lake.store.vacuum(NAME, timedelta(days=1)) == 0
    assert lake.store.vacuum(NAME, NOW, keep_versions=[1]) == 2
    assert contents(lake.store.read(NAME, version=1)) == [(0, 1.0)]
    assert contents(lake.store.read(NAME)) == [(0, 3.0)]
    for version in (0, 2):
        with pytest.raises(TableError, match=f"version {version} of shop/sales .* removed after the retention"):
            lake.store.read(NAME, version=version)
    assert [version.rows for version in lake.store.versions(NAME)] == [1, 1, 1, 1]
    assert lake.store.vacuum(NAME, NOW) == 1


@pytest.mark.requirement("PLT-10")
def test_vacuum_removes_files_replaced_before_the_retention_period(folder_lake: Lake) -> None:
    """Age the existing versions by 2 hours 45 minutes, and then publish a new version."""
    for amount in range(3):
        folder_lake.publish(sales(amount))
    _age(Path(folder_lake.store.uri(NAME)), timedelta(hours=2, minutes=45))
    folder_lake.publish(sales(3))
    # The platform rounds 2.5 hours up to 3, because delta-rs accepts only whole hours.
    assert folder_lake.store.vacuum(NAME, timedelta(hours=3, minutes=-30)) == 0
    assert folder_lake.store.vacuum(NAME, timedelta(hours=2)) == 2
    assert contents(folder_lake.store.read(NAME, version=2)) == [(0, 2.0)]
    with pytest.raises(TableError, match="version 1 of shop/sales"):
        folder_lake.store.read(NAME, version=1)


@pytest.mark.requirement("PLT-10")
def test_publishing_works_after_a_vacuum(lake: Lake) -> None:
    lake.publish(sales(1))
    second = lake.publish(sales(2))
    lake.store.vacuum(NAME, NOW)
    assert lake.store.current(NAME) == second
    assert lake.publish(sales(2)) == second
    third = lake.publish(sales(3))
    assert third.version > second.version
    assert lake.store.current(NAME) == third
    assert contents(lake.store.read(NAME, version=third.version)) == [(0, 3.0)]


def _age(table: Path, by: timedelta) -> None:
    for entry in table.glob("_delta_log/*.json"):
        older = re.sub(
            r'("deletionTimestamp":)(\d+)',
            lambda found: f"{found[1]}{int(found[2]) - int(by.total_seconds() * 1000)}",
            entry.read_text(),
        )
        entry.write_text(older)
    for file in table.glob("*.parquet"):
        os.utime(file, (time.time() - by.total_seconds(),) * 2)
