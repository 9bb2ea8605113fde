"""Unpack compressed files: gzip, bzip2, xz, lzma, zstd and zip.

The format is detected from the first bytes of a file, not from its name or HTTP headers. Every byte of a packed file
must belong to its content: all streams are read, and a file with a damaged stream or stray bytes is refused.
`archives.py` unpacks tar archives.
"""

from __future__ import annotations

import bz2
import lzma
import re
import tarfile
import zipfile
import zlib
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, BinaryIO, Protocol

from platform_assets.base.errors import SourceError, first_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

CHUNK_BYTES = 1 << 20
HEAD_BYTES = tarfile.BLOCKSIZE
MOST_LAYERS = 3
"""Maximum number of nested layers, such as gzip in zip. Unpacking a file that contains itself would never end."""
_LONGEST_NAME = 100
_NAMES_SHOWN = 5
_ZIP = re.compile(rb"PK(\x03\x04|\x05\x06|\x07\x08)")
_ZSTD = re.compile(rb"\x28\xb5\x2f\xfd|[\x50-\x5f]\x2a\x4d\x18")
_UNSUPPORTED = {
    b"7z\xbc\xaf\x27\x1c": "a 7z archive",
    b"Rar!\x1a\x07": "a RAR archive",
    b"\x04\x22\x4d\x18": "an LZ4 file",
    b"\x1f\x9d": "a file packed by `compress`",
}
_LOCAL_HEADER = 30
_DATA_DESCRIPTOR = 24
_END_RECORD = 22


class ArchiveError(SourceError):
    """A packed file is damaged, or is not packed in a supported way."""


class DamagedFileError(ArchiveError):
    """The packed file is cut off or altered."""


class TooLargeError(ArchiveError):
    """The packed file or its content exceeds the size limit."""


class NoMemberError(ArchiveError):
    """The archive contains no file."""


class SeveralMembersError(ArchiveError):
    """The archive contains more than one file."""


class WrongMemberError(ArchiveError):
    """The archive's member cannot be unpacked: it is a link, is encrypted, or points outside the archive."""


@dataclass(frozen=True)
class SizeLimit:
    """Size limit for unpacking, without which a small packed file could fill the disk.

    Attributes
    ----------
    limit
        Maximum size in bytes, also of intermediate results if a file is packed several times.
    setting
        The environment variable that sets the limit, for messages.
    """

    limit: int
    setting: str

    def too_large(self, called: str) -> TooLargeError:
        """Return the error for a file that exceeds the limit."""
        return TooLargeError(
            f"{called} has more than {self.limit:,} bytes when unpacked; if that is intended, raise {self.setting}"
        )


class Decoder(Protocol):
    """The interface of the decompressors of `bz2` and `lzma`."""

    @property
    def eof(self) -> bool:
        """Whether the end of the stream was reached."""
        ...

    @property
    def needs_input(self) -> bool:
        """Whether the decoder can return more output only after more input."""
        ...

    @property
    def unused_data(self) -> bytes:
        """Bytes after the end of the stream."""
        ...

    def decompress(self, data: bytes, max_length: int = -1) -> bytes:
        """Return at most `max_length` bytes of output."""
        ...


class _Gzip:
    """zlib's decompressor with the interface of `Decoder`."""

    def __init__(self) -> None:
        self._stream = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)

    @property
    def eof(self) -> bool:
        return self._stream.eof

    @property
    def needs_input(self) -> bool:
        return not self._stream.unconsumed_tail

    @property
    def unused_data(self) -> bytes:
        return self._stream.unused_data

    def decompress(self, data: bytes, max_length: int = -1) -> bytes:
        return self._stream.decompress(self._stream.unconsumed_tail + data, max(max_length, 0))


