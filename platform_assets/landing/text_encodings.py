"""Text encodings: detect the encoding of a text file, and read the file as UTF-8."""

from __future__ import annotations

import codecs
from typing import TYPE_CHECKING, Protocol

from platform_assets.base.errors import SourceError

if TYPE_CHECKING:
    from pathlib import Path
    from typing import TextIO

UTF_8 = "utf-8"
UTF_16 = "utf-16"
MARKED = (UTF_8, UTF_16)
"""Encodings that can be recognised with certainty, by a byte order mark or by valid UTF-8."""
UTF_8_SHARE = 0.95
"""Minimum share of valid UTF-8 lines among the lines with non-ASCII bytes, for the file to be read as UTF-8."""
_PART = 1 << 17
_SAMPLE = 1 << 16
"""Size of the sample of non-ASCII lines from which charset-normalizer detects the encoding, in bytes."""


class Utf8Stream(Protocol):
    """The content of a text file as bytes in UTF-8. Lines end at a line feed."""

    def read(self, size: int, /) -> bytes:
        """Return roughly `size` bytes; an empty result at the end of the file."""

    def readline(self, size: int = -1, /) -> bytes:
        """Return the bytes up to the next line feed, but not more than `size`."""

    def close(self) -> None:
        """Close the file."""


class _Transcoded:
    """A text file in another encoding, read as UTF-8."""

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def read(self, size: int, /) -> bytes:
        return self._file.read(size).encode()

    def readline(self, size: int = -1, /) -> bytes:
        return self._file.readline(size).encode()

    def close(self) -> None:
        self._file.close()


def open_as_utf8(path: Path, encoding: str) -> Utf8Stream:
    """Open a text file as a stream of UTF-8, without a byte order mark.

    Bytes that are invalid in a UTF-8 file stay in the stream. In any other encoding they raise `UnicodeDecodeError`.
    """
    if codecs.lookup(encoding).name not in {"utf-8", "utf-8-sig"}:
        # With newline="\n", Python neither translates line ends nor splits at a lone carriage return.
        file = path.open(encoding=encoding, newline="\n")
        return _Transcoded(file)
    stream = path.open("rb")
    if stream.read(len(codecs.BOM_UTF8)) != codecs.BOM_UTF8:
        stream.seek(0)
    return stream


def marked_encoding(path: Path) -> str:
    """Return `utf-16` for a file with the byte order mark of UTF-16, else `utf-8`."""
    with path.open("rb") as file:
        head = file.read(4)
    return UTF_16 if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else UTF_8


def detected_encoding(path: Path, called: str) -> str:
    """Detect the encoding of a text file.

    The file is UTF-8 if at least `UTF_8_SHARE` of its non-ASCII lines are valid UTF-8. Otherwise charset-normalizer
    rates the encodings that fit the non-ASCII lines. A few letters hardly distinguish single-byte encodings, so cp1252,
    the most common one, wins a tie.

    Raises
    ------
    SourceError
        No known encoding fits.
    """
    if marked_encoding(path) != UTF_8:
        return UTF_16
    if _is_utf8_file(path):
        return UTF_8
    sample = bytearray()
    valid = invalid = 0
    with path.open("rb") as file:
        for line in file:
            if line.isascii():
                continue
            if is_utf8(line):
                valid += 1
            else:
                invalid += 1
            if len(sample) < _SAMPLE:
                sample += line
    if valid >= UTF_8_SHARE * (valid + invalid):
        return UTF_8
    return _likeliest(bytes(sample), called)


def _is_utf8_file(path: Path) -> bool:
    decoder = codecs.getincrementaldecoder("utf-8")()
    with path.open("rb") as file:
        try:
            while part := file.read(_PART):
                decoder.decode(part)
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            return False
    return True


def _likeliest(sample: bytes, called: str) -> str:
    from charset_normalizer import from_bytes

    best, western = from_bytes(sample).best(), from_bytes(sample, cp_isolation=["cp1252"]).best()
    if western and best and western.chaos <= best.chaos:
        return "cp1252"
    if best is None:
        raise SourceError(f"{called} has an unknown text encoding; save the file as UTF-8")
    return str(best.encoding)


def is_utf8(content: bytes) -> bool:
    """Whether bytes are valid UTF-8."""
    try:
        content.decode()
    except UnicodeDecodeError:
        return False
    return True
