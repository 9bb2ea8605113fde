"""A file that was packed as base64 text in a gzip tarball: unpacked layer by layer, none of which is trusted.

Each layer is streamed into a file of its own in a folder of ours, and all of it within a limit of bytes. Names inside
the archive are told to people and are never a path. Each way in which an archive can be damaged is an error of its own.
"""

from __future__ import annotations

import base64
import binascii
import gzip
import re
import shutil
import tarfile
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

from platform_assets.base.errors import SourceError, first_line

if TYPE_CHECKING:
    from pathlib import Path

_CHUNK = 1 << 20
_GZIP_MAGIC = b"\x1f\x8b"
_BLANKS = b" \t\r\n"
_NOT_BASE64 = re.compile(rb"[^A-Za-z0-9+/= \t\r\n]")
_SYMBOLS = 4
_LONGEST_NAME = 100
MOST_FOLDERS = 100
"""Entries of an archive that are folders; they hold nothing, and more of them are no accident."""


class ArchiveError(SourceError):
    """An archive is damaged, or is not packed as it should be."""


class NotGzipError(ArchiveError):
    """The file is not compressed with gzip."""


class DamagedGzipError(ArchiveError):
    """The compressed file is cut off, or was altered on its way."""


class NotTarError(ArchiveError):
    """What is compressed is no tar archive, or not all of one."""


class NoMemberError(ArchiveError):
    """The archive holds no file."""


class SeveralMembersError(ArchiveError):
    """The archive holds more than one file."""


class WrongMemberError(ArchiveError):
    """What the archive holds is no plain file with a name inside the archive."""


class TooLargeError(ArchiveError):
    """The archive, or what comes out of it, has more bytes than the limit."""


class NotBase64Error(ArchiveError):
    """The archive's file is not the base64 text of anything."""


@dataclass(frozen=True)
class Unpacking:
    """How the one file of an archive gets out of it.

    Attributes
    ----------
    limit
        Most bytes of any layer.
    setting
        The environment variable that says so, for people.
    """

    limit: int
    setting: str

    def unpack(self, archive: Path, folder: Path, called: str) -> Path:
        """Write the file that an archive holds; nothing else is left in the folder.

        Parameters
        ----------
        archive
            The gzip tarball with one member, which is base64 text.
        folder
            An empty folder of ours.
        called
            What the archive is called in messages.

        Returns
        -------
        Path
            The file, decoded.

        Raises
        ------
        ArchiveError
            The archive is damaged, holds something else, or more than the limit.
        """
        text, target = folder / "text", folder / "unpacked"
        with archive.open("rb") as packed:
            name = _only_member(_Layer(packed, self, called), text)
        _decode(text, target, f"{called}: its file {name}")
        text.unlink()
        return target

    def too_large(self, called: str) -> TooLargeError:
        """The error for what has more bytes than the limit."""
        return TooLargeError(
            f"{called} holds more than {self.limit:,} bytes once it is unpacked; "
            f"if that is what it should hold, raise {self.setting}"
        )


class _Layer:
    """What a gzip file holds, as `tarfile` reads it: never more than the limit, and damage told in our words."""

    def __init__(self, packed: BinaryIO, how: Unpacking, called: str) -> None:
        if packed.read(len(_GZIP_MAGIC)) != _GZIP_MAGIC:
            raise NotGzipError(f"{called} is not compressed with gzip; pack it with `tar czf ARCHIVE FILE`")
        packed.seek(0)
        self.called = called
        self._how = how
        self._left = how.limit
        self._stream = gzip.GzipFile(fileobj=packed, mode="rb")

    def read(self, size: int) -> bytes:
        """Up to that many bytes."""
        try:
            found = self._stream.read(size)
        except EOFError:
            raise DamagedGzipError(
                f"{self.called} is cut off: its compressed data have no end; fetch it again"
            ) from None
        except (gzip.BadGzipFile, zlib.error) as error:
            raise DamagedGzipError(
                f"{self.called} was altered on its way ({first_line(error)}); fetch it again"
            ) from None
        self._left -= len(found)
        if self._left < 0:
            raise self._how.too_large(self.called)
        return found

    def drain(self) -> None:
        """Read to the end, where gzip keeps the checksum."""
        while self.read(_CHUNK):
            pass


