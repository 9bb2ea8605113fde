from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest

from platform_assets.database.opening import open_owner

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from platform_assets.database.connections import Database


@pytest.fixture
def external(owner_url: str, tmp_path: Path) -> Iterator[Database]:
    """An external database, opened with the role that owns the tables."""
    with contextlib.closing(open_owner(owner_url, tmp_path)) as database:
        yield database
