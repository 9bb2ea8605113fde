"""The model registry, MLflow's, as far as tables go: which versions of them a registered model names."""

from __future__ import annotations

import json
from collections import defaultdict
from typing import TYPE_CHECKING, Any

from platform_assets.core.errors import PlatformError

if TYPE_CHECKING:
    from collections.abc import Mapping

TABLES_TAG = "platform.tables"
"""Tag of a model version: JSON, name of each table that it was trained on to its version in the lake."""


def pinned_table_versions(tracking_uri: str) -> Mapping[str, set[int]]:
    """Versions of tables that registered models were trained on, by table; upkeep keeps them readable.

    Parameters
    ----------
    tracking_uri
        MLflow's tracking server or database.

    Raises
    ------
    PlatformError
        A tag says nothing that can be understood: upkeep must not take that for permission to delete.
    """
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri, tracking_uri)
    pinned: defaultdict[str, set[int]] = defaultdict(set)
    token = None
    while True:
        page = client.search_model_versions(page_token=token)
        for version in page:
            for table, number in _tables(version).items():
                pinned[table].add(number)
        if not (token := page.token):
            return dict(pinned)


def _tables(version: Any) -> dict[str, int]:
    tag = version.tags.get(TABLES_TAG, "{}")
    try:
        return {str(table): int(number) for table, number in json.loads(tag).items()}
    except (ValueError, TypeError, AttributeError):
        raise PlatformError(
            f"the tag {TABLES_TAG} of {version.name} version {version.version} is {tag!r}; it must be JSON that names "
            "tables and their versions, or be removed"
        ) from None