def _only_member(layer: _Layer, target: Path) -> str:
    """Copy the only file of a tar archive; its name, for people."""
    name, folders = "", 0
    try:
        with tarfile.open(fileobj=layer, mode="r|", encoding="utf-8", errors="backslashreplace") as archive:  # type: ignore[call-overload]  # of a stream it wants `read` alone
            for member in archive:
                _demand_plain(member, layer.called)
                if name and member.isfile():
                    raise SeveralMembersError(
                        f"{layer.called} holds several files, {name} and {_told(member.name)} among them; "
                        "pack the one that is meant"
                    )
                if member.isfile():
                    name = _told(member.name)
                    _copy(archive, member, target)
                folders += member.isdir()
                if folders > MOST_FOLDERS:
                    raise WrongMemberError(f"{layer.called} holds more than {MOST_FOLDERS} folders; pack one file")
    # What tarfile makes of headers that somebody made up, beside its own errors.
    except (tarfile.TarError, ValueError, LookupError, ArithmeticError, RecursionError) as error:
        raise NotTarError(f"{layer.called} is compressed, but is no whole tar archive: {first_line(error)}") from None
    layer.drain()
    if not name:
        raise NoMemberError(f"{layer.called} holds no file; pack one with `tar czf ARCHIVE FILE`")
    return name


def _demand_plain(member: tarfile.TarInfo, called: str) -> None:
    name = _told(member.name)
    if member.name.startswith(("/", "\\")) or ".." in re.split(r"[/\\]", member.name):
        raise WrongMemberError(
            f"{called} holds {name}, which points out of the archive; pack the file by its name alone"
        )
    # A sparse file's holes cost nothing in the archive, and everything once they are written.
    if member.issparse() or not (member.isfile() or member.isdir()):
        kind = "a link" if member.issym() or member.islnk() else "a sparse file" if member.issparse() else "no file"
        raise WrongMemberError(f"{called} holds {name}, which is {kind}; pack the file itself")


def _copy(archive: tarfile.TarFile, member: tarfile.TarInfo, target: Path) -> None:
    content = archive.extractfile(member)
    if content is None:
        raise tarfile.ReadError("its file has no content")
    with content, target.open("wb") as copy:
        shutil.copyfileobj(content, copy, _CHUNK)


def _decode(text: Path, target: Path, called: str) -> None:
    """Decode base64 text in lines of any length, or none."""
    rest, place, ended = b"", 0, False
    with text.open("rb") as encoded, target.open("wb") as decoded:
        while chunk := encoded.read(_CHUNK):
            if wrong := _NOT_BASE64.search(chunk):
                raise NotBase64Error(
                    f"{called} is not base64 text: byte {place + wrong.start() + 1} is {_told_byte(wrong[0])}; "
                    "encode it with `base64 FILE`"
                )
            symbols = rest + chunk.translate(None, _BLANKS)
            if ended and symbols:
                raise NotBase64Error(f"{called} is not base64 text: it goes on behind its end, near byte {place + 1}")
            whole = len(symbols) - len(symbols) % _SYMBOLS
            decoded.write(_decoded(symbols[:whole], called))
            ended |= symbols[:whole].endswith(b"=")
            rest, place = symbols[whole:], place + len(chunk)
        if rest:
            raise NotBase64Error(f"{called} is cut off: base64 text has groups of {_SYMBOLS}, its last has {len(rest)}")
        if not decoded.tell():
            raise NotBase64Error(f"{called} is empty; it should hold base64 text")


def _decoded(symbols: bytes, called: str) -> bytes:
    try:
        return base64.b64decode(symbols, validate=True)
    except binascii.Error as error:
        raise NotBase64Error(f"{called} is not base64 text: {first_line(error)}") from None


def _told_byte(byte: bytes) -> str:
    return repr(byte)[1:]


def _told(name: str) -> str:
    """A name that somebody else chose, on one line."""
    return repr(name if len(name) <= _LONGEST_NAME else f"{name[:_LONGEST_NAME]}..")
