"""The tables that registered models were trained on are found in a real MLflow on a real PostgreSQL."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from mlflow import MlflowClient
from sqlalchemy import make_url

from platform_assets.core.database import Database
from platform_assets.core.errors import PlatformError
from platform_assets.core.registry import TABLES_TAG, pinned_table_versions

if TYPE_CHECKING:
    from collections.abc import Mapping

# MLflow 3.17 asks SQLAlchemy 2.1 for what it will lose.


@pytest.fixture
def tracking_uri(database_url: str) -> str:
    return Database(make_url(database_url)).psycopg2_url("mlflow")


def register(tracking_uri: str, name: str, *tags: Mapping[str, object] | str | None) -> None:
    """One version of a model for each tag; None for a version without it."""
    client = MlflowClient(tracking_uri, tracking_uri)
    client.create_registered_model(name)
    for tag in tags:
        text = tag if isinstance(tag, str) else json.dumps(tag)
        client.create_model_version(
            name, "file:///models/none", tags={} if tag is None else {TABLES_TAG: text, "x": "y"}
        )


@pytest.mark.requirement("PLT-7", "PLT-10")
def test_versions_of_tables_that_models_name_are_pinned(tracking_uri: str) -> None:
    assert pinned_table_versions(tracking_uri) == {}
    register(
        tracking_uri, "credit_model", {"shop/sales": 3, "shop/prices": 0}, {"shop/sales": 7}, None, {"shop/sales": "3"}
    )
    register(tracking_uri, "other_model", {"shop/sales": 4, "shop/stock": 1}, {})
    assert pinned_table_versions(tracking_uri) == {"shop/sales": {3, 4, 7}, "shop/prices": {0}, "shop/stock": {1}}


@pytest.mark.requirement("PLT-10")
@pytest.mark.parametrize("tag", ["shop/sales=3", "[3]", '{"shop/sales": "new"}', '{"shop/sales": null}'])
def test_a_tag_that_says_nothing_is_no_permission_to_delete(tracking_uri: str, tag: str) -> None:
    register(tracking_uri, "credit_model", {"shop/sales": 3}, tag)
    with pytest.raises(PlatformError, match=f"the tag {TABLES_TAG} of credit_model version 2 is .* must be JSON"):
        pinned_table_versions(tracking_uri)


@pytest.mark.requirement("PLT-10")
def test_all_pages_are_read(tracking_uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # MLflow answers 10,000 versions at once; a server may answer fewer.
    search = MlflowClient.search_model_versions
    monkeypatch.setattr(
        MlflowClient, "search_model_versions", lambda client, **more: search(client, max_results=2, **more)
    )
    register(tracking_uri, "credit_model", *({"shop/sales": number} for number in range(5)))
    assert pinned_table_versions(tracking_uri) == {"shop/sales": {0, 1, 2, 3, 4}}
