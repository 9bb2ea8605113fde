"""Written files appear completely or not at all, with exactly the given content."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from platform_assets.landing.file_writer import write_bytes, write_csv

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def test_rows_are_written_below_a_header(tmp_path: Path) -> None:
    rows: list[list[Any]] = [[1, "plain"], [2.5, 'a "quoted", one'], ["", "two\nlines"], [3, "too", "long"], [None]]
    path = write_csv(tmp_path / "new" / "folder" / "rows.csv", ("number", "text"), rows)
    assert path.read_bytes() == b'number,text\n1,plain\n2.5,"a ""quoted"", one"\n,"two\nlines"\n3,too,long\n""\n'
    assert [entry.name for entry in path.parent.iterdir()] == ["rows.csv"]


@pytest.mark.parametrize(("encoding", "content"), [("utf-8", b"a\n\xc3\xa9\n"), ("cp1252", b"a\n\xe9\n")])
def test_rows_get_the_requested_encoding(tmp_path: Path, encoding: str, content: bytes) -> None:
    path = write_csv(tmp_path / "rows.csv", ("a",), [["\N{LATIN SMALL LETTER E WITH ACUTE}"]], encoding)
    assert path.read_bytes() == content


def test_an_existing_file_is_replaced(tmp_path: Path) -> None:
    path = write_bytes(tmp_path / "file", b"old and longer")
    assert write_bytes(path, b"new").read_bytes() == b"new"
    assert write_csv(path, ("a",), []).read_bytes() == b"a\n"


def test_a_failure_keeps_the_old_file_and_leaves_no_partial_file(tmp_path: Path) -> None:
    def broken() -> Iterator[list[int]]:
        yield [1]
        raise RuntimeError("no more rows")

    path = write_bytes(tmp_path / "rows.csv", b"old")
    with pytest.raises(RuntimeError, match="no more rows"):
        write_csv(path, ("a",), broken())
    assert path.read_bytes() == b"old"
    (tmp_path / "folder").mkdir()
    with pytest.raises(IsADirectoryError):
        write_bytes(tmp_path / "folder", b"new")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["folder", "rows.csv"]