_DECODERS: tuple[tuple[str, re.Pattern[bytes], Callable[[], Decoder]], ...] = (
    ("gzip", re.compile(rb"\x1f\x8b"), _Gzip),
    # The pattern includes the first block's magic bytes, because a CSV file may begin with "BZh9".
    ("bzip2", re.compile(rb"BZh[1-9](1AY&SY|\x17\x72\x45\x38\x50\x90)"), bz2.BZ2Decompressor),
    ("xz", re.compile(rb"\xfd7zXZ\x00"), lzma.LZMADecompressor),
    ("lzma", re.compile(rb"\x5d\x00\x00"), lzma.LZMADecompressor),
)


def compression_of(head: bytes) -> str | None:
    """Detect the compression from a file's first bytes; None for an uncompressed file or a zip archive."""
    if _ZSTD.match(head):
        return "zstd"
    return next((name for name, magic, _ in _DECODERS if magic.match(head)), None)


def decompressed(packed: BinaryIO, compression: str, called: str) -> Iterator[bytes]:
    """Yield the content of a compressed file, at most `CHUNK_BYTES` at a time.

    Parameters
    ----------
    packed
        The file, at its beginning.
    compression
        Name of the compression, from `compression_of`.
    called
        Name of the file in messages.

    Raises
    ------
    DamagedFileError
        The file is truncated, altered, or has bytes that belong to no stream. Trailing NUL bytes are allowed, except
        with zstd.
    """
    chunks = _zstd(packed) if compression == "zstd" else _streams(packed, compression)
    try:
        yield from filter(None, chunks)
    except EOFError:
        raise DamagedFileError(f"{called} is truncated: its {compression} data end too early; fetch it again") from None
    except (zlib.error, lzma.LZMAError, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:  # of the disk
            raise
        message = (
            f"{called} is damaged: its {compression} data cannot be unpacked ({first_line(error)}); fetch it again"
        )
        raise DamagedFileError(message) from None


def is_zip(head: bytes) -> bool:
    """Whether a file begins like a zip archive."""
    return _ZIP.match(head) is not None


def unpack(file: Path, called: str, size: SizeLimit) -> Path:
    """Replace a packed file with its content, and return its path. A file that is not packed is left unchanged.

    Parameters
    ----------
    file
        The file, in a private folder.
    called
        Name of the file in messages.
    size
        Limit for the content.

    Raises
    ------
    ArchiveError
        The file is damaged, is packed in an unsupported way, exceeds the limit, or is a zip archive that does not
        contain exactly one file.
    """
    for _ in range(MOST_LAYERS + 1):
        with file.open("rb") as stream:
            head = stream.read(HEAD_BYTES)
        compression = compression_of(head)
        if not compression and not is_zip(head):
            _refuse_unsupported(head, called)
            return file
        content = file.with_name(f"{file.name}.unpacked")
        with file.open("rb") as packed, content.open("wb") as target:
            chunks = decompressed(packed, compression, called) if compression else _only_member(packed, called)
            for chunk in chunks:
                target.write(chunk)
                if target.tell() > size.limit:
                    raise size.too_large(called)
        content.replace(file)
    raise ArchiveError(f"{called} has more than {MOST_LAYERS} layers of compression; compress it once")


def shown_name(name: str) -> str:
    """Return the name of an archive's member, quoted and shortened, for messages."""
    return repr(name if len(name) <= _LONGEST_NAME else f"{name[:_LONGEST_NAME]}..")


def is_tar(head: bytes) -> bool:
    """Whether a file begins with a valid header of a tar archive."""
    try:
        tarfile.TarInfo.frombuf(head[: tarfile.BLOCKSIZE], "utf-8", "backslashreplace")
    except tarfile.HeaderError:
        return False
    return True


def _streams(packed: BinaryIO, compression: str) -> Iterator[bytes]:
    new = next(decoder for name, _, decoder in _DECODERS if name == compression)
    rest = packed.read(CHUNK_BYTES)
    while rest:
        decoder = new()
        while not decoder.eof:
            if decoder.needs_input and not rest:
                rest = packed.read(CHUNK_BYTES)
                if not rest:
                    raise EOFError
            yield decoder.decompress(rest, CHUNK_BYTES)
            rest = b""
        rest = decoder.unused_data or packed.read(CHUNK_BYTES)
        if rest.startswith(b"\0"):
            _demand_padding(rest, packed)
            return


def _demand_padding(rest: bytes, packed: BinaryIO) -> None:
    while rest:
        if rest.strip(b"\0"):
            raise OSError("bytes after the end belong to no stream")
        rest = packed.read(CHUNK_BYTES)


def _zstd(packed: BinaryIO) -> Iterator[bytes]:
    import pyarrow as pa

    with pa.CompressedInputStream(pa.PythonFile(packed, mode="r"), "zstd") as stream:
        yield from iter(partial(stream.read, CHUNK_BYTES), b"")


def _refuse_unsupported(head: bytes, called: str) -> None:
    kind = next((kind for magic, kind in _UNSUPPORTED.items() if head.startswith(magic)), None)
    if not kind and is_tar(head):
        kind = "a tar archive"
    if kind:
        raise ArchiveError(f"{called} is {kind}, which is not supported; unpack it, or pack the file with gzip or zip")


def _only_member(packed: BinaryIO, called: str) -> Iterator[bytes]:
    """Yield the content of the only file of a zip archive. Folders and the metadata files of macOS are ignored."""
    try:
        with zipfile.ZipFile(packed) as archive:
            files = [one for one in archive.infolist() if not one.is_dir() and not one.filename.startswith("__MACOSX/")]
            _demand_one(files, called)
            _demand_all_bytes(archive, packed, called)
            with archive.open(files[0]) as content:
                yield from iter(partial(content.read, CHUNK_BYTES), b"")
    except NotImplementedError as error:
        raise WrongMemberError(f"{called} is a zip archive that cannot be unpacked: {first_line(error)}") from None
    except RuntimeError:
        raise WrongMemberError(f"{called} is an encrypted zip archive; pack the file without a password") from None
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, ValueError, OverflowError) as error:
        raise DamagedFileError(f"{called} is a damaged zip archive ({first_line(error)}); fetch it again") from None


