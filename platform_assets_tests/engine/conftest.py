from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from platform_assets.engine.query_engine import Engine

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    engine = Engine(tmp_path_factory.mktemp("it's a [scratch] folder=1") / "inner", "200MB", 1)
    yield engine
    engine.close()


@pytest.fixture
def files(engine: Engine) -> Path:
    return engine.folder("test")
