"""Fixtures for tests of training."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from platform_assets_tests.training.bench import Bench, opened

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """A new bench whose table of readings is already published."""
    with opened(tmp_path) as bench:
        yield bench
