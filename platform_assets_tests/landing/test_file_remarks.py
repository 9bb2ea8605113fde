"""Files that may be incomplete get a remark. Complete files get none."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from platform_assets.landing.file_remarks import NO_FINAL_LINE_BREAK, WAL_WITHOUT_LOG, remarks_on

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.requirement("PLT-12")


@pytest.mark.parametrize(
    ("content", "remarks"),
    [
        (b"", []),
        (b"a,b\n1,2\n", []),
        (b"a,b\r1,2\r", []),
        (b"a,b\n1,2", [NO_FINAL_LINE_BREAK]),
        (b"PAR1\x00\x00PAR1", []),
    ],
)
def test_a_text_file_without_a_final_line_break_gets_a_remark(
    tmp_path: Path, content: bytes, remarks: list[str]
) -> None:
    (tmp_path / "file").write_bytes(content)
    assert remarks_on(tmp_path / "file") == remarks


@pytest.mark.parametrize(("mode", "remarks"), [("delete", []), ("wal", [WAL_WITHOUT_LOG])])
def test_a_sqlite_file_in_wal_mode_gets_a_remark(tmp_path: Path, mode: str, remarks: list[str]) -> None:
    with closing(sqlite3.connect(tmp_path / "file")) as database:
        database.execute(f"PRAGMA journal_mode = {mode}")
        database.execute("CREATE TABLE data (a)")
        database.commit()
    assert remarks_on(tmp_path / "file") == remarks
