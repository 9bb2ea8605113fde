"""Live models on a real ledger in a real PostgreSQL."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from pydantic import SecretStr

from platform_assets.core.champion import NoChampion
from platform_assets.core.predicting import Asked
from platform_assets.core.registry import MemoryRegistry
from platform_assets.services import Services
from platform_assets.settings import Settings
from platform_assets_tests.core.approvals import MODEL
from platform_assets_tests.core.promotions import Works
from platform_assets_tests.postgres import empty_databases, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from platform_assets.core.database import Database


@pytest.fixture(scope="module")
def url(postgres_server: Database) -> Iterator[str]:
    with empty_databases(postgres_server) as url:
        yield url


def test_a_promoted_version_answers_and_its_answers_are_logged(url: str, tmp_path: Path) -> None:
    services = Services(Settings(home=tmp_path, database_url=SecretStr(url)))
    works = Works(services.ledger, MemoryRegistry(), tmp_path / "lake", services.database.lock)
    services.live_models.start([MODEL])
    wait_until(lambda: services.live_models.state()[MODEL].looked_at, "it was looked once")
    with pytest.raises(NoChampion, match="no champion"):
        services.live_models.live(MODEL)
    version = works.crown()
    wait_until(lambda: services.live_models.state()[MODEL].live, "the champion was live")
    answer = services.predictor.predict(
        MODEL, ["a", None], [{"amount": 1.0, "children": None}, {"amount": -1.0, "children": 2}], Asked("shop", "r1")
    )
    assert answer.live.digest == version.digest
    assert len(answer.scores) == 2
    with services.database.connect("platform") as connection:
        services.close()
        rows = connection.execute("select subject, version, features from platform.predictions order by place")
        assert rows.fetchall() == [
            ("a", 1, {"amount": 1.0, "children": None}),
            (None, 1, {"amount": -1.0, "children": 2}),
        ]
