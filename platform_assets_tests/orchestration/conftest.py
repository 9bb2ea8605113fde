"""Fixtures for tests of orchestration: a Dagster instance with its own database and a secret in the settings."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from platform_assets.orchestration.storage import dagster_instance
from platform_assets_tests.orchestration.leaky_assets import SECRET

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import dagster as dg


@pytest.fixture
def instance(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dg.DagsterInstance]:
    monkeypatch.setenv("PLATFORM_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PLATFORM_DATABASE_URL", database_url)
    monkeypatch.setenv("PLATFORM_SHOP_TOKEN", SECRET)
    monkeypatch.chdir(tmp_path)
    with dagster_instance() as instance:
        yield instance
