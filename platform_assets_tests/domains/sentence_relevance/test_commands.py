"""The commands `pack` and `unpack` either write the complete file, or print a one-line error and write no file."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from platform_assets_tests.archives import archive, database, labelled, pack
from platform_assets_tests.command_line import platform_assets

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.requirement("REL-1")

TEXTS = (("a fire", "Relevant"), ("a song", "Not Relevant"), ("a flood", "Relevant"), ("so so", "Can't Decide"))


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_the_database_is_written_and_its_rows_are_counted_by_label(tmp_path: Path) -> None:
    packed = archive(tmp_path, *TEXTS)
    target = tmp_path / "[red] out.sqlite"
    done = platform_assets("sentences", "unpack", str(packed), str(target))
    assert (done.code, done.err) == (0, "")
    assert done.out.splitlines() == [str(target), "Relevant: 2 rows", "Can't Decide: 1 rows", "Not Relevant: 1 rows"]
    assert target.read_bytes() == (tmp_path / "made.sqlite").read_bytes()
    assert files(tmp_path) == {"db.tar.gz", "made.sqlite", target.name}


def test_an_existing_file_is_replaced_only_with_force(tmp_path: Path) -> None:
    packed, target = archive(tmp_path, *TEXTS), tmp_path / "out.sqlite"
    target.write_text("mine")
    done = platform_assets("sentences", "unpack", str(packed), str(target))
    assert done.code == 1
    assert f"{target} exists already; choose another name, or use --force to replace it" in done.err
    assert target.read_text() == "mine"
    assert platform_assets("sentences", "unpack", f"file://{packed}", str(target), "--force").code == 0
    with closing(sqlite3.connect(target)) as connection:
        assert connection.execute("SELECT count(*) FROM data").fetchone() == (4,)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"Dear colleagues", "NotPackedError: {archive} (ARCHIVE) is not a compressed tar archive; pack it with"),
        (pack(b"Dear colleagues"), "NotADatabaseError: {archive} (ARCHIVE) is not a SQLite database"),
        (pack(b"SQLite format 3\0"), "DamagedDatabaseError: {archive} (ARCHIVE) contains a damaged database"),
        (None, "SourceError: {archive} (ARCHIVE) does not exist; point ARCHIVE at a file"),
    ],
    ids=["no archive", "no database", "damaged", "missing"],
)
def test_a_broken_archive_causes_a_one_line_error_and_keeps_the_existing_file(
    tmp_path: Path, content: bytes | None, message: str
) -> None:
    packed, target = tmp_path / "db.tar.gz", tmp_path / "out.sqlite"
    target.write_text("mine")
    if content is not None:
        packed.write_bytes(content)
    done = platform_assets("sentences", "unpack", str(packed), str(target), "--force")
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith(message.format(archive=packed)), done.err
    assert len(done.err.splitlines()) == 1
    assert target.read_text() == "mine"
    assert files(tmp_path) <= {"db.tar.gz", "out.sqlite"}


def test_an_archive_without_the_table_or_over_the_size_limit_is_rejected(tmp_path: Path) -> None:
    packed = tmp_path / "db.tar.gz"
    packed.write_bytes(pack(database(tmp_path, [], "CREATE TABLE loans (a)")))
    done = platform_assets("sentences", "unpack", str(packed), str(tmp_path / "out.sqlite"))
    assert (done.code, "without the table 'data'; its tables are ['loans']" in done.err) == (1, True)
    packed.write_bytes(pack(database(tmp_path, labelled(*TEXTS))))
    limited = platform_assets(
        "sentences", "unpack", str(packed), str(tmp_path / "out.sqlite"), PLATFORM_ARCHIVE_MAX_BYTES=1_000
    )
    assert (limited.code, "raise PLATFORM_ARCHIVE_MAX_BYTES" in limited.err) == (1, True)
    assert not (tmp_path / "out.sqlite").exists()


@pytest.mark.parametrize(
    ("target", "message"),
    [("", "is a folder; give the name of a file"), ("none/out", "cannot be written: No such file or directory")],
)
def test_the_error_for_an_unwritable_target_gives_the_reason(tmp_path: Path, target: str, message: str) -> None:
    packed = archive(tmp_path, *TEXTS)
    done = platform_assets("sentences", "unpack", str(packed), str(tmp_path / target))
    assert (done.code, done.out) == (1, "")
    assert message in done.err
    assert "Traceback" not in done.err


def test_a_packed_database_is_unpacked_byte_for_byte(tmp_path: Path) -> None:
    made = tmp_path / "made.sqlite"
    content = database(tmp_path, labelled(*TEXTS))
    first, second, out = tmp_path / "first.tar.gz", tmp_path / "second.tar.gz", tmp_path / "out.sqlite"
    done = platform_assets("sentences", "pack", str(made), str(first))
    assert (done.code, done.err) == (0, "")
    assert done.out.splitlines()[0] == str(first)
    assert "Relevant: 2 rows" in done.out.splitlines()
    assert platform_assets("sentences", "pack", f"file://{made}", str(second)).code == 0
    assert first.read_bytes() == second.read_bytes()
    assert platform_assets("sentences", "unpack", str(first), str(out)).code == 0
    assert out.read_bytes() == content


@pytest.mark.parametrize(
    ("content", "limit", "message"),
    [
        (b"Dear colleagues", 10**6, "NotADatabaseError: {made} (DATABASE) is not a SQLite database"),
        (None, 10**6, "SourceError: {made} (DATABASE) does not exist; point DATABASE at a file"),
        (b"", 10**6, "NotADatabaseError: {made} (DATABASE) is not a SQLite database"),
        # The limit applies to the base64 text, which is a third larger than the database of 8,192 bytes.
        (TEXTS, 9_000, "TooLargeError: {made} (DATABASE) has more than 9,000 bytes when unpacked"),
    ],
    ids=["no database", "missing", "empty", "beyond the limit"],
)
def test_a_file_that_could_not_be_unpacked_again_is_not_packed(
    tmp_path: Path, content: Any, limit: int, message: str
) -> None:
    made, packed = tmp_path / "made.sqlite", tmp_path / "db.tar.gz"
    if isinstance(content, bytes):
        made.write_bytes(content)
    elif content:
        database(tmp_path, labelled(*content))
    packed.write_text("mine")
    done = platform_assets("sentences", "pack", str(made), str(packed), "--force", PLATFORM_ARCHIVE_MAX_BYTES=limit)
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith(message.format(made=made)), done.err
    assert packed.read_text() == "mine"
    assert files(tmp_path) <= {"db.tar.gz", "made.sqlite"}
