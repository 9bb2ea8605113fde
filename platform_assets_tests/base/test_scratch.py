from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from platform_assets.base.scratch import OwnedFolder, clean_scratch

OWNER = """
import sys
from pathlib import Path
from platform_assets.base.scratch import OwnedFolder
folder = OwnedFolder(Path(sys.argv[1]), "work")
(folder.path / "inner").mkdir()
(folder.path / "inner" / "file").write_text("rows")
print(folder.path, flush=True)
sys.stdin.read()
"""


def _owner(scratch: Path) -> tuple[subprocess.Popen[str], Path]:
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(scratch)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert owner.stdout is not None
    return owner, Path(owner.stdout.readline().strip())


def _end(owner: subprocess.Popen[str]) -> None:
    owner.communicate()


@pytest.mark.requirement("PLT-10")
def test_clean_scratch_removes_only_folders_of_killed_processes(tmp_path: Path) -> None:
    killed, litter = _owner(tmp_path)
    at_work, kept = _owner(tmp_path)
    mine = OwnedFolder(tmp_path, "work")
    killed.send_signal(signal.SIGKILL)
    _end(killed)
    assert (litter / "inner" / "file").exists()
    assert clean_scratch(tmp_path) == 1
    assert not litter.exists()
    assert (kept / "inner" / "file").exists()
    assert mine.path.exists()
    assert clean_scratch(tmp_path) == 0
    _end(at_work)
    mine.remove()
    assert list(tmp_path.iterdir()) == []


def test_a_process_removes_its_scratch_folder_when_it_ends(tmp_path: Path) -> None:
    owner, folder = _owner(tmp_path)
    assert folder.exists()
    _end(owner)
    assert list(tmp_path.iterdir()) == []


def test_two_scratch_folders_with_the_same_purpose_are_separate(tmp_path: Path) -> None:
    first, second = OwnedFolder(tmp_path, "work"), OwnedFolder(tmp_path, "work")
    assert first.path != second.path
    first.remove()
    assert not first.path.exists()
    assert second.path.exists()
    second.remove()


def test_a_scratch_folder_can_be_removed_twice(tmp_path: Path) -> None:
    folder = OwnedFolder(tmp_path, "work")
    folder.remove()
    folder.remove()
    assert list(tmp_path.iterdir()) == []


def test_a_forked_child_does_not_remove_the_scratch_folder_of_its_parent(tmp_path: Path) -> None:
    folder = OwnedFolder(tmp_path, "work")
    child = os.fork()
    if child == 0:
        folder.remove()
        os._exit(0)
    os.waitpid(child, 0)
    assert folder.path.exists()
    folder.remove()


def test_clean_scratch_keeps_files_and_folders_without_a_lock_file(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("keep")
    (tmp_path / "folder").mkdir()
    assert clean_scratch(tmp_path) == 0
    assert clean_scratch(tmp_path / "missing") == 0
    assert {path.name for path in tmp_path.iterdir()} == {"notes.txt", "folder"}
