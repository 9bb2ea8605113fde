from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

import pytest

from platform_assets.base.errors import PlatformError
from platform_assets.base.home_folder import make_home

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.requirement("PLT-8")


@pytest.fixture(autouse=True)
def _usual_umask() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


def mode(folder: Path) -> int:
    return stat.S_IMODE(folder.stat().st_mode)


def test_a_new_home_and_its_folders_are_private(tmp_path: Path) -> None:
    home = tmp_path / "below" / "home"
    assert make_home(home, "logs") == home / "logs"
    assert [mode(folder) for folder in (home, home / "logs")] == [0o700, 0o700]


@pytest.mark.parametrize(
    ("before", "content", "after"),
    [
        (0o755, ["lake", "postgres"], 0o700),
        (0o755, [], 0o700),
        (0o750, ["lake"], 0o750),
        (0o755, ["lake", "other"], 0o755),
    ],
)
def test_a_home_that_others_can_read_becomes_private_if_it_contains_only_platform_files(
    tmp_path: Path, before: int, content: list[str], after: int
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    for name in content:
        (home / name).mkdir()
    home.chmod(before)
    make_home(home)
    assert mode(home) == after


def test_a_home_that_cannot_be_written_raises_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(
        PlatformError, match="PLATFORM_HOME is not writable .*; set it to a folder that you can write to"
    ):
        make_home(tmp_path / "file", "logs")


def test_a_path_that_is_too_long_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PlatformError, match="PLATFORM_HOME is not writable .File name too long"):
        make_home(tmp_path / ("d" * 300))
