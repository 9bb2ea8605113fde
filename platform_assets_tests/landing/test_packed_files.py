"""Packed files are detected from their first bytes. They are unpacked completely, or refused with the reason."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile
import zipfile
from typing import TYPE_CHECKING

import pyarrow as pa
import pytest

from platform_assets.landing.packed_files import (
    CHUNK_BYTES,
    MOST_LAYERS,
    ArchiveError,
    DamagedFileError,
    NoMemberError,
    SeveralMembersError,
    SizeLimit,
    TooLargeError,
    WrongMemberError,
    unpack,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.requirement("PLT-12")

CONTENT = b"a,b\n1,2\n" * 400_000
NO_LIMIT = SizeLimit(1 << 40, "")


def zstd(content: bytes) -> bytes:
    with pa.BufferOutputStream() as target:
        with pa.CompressedOutputStream(target, "zstd") as stream:
            stream.write(content)
        return bytes(target.getvalue())


def lzma_alone(content: bytes) -> bytes:
    return lzma.compress(content, lzma.FORMAT_ALONE)


COMPRESSIONS = {"gzip": gzip.compress, "bzip2": bz2.compress, "xz": lzma.compress, "lzma": lzma_alone, "zstd": zstd}
compressions = pytest.mark.parametrize("compress", COMPRESSIONS.values(), ids=COMPRESSIONS)


def archive(*members: tuple[str, bytes], how: int = zipfile.ZIP_DEFLATED, comment: bytes = b"") -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", how) as packed:
        packed.comment = comment
        for name, content in members:
            packed.writestr(name, content)
    return target.getvalue()


def tar(content: bytes) -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as packed:
        member = tarfile.TarInfo("sales.csv")
        member.size = len(content)
        packed.addfile(member, io.BytesIO(content))
    return target.getvalue()


def unpacked(folder: Path, packed: bytes, size: SizeLimit = NO_LIMIT) -> bytes:
    file = folder / "file.csv"
    file.write_bytes(packed)
    return unpack(file, "the file", size).read_bytes()


@compressions
def test_every_stream_of_a_compressed_file_is_read(tmp_path: Path, compress: Callable[[bytes], bytes]) -> None:
    assert unpacked(tmp_path, compress(CONTENT)) == CONTENT
    assert unpacked(tmp_path, compress(CONTENT) + compress(b"3,4\n")) == CONTENT + b"3,4\n"
    assert unpacked(tmp_path, compress(b"")) == b""


@compressions
def test_a_compressed_file_that_is_damaged_or_has_trailing_bytes_is_refused(
    tmp_path: Path, compress: Callable[[bytes], bytes]
) -> None:
    whole, second = compress(CONTENT), compress(b"3,4\n" * 9_999)
    for broken in (whole + b"and more", whole + b"\0" + second, whole + b"x" + second, whole + second[:-9], whole[:-9]):
        with pytest.raises(
            DamagedFileError, match=r"^the file is (damaged|truncated): its \w+ data .*; fetch it again$"
        ):
            unpacked(tmp_path, broken)
    altered = bytearray(compress(bytes(range(256)) * 99))
    altered[len(altered) // 2] ^= 1
    if compress not in {lzma_alone, zstd}:  # these two formats have no checksum
        with pytest.raises(DamagedFileError):
            unpacked(tmp_path, bytes(altered))


def test_zero_bytes_at_the_end_of_a_compressed_file_are_ignored(tmp_path: Path) -> None:
    for compress in (gzip.compress, bz2.compress, lzma.compress):
        assert unpacked(tmp_path, compress(CONTENT) + bytes(CHUNK_BYTES + 1)) == CONTENT


@pytest.mark.parametrize(
    "packed",
    [
        archive(("sales.csv", CONTENT)),
        archive(("sales.csv", CONTENT), how=zipfile.ZIP_STORED, comment=b"PK is in the comment"),
        archive(("sales.csv", CONTENT), how=zipfile.ZIP_BZIP2),
        archive(("sales.csv", CONTENT), how=zipfile.ZIP_LZMA),
        archive(("2024/", b""), ("2024/sales.csv", CONTENT), ("__MACOSX/2024/._sales.csv", b"icon")),
        gzip.compress(archive(("sales.csv.xz", lzma.compress(CONTENT)))),
    ],
    # The content cannot be the id, because it contains the time, which differs between test processes.
    ids=["deflated", "stored", "bzip2", "lzma", "with other members", "in gzip"],
)
def test_a_zip_archive_with_one_file_is_unpacked(tmp_path: Path, packed: bytes) -> None:
    assert unpacked(tmp_path, packed) == CONTENT


SOME = [(f"{month}.csv", b"a,b\n") for month in ("january", "february", "march", "april", "may", "june", "july")]


@pytest.mark.parametrize(
    ("packed", "kind", "reason"),
    [
        (archive(*SOME[:2]), SeveralMembersError, "with 2 files: 'january.csv', 'february.csv'; put only one file"),
        (archive(*SOME), SeveralMembersError, "7 files: 'january.csv', 'february.csv', 'march.csv', 'april.csv', "),
        (archive(), NoMemberError, "the file is a zip archive that contains no file; put one file"),
        (archive(("2024/", b"")), NoMemberError, "the file is a zip archive that contains no file; put one file"),
        (archive(SOME[0]) + archive(SOME[1]), DamagedFileError, "a zip archive with bytes that belong to no member"),
        (archive(SOME[0]) + b"and more", DamagedFileError, "a zip archive with bytes that belong to no member"),
        (archive(SOME[0])[:-30], DamagedFileError, "the file is a damaged zip archive"),
        (
            archive(SOME[0], how=zipfile.ZIP_STORED).replace(b"a,b", b"a,c"),
            DamagedFileError,
            "a damaged zip archive",
        ),
        (tar(CONTENT), ArchiveError, "the file is a tar archive, which is not supported; unpack it, or pack the file"),
        (b"7z\xbc\xaf\x27\x1c\0\4", ArchiveError, "the file is a 7z archive, which is not supported"),
    ],
    ids=range(10),
)
def test_unsupported_and_damaged_archives_are_refused_with_the_reason(
    tmp_path: Path, packed: bytes, kind: type[ArchiveError], reason: str
) -> None:
    with pytest.raises(ArchiveError) as caught:
        unpacked(tmp_path, packed)
    assert (type(caught.value), reason in str(caught.value)) == (kind, True), str(caught.value)


def test_an_encrypted_zip_archive_is_refused(tmp_path: Path) -> None:
    packed = bytearray(archive(SOME[0]))
    packed[6] |= 1
    packed[packed.index(b"PK\x01\x02") + 8] |= 1
    with pytest.raises(WrongMemberError, match="is an encrypted zip archive; pack the file without a password"):
        unpacked(tmp_path, bytes(packed))


@pytest.mark.parametrize(
    "compress",
    [*COMPRESSIONS.values(), lambda content: archive(("a", content)), lambda content: gzip.compress(zstd(content))],
)
def test_a_decompression_bomb_is_refused_before_it_fills_the_disk(
    tmp_path: Path, compress: Callable[[bytes], bytes]
) -> None:
    content, limit = bytes(3 << 20), 1 << 20
    with pytest.raises(TooLargeError) as caught:
        unpacked(tmp_path, compress(content), SizeLimit(limit, "PLATFORM_UNPACKED_MAX_BYTES"))
    assert str(caught.value) == (
        "the file has more than 1,048,576 bytes when unpacked; if that is intended, raise PLATFORM_UNPACKED_MAX_BYTES"
    )
    assert sum(path.stat().st_size for path in tmp_path.rglob("*")) < 3 * limit
    assert unpacked(tmp_path, compress(content), SizeLimit(len(content), "")) == content


def test_nested_compression_is_unpacked_up_to_the_layer_limit(tmp_path: Path) -> None:
    packed = CONTENT
    for _ in range(MOST_LAYERS):
        packed = gzip.compress(packed)
    assert unpacked(tmp_path, packed) == CONTENT
    with pytest.raises(ArchiveError, match="the file has more than 3 layers of compression; compress it once"):
        unpacked(tmp_path, gzip.compress(packed))


@pytest.mark.parametrize("content", [b"", b"BZh9,b\n1,2\n", b"PK,b\n1,2\n", b"\x1f,b\n", CONTENT])
def test_a_file_that_is_not_packed_is_left_unchanged(tmp_path: Path, content: bytes) -> None:
    assert unpacked(tmp_path, content) == content
