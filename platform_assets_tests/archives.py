"""Builders of archives for tests, intact or with one defect."""

from __future__ import annotations

import base64
import gzip
import io
import sqlite3
import tarfile
from contextlib import closing
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

MEMBER = "Users/somebody/Downloads/db.sqlite.base64"
TABLE = 'CREATE TABLE data ("index" INTEGER, text TEXT, choose_one TEXT, class_label INTEGER)'
NUMBERS = {"Not Relevant": 0, "Relevant": 1, "Can't Decide": 2}


def database(folder: Path, rows: Iterable[tuple[Any, ...]], table: str = TABLE, *more: str) -> bytes:
    """Return the bytes of a SQLite file with one table; rows may omit the last columns."""
    file = folder / "made.sqlite"
    file.unlink(missing_ok=True)
    with closing(sqlite3.connect(file)) as connection:
        for statement in (table, *more):
            connection.execute(statement)
        for row in rows:
            connection.execute(f"INSERT INTO data VALUES ({', '.join('?' * len(row))})", row)
        connection.commit()
    return file.read_bytes()


def labelled(*texts: tuple[str, str]) -> list[tuple[int, str, str, int]]:
    """Return rows of the table for texts with labels, numbered from 0."""
    return [(place, text, label, NUMBERS[label]) for place, (text, label) in enumerate(texts)]


def tar(members: Mapping[str, bytes]) -> bytes:
    """Return a tar archive of regular files."""
    return tar_of(*((tarfile.TarInfo(name), content) for name, content in members.items()))


def tar_of(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    """Return a tar archive of any members."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        for described, content in members:
            described.size = len(content)
            archive.addfile(described, io.BytesIO(content))
    return made.getvalue()


def entry(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    """Return a tar member that is not a regular file."""
    made = tarfile.TarInfo(name)
    made.type, made.linkname = kind, target
    return made


def pack(content: bytes, member: str = MEMBER) -> bytes:
    """Return a gzip-compressed tar archive with the content as base64 text in lines of 76 characters."""
    return gzip.compress(tar({member: base64.encodebytes(content)}), mtime=0)


def archive(folder: Path, *texts: tuple[str, str], name: str = "db.tar.gz") -> Path:
    """Write an archive of labelled texts in the format of the source."""
    file = folder / name
    file.write_bytes(pack(database(folder, labelled(*texts))))
    return file
