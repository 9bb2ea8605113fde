"""Pack and unpack tar archives whose only file is base64 text.

An archive is not trusted: the base64 text and the decoded file are streamed into a private folder, and decompression
stops at a maximum number of bytes. Names inside the archive appear only in messages and are never used as
paths. `packed_files.py` decompresses.
"""

from __future__ import annotations

import base64
import binascii
import gzip
import re
import shutil
import tarfile
from typing import TYPE_CHECKING, BinaryIO

from platform_assets.base.errors import first_line
from platform_assets.landing.packed_files import (
    CHUNK_BYTES,
    HEAD_BYTES,
    ArchiveError,
    NoMemberError,
    SeveralMembersError,
    SizeLimit,
    WrongMemberError,
    compression_of,
    decompressed,
    is_tar,
    shown_name,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_BLANKS = b" \t\r\n"
_NOT_BASE64 = re.compile(rb"[^A-Za-z0-9+/= \t\r\n]")
_SYMBOLS = 4
MOST_FOLDERS = 100
"""Maximum number of folders in an archive. Folders are ignored, but an archive with more than this is refused."""


class NotPackedError(ArchiveError):
    """The file is neither compressed nor a tar archive."""


class NotTarError(ArchiveError):
    """The compressed content is not a complete tar archive."""


class NotBase64Error(ArchiveError):
    """The archive's file is not base64 text."""


class Unpacking(SizeLimit):
    """Unpacks an archive that contains one file of base64 text, up to a size limit."""

    def unpack(self, archive: Path, folder: Path, called: str) -> Path:
        """Unpack the archive's only file, and return its path. No other file is left in the folder.

        Parameters
        ----------
        archive
            A tar archive, usually compressed, whose only file is base64 text.
        folder
            An empty private folder.
        called
            Name of the archive in messages.

        Returns
        -------
        Path
            The decoded file.

        Raises
        ------
        ArchiveError
            The archive is damaged, has unexpected content, or exceeds the limit.
        """
        text, target = folder / "text", folder / "unpacked"
        with archive.open("rb") as packed:
            name = _only_member(_Layer(packed, self, called), text)
        _decode(text, target, f"{called}: its file {name}")
        text.unlink()
        return target


def pack_file(file: Path, archive: Path, member: str, how: Unpacking, called: str) -> None:
    """Encode a file as base64 in lines of 76 characters, and pack the text into a compressed tar archive.

    Equal files give equal archives.

    Parameters
    ----------
    file
        The file to pack.
    archive
        The archive to write.
    member
        Name of the file in the archive.
    how
        Limits with which the archive will be unpacked. The base64 text must not exceed the size limit.
    called
        Name of the file in messages.

    Raises
    ------
    TooLargeError
        The base64 text exceeds the limit, so `unpack` would refuse the archive.
    """
    text = archive.with_name("base64")
    with file.open("rb") as plain, text.open("wb") as encoded:
        base64.encode(plain, encoded)
    if text.stat().st_size > how.limit:
        raise how.too_large(called)
    entry = tarfile.TarInfo(member)
    entry.size, entry.mode = text.stat().st_size, 0o644
    with (
        archive.open("wb") as target,
        # Store no name and no time, so that equal files give equal archives.
        gzip.GzipFile("", "wb", fileobj=target, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w") as tar,
        text.open("rb") as content,
    ):
        tar.addfile(entry, content)


class _Layer:
    """The decompressed archive, as a stream for `tarfile`. Reading beyond the limit raises an error."""

    def __init__(self, packed: BinaryIO, how: Unpacking, called: str) -> None:
        head = packed.read(HEAD_BYTES)
        packed.seek(0)
        self._chunks: Iterator[bytes]
        if compression := compression_of(head):
            self._chunks = decompressed(packed, compression, called)
        elif is_tar(head):
            self._chunks = iter(lambda: packed.read(CHUNK_BYTES), b"")
        else:
            raise NotPackedError(f"{called} is not a compressed tar archive; pack it with `tar czf ARCHIVE FILE`")
        self.called = called
        self._how = how
        self._left = how.limit

    def read(self, _size: int) -> bytes:
        """Return the next chunk; empty at the end. `tarfile` accepts a chunk of any size."""
        found = next(self._chunks, b"")
        self._left -= len(found)
        if self._left < 0:
            raise self._how.too_large(self.called)
        return found

    def drain(self) -> None:
        """Read to the end, which verifies the checksums."""
        while self.read(CHUNK_BYTES):
            pass


def _only_member(layer: _Layer, target: Path) -> str:
    """Extract the only file of a tar archive to `target`, and return its name for use in messages."""
    name, folders = "", 0
    try:
        with tarfile.open(fileobj=layer, mode="r|", encoding="utf-8", errors="backslashreplace") as archive:  # type: ignore[call-overload]  # `tarfile` only needs `read`
            for member in archive:
                _demand_plain(member, layer.called)
                if name and member.isfile():
                    raise SeveralMembersError(
                        f"{layer.called} contains several files, including {name} and {shown_name(member.name)}; "
                        "put only one file in the archive"
                    )
                if member.isfile():
                    name = shown_name(member.name)
                    _copy(archive, member, target)
                folders += member.isdir()
                if folders > MOST_FOLDERS:
                    raise WrongMemberError(
                        f"{layer.called} contains more than {MOST_FOLDERS} folders; put only one file in the archive"
                    )
    # For forged headers, tarfile also raises errors other than TarError.
    except (tarfile.TarError, ValueError, LookupError, ArithmeticError, RecursionError) as error:
        raise NotTarError(f"{layer.called} is not a complete tar archive: {first_line(error)}") from None
    layer.drain()
    if not name:
        raise NoMemberError(f"{layer.called} contains no file; pack one with `tar czf ARCHIVE FILE`")
    return name


def _demand_plain(member: tarfile.TarInfo, called: str) -> None:
    name = shown_name(member.name)
    if member.name.startswith(("/", "\\")) or ".." in re.split(r"[/\\]", member.name):
        raise WrongMemberError(
            f"{called} contains {name}, which is a path outside the archive; pack the file without its path"
        )
    # Refuse sparse files, because their holes take no space in the archive but fill the disk when written.
    if member.issparse() or not (member.isfile() or member.isdir()):
        kind = "a link" if member.issym() or member.islnk() else "a sparse file" if member.issparse() else "not a file"
        raise WrongMemberError(f"{called} contains {name}, which is {kind}; pack the file itself")


def _copy(archive: tarfile.TarFile, member: tarfile.TarInfo, target: Path) -> None:
    content = archive.extractfile(member)
    if content is None:
        raise tarfile.ReadError("its file has no content")
    with content, target.open("wb") as copy:
        shutil.copyfileobj(content, copy, CHUNK_BYTES)


def _decode(text: Path, target: Path, called: str) -> None:
    """Decode base64 text, with or without line breaks."""
    rest, place, ended = b"", 0, False
    with text.open("rb") as encoded, target.open("wb") as decoded:
        while chunk := encoded.read(CHUNK_BYTES):
            if wrong := _NOT_BASE64.search(chunk):
                raise NotBase64Error(
                    f"{called} is not base64 text: byte {place + wrong.start() + 1} is {repr(wrong[0])[1:]}; "
                    "encode it with `base64 FILE`"
                )
            symbols = rest + chunk.translate(None, _BLANKS)
            if ended and symbols:
                raise NotBase64Error(f"{called} is not base64 text: there is text after its end, near byte {place + 1}")
            whole = len(symbols) - len(symbols) % _SYMBOLS
            decoded.write(_decoded(symbols[:whole], called))
            ended |= symbols[:whole].endswith(b"=")
            rest, place = symbols[whole:], place + len(chunk)
        if rest:
            raise NotBase64Error(f"{called} is truncated: its last group has {len(rest)} of {_SYMBOLS} characters")
        if not decoded.tell():
            raise NotBase64Error(f"{called} is empty; it should contain base64 text")


def _decoded(symbols: bytes, called: str) -> bytes:
    try:
        return base64.b64decode(symbols, validate=True)
    except binascii.Error as error:
        raise NotBase64Error(f"{called} is not base64 text: {first_line(error)}") from None
