from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from pydantic import SecretStr

from platform_assets.engine.query_engine import Engine
from platform_assets.services import Services
from platform_assets.settings import Settings
from platform_assets_tests.instances import empty_instance
from platform_assets_tests.landing.yard import Yard, YardSettings
from platform_assets_tests.object_store import ObjectStore, running_object_store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import dagster as dg

    OpenYard = Callable[..., Yard]


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    engine = Engine(tmp_path_factory.mktemp("scratch [a]=1"), "300MB", 2)
    yield engine
    engine.close()


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with empty_instance() as instance:
        yield instance


@pytest.fixture
def open_yard(tmp_path: Path, database_url: str) -> Iterator[OpenYard]:
    """Return a function that opens a landing zone (`Yard`) with a given location and given settings."""
    opened: list[Services] = []

    def open_one(uri: str | None = None, **settings: object) -> Yard:
        (tmp_path / "zone").mkdir(exist_ok=True)
        uri = str(tmp_path / "zone") if uri is None else uri
        platform = Settings(home=tmp_path / "home", database_url=SecretStr(database_url), engine_threads=1)
        services = Services(platform, (YardSettings(yard_uri=uri, **settings),))  # type: ignore[arg-type]
        opened.append(services)
        return Yard(services, uri or str(tmp_path / "home" / "landing" / "yard"))

    yield open_one
    for services in opened:
        services.close()


@pytest.fixture
def yard(open_yard: OpenYard) -> Yard:
    """A landing zone in a local folder. Its settle time is 0, so files are read at the first scan."""
    return open_yard()


@pytest.fixture(scope="package")
def object_store() -> Iterator[ObjectStore]:
    with running_object_store() as store:
        yield store
