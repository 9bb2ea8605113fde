"""Fixtures for tests of artefacts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from platform_assets.models.artefact_store import ArtefactStore

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Folder in which the fixture `local` stores artefacts."""
    return tmp_path / "lake" / "models"


@pytest.fixture
def local(tmp_path: Path) -> ArtefactStore:
    """An artefact store in a local folder."""
    return ArtefactStore(str(tmp_path / "lake"))
