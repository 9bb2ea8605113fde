"""Build intact and defective archives in the format of the source of the domain `sentence_relevance`."""

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
    """Return the bytes of a SQLite file with one table.

    Parameters
    ----------
    folder
        Where to create the file.
    rows
        Rows of the table `data`. Each row has a value for every column of the table.
    table
        Statement that creates the table.
    more
        Further statements, executed before the rows are inserted.
    """
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
    """Return rows of the table `data` for pairs of text and label, numbered from 0."""
    return [(place, text, label, NUMBERS[label]) for place, (text, label) in enumerate(texts)]


def tar(members: Mapping[str, bytes]) -> bytes:
    """Return a tar archive of regular files."""
    return tar_of(*((tarfile.TarInfo(name), content) for name, content in members.items()))


def tar_of(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    """Return a tar archive of the given members, which need not be regular files."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        for described, content in members:
            described.size = len(content)
            archive.addfile(described, io.BytesIO(content))
    return made.getvalue()


def entry(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    """Return the header of a tar member that is not a regular file, for example a link to `target`."""
    made = tarfile.TarInfo(name)
    made.type, made.linkname = kind, target
    return made


def pack(content: bytes, member: str = MEMBER) -> bytes:
    """Return a gzip-compressed tar archive of one file, with `content` as base64 in lines of 76 characters."""
    return gzip.compress(tar({member: base64.encodebytes(content)}), mtime=0)


def archive(folder: Path, *texts: tuple[str, str], name: str = "db.tar.gz") -> Path:
    """Write an archive of labelled texts in the format of the source, and return its path."""
    file = folder / name
    file.write_bytes(pack(database(folder, labelled(*texts))))
    return file
