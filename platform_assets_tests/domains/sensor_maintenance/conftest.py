"""Fixtures for the tests of sensor maintenance."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from platform_assets.engine.query_engine import Engine

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="package")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    engine = Engine(tmp_path_factory.mktemp("scratch"))
    yield engine
    engine.close()