def _demand_one(files: list[zipfile.ZipInfo], called: str) -> None:
    if not files:
        raise NoMemberError(f"{called} is a zip archive that contains no file; put one file in the archive")
    if len(files) > 1:
        names = [shown_name(one.filename) for one in files[:_NAMES_SHOWN]]
        more = f" and {len(files) - _NAMES_SHOWN} more" if len(files) > _NAMES_SHOWN else ""
        raise SeveralMembersError(
            f"{called} is a zip archive with {len(files)} files: {', '.join(names)}{more}; put only one file in the "
            "archive"
        )


def _demand_all_bytes(archive: zipfile.ZipFile, packed: BinaryIO, called: str) -> None:
    """Refuse bytes that belong to no member, because `zipfile` would skip a second archive or a removed member."""
    members = sorted(archive.infolist(), key=lambda one: one.header_offset)
    starts = [one.header_offset for one in members] + [archive.start_dir]
    ends = [one.header_offset + _LOCAL_HEADER + _names_length(packed, one) + one.compress_size for one in members]
    packed.seek(0, 2)
    size = packed.tell()
    packed.seek(max(0, size - (1 << 16) - _END_RECORD))
    tail = packed.read()
    behind = len(tail) - tail.rfind(b"PK\x05\x06") - _END_RECORD - len(archive.comment)
    gaps = [start - end for end, start in zip(ends, starts[1:], strict=True)]
    if starts[0] or behind or any(not 0 <= gap <= _DATA_DESCRIPTOR for gap in gaps):
        raise DamagedFileError(
            f"{called} is a zip archive with bytes that belong to no member; pack the file into a new archive"
        )


def _names_length(packed: BinaryIO, member: zipfile.ZipInfo) -> int:
    """Return the total length of a member's name and extra field.

    Read it from the member's local header, not from the central directory.
    """
    packed.seek(member.header_offset + _LOCAL_HEADER - 4)
    name, extra = (int.from_bytes(packed.read(2), "little") for _ in range(2))
    return name + extra
