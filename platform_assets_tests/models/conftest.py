"""Fixtures for tests of models' files."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from platform_assets.models.artefact_store import ArtefactStore

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where `local` keeps its files."""
    return tmp_path / "lake" / "models"


@pytest.fixture
def local(tmp_path: Path) -> ArtefactStore:
    """A store in a folder."""
    return ArtefactStore(str(tmp_path / "lake"))
