"""Archives are unpacked completely or refused with a reason. No file is written outside the folder."""

from __future__ import annotations

import base64
import bz2
import gzip
import lzma
import random
import tarfile
import tracemalloc
import zlib
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from platform_assets.landing.archives import (
    MOST_FOLDERS,
    NotBase64Error,
    NotPackedError,
    NotTarError,
    Unpacking,
)
from platform_assets.landing.packed_files import (
    ArchiveError,
    DamagedFileError,
    NoMemberError,
    SeveralMembersError,
    TooLargeError,
    WrongMemberError,
)
from platform_assets_tests.archives import MEMBER, entry, pack, tar, tar_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.requirement("REL-1")

SETTING = "PLATFORM_ARCHIVE_MAX_BYTES"
HOW = Unpacking(1 << 20, SETTING)
CONTENT = random.Random(1).randbytes(20_000)
GOOD = pack(CONTENT)
TEXT = base64.encodebytes(CONTENT)


def unpacked(folder: Path, packed: bytes, how: Unpacking = HOW) -> bytes:
    """Unpack an archive, check that only the expected files exist, and return the content."""
    inner = folder / "inside" / "unpacked"
    inner.mkdir(parents=True, exist_ok=True)
    archive = folder / "archive"
    archive.write_bytes(packed)
    try:
        return how.unpack(archive, inner, "the archive").read_bytes()
    finally:
        assert {path.name for path in folder.rglob("*")} <= {"inside", "archive", "unpacked", "text"}
        for file in inner.iterdir():
            file.unlink()


@pytest.mark.parametrize("name", [MEMBER, "db", "./a/./b.txt", "a/..b/c", "Łódź/数", "x" * 200])
def test_an_archive_is_unpacked_whatever_the_name_of_the_file_in_it(tmp_path: Path, name: str) -> None:
    assert unpacked(tmp_path, pack(CONTENT, name)) == CONTENT


@pytest.mark.parametrize("size", [1, 2, 3, 57, 58, (1 << 20) - 1, 1 << 20, (1 << 20) + 1])
@pytest.mark.parametrize("width", [76, 0])
def test_base64_text_of_any_length_is_decoded_with_and_without_line_breaks(
    tmp_path: Path, size: int, width: int
) -> None:
    content = random.Random(size).randbytes(size)
    text = base64.encodebytes(content) if width else base64.b64encode(content)
    assert (
        unpacked(tmp_path, gzip.compress(tar({"db": text.replace(b"\n", b"\r\n")})), Unpacking(1 << 22, "")) == content
    )


@pytest.mark.parametrize(
    "compress", [bytes, bz2.compress, lzma.compress, lambda packed: gzip.compress(packed) + bytes(99)]
)
def test_the_compression_of_an_archive_is_detected_from_its_first_bytes(
    tmp_path: Path, compress: Callable[[bytes], bytes]
) -> None:
    assert unpacked(tmp_path, compress(tar({"db": TEXT}))) == CONTENT


def test_folder_entries_before_the_file_in_an_archive_are_ignored(tmp_path: Path) -> None:
    packed = tar_of((entry("Users", tarfile.DIRTYPE), b""), (tarfile.TarInfo("Users/db"), TEXT))
    assert unpacked(tmp_path, gzip.compress(packed)) == CONTENT


def with_file(*others: tuple[tarfile.TarInfo, bytes]) -> bytes:
    return gzip.compress(tar_of(*others, (tarfile.TarInfo("db"), TEXT)))


def sparse() -> bytes:
    """Return an archive of a sparse file that has a size of one terabyte and no data."""
    made = tarfile.TarInfo("db")
    made.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": str(1 << 40)}
    return gzip.compress(tar_of((made, b"1\n0\n0\n".ljust(512, b"\0"))))


def claims(size: int) -> bytes:
    """Return an archive whose header declares a size that is larger than the content."""
    made = tarfile.TarInfo("db")
    made.size = size
    return gzip.compress(made.tobuf(tarfile.GNU_FORMAT) + TEXT[:1_024])


BREAKAGES: list[tuple[bytes, type[ArchiveError], str]] = [
    (b"", NotPackedError, "the archive is not a compressed tar archive; pack it with `tar czf ARCHIVE FILE`"),
    (b"PK\x03\x04 a zip file", NotPackedError, "the archive is not a compressed tar archive; pack it with"),
    (b"SQLite format 3\0", NotPackedError, "the archive is not a compressed tar archive"),
    (GOOD[:1_000], DamagedFileError, "the archive is truncated: its gzip data end too early; fetch it again"),
    (GOOD[:-1], DamagedFileError, "the archive is truncated: its gzip data end too early; fetch it again"),
    (GOOD[:12], DamagedFileError, "the archive is truncated"),
    (GOOD[:-8] + b"\0" * 8, DamagedFileError, "the archive is damaged: its gzip data cannot be unpacked (Error -3"),
    (GOOD + b"and more", DamagedFileError, "the archive is damaged"),
    (gzip.compress(b""), NotTarError, "the archive is not a complete tar archive: "),
    (gzip.compress(TEXT), NotTarError, "the archive is not a complete tar archive: "),
    (gzip.compress(tar({"db": TEXT})[:5_000]), NotTarError, "is not a complete tar archive: unexpected end of data"),
    (claims(1 << 40), NotTarError, "is not a complete tar archive: "),
    (gzip.compress(tar({})), NoMemberError, "the archive contains no file; pack one with `tar czf ARCHIVE FILE`"),
    (gzip.compress(tar_of((entry("a", tarfile.DIRTYPE), b""))), NoMemberError, "the archive contains no file"),
    (
        gzip.compress(tar({"a": TEXT, "b": TEXT})),
        SeveralMembersError,
        "contains several files, including 'a' and 'b'; put only one file",
    ),
    (pack(CONTENT, "/etc/passwd"), WrongMemberError, "contains '/etc/passwd', which is a path outside the archive"),
    (pack(CONTENT, "a/../../b"), WrongMemberError, "contains 'a/../../b', which is a path outside the archive"),
    (pack(CONTENT, "..\\b"), WrongMemberError, r"contains '..\\b', which is a path outside the archive"),
    (pack(CONTENT, "\\b"), WrongMemberError, "which is a path outside the archive"),
    (with_file((entry("../x", tarfile.DIRTYPE), b"")), WrongMemberError, "contains '../x', which is a path out"),
    (
        with_file((entry("a", tarfile.SYMTYPE, "/etc/passwd"), b"")),
        WrongMemberError,
        "contains 'a', which is a link; pack the",
    ),
    (
        with_file((entry("a", tarfile.LNKTYPE, "db"), b"")),
        WrongMemberError,
        "contains 'a', which is a link; pack the file",
    ),
    (
        with_file((entry("a", tarfile.CHRTYPE), b"")),
        WrongMemberError,
        "contains 'a', which is not a file; pack the file itself",
    ),
    (with_file((entry("a", tarfile.BLKTYPE), b"")), WrongMemberError, "contains 'a', which is not a file"),
    (with_file((entry("a", tarfile.FIFOTYPE), b"")), WrongMemberError, "contains 'a', which is not a file"),
    (sparse(), WrongMemberError, "which is a sparse file; pack the file itself"),
    (
        with_file(*((entry(f"{n}", tarfile.DIRTYPE), b"") for n in range(MOST_FOLDERS + 1))),
        WrongMemberError,
        f"contains more than {MOST_FOLDERS} folders",
    ),
    (
        gzip.compress(tar({"db": b""})),
        NotBase64Error,
        "the archive: its file 'db' is empty; it should contain base64 text",
    ),
    (gzip.compress(tar({"db": b"\n \n"})), NotBase64Error, "is empty; it should contain base64 text"),
    (gzip.compress(tar({"db": CONTENT})), NotBase64Error, "is not base64 text: byte "),
    (gzip.compress(tar({"db": b"QUJD\nQU%D"})), NotBase64Error, "byte 8 is '%'; encode it with `base64 FILE`"),
    (
        gzip.compress(tar({"db": b"QUI\nD="})),
        NotBase64Error,
        "is truncated: its last group has 1 of 4 characters",
    ),
    (gzip.compress(tar({"db": TEXT[:-3]})), NotBase64Error, "is truncated: its last group has "),
    (gzip.compress(tar({"db": b"QQ==QUJD"})), NotBase64Error, "is not base64 text: "),
    (gzip.compress(tar({"db": b"A" * ((1 << 20) - 4) + b"QQ==QUJD"})), NotBase64Error, "there is text after its end"),
]


@pytest.mark.parametrize(("packed", "kind", "message"), BREAKAGES, ids=range(len(BREAKAGES)))
def test_each_kind_of_invalid_archive_gives_its_own_error(
    tmp_path: Path, packed: bytes, kind: type[ArchiveError], message: str
) -> None:
    with pytest.raises(ArchiveError) as raised:
        unpacked(tmp_path, packed, Unpacking(1 << 22, SETTING))
    assert (type(raised.value), message in str(raised.value)) == (kind, True), str(raised.value)
    assert "\n" not in str(raised.value)


def test_errors_show_names_from_the_archive_on_one_short_line(tmp_path: Path) -> None:
    with pytest.raises(WrongMemberError) as raised:
        unpacked(tmp_path, pack(CONTENT, "/\x1b[31m\n" + "x" * 200))
    assert str(raised.value).startswith("the archive contains '/\\x1b[31m\\nxxx")
    assert len(str(raised.value)) < 300


def bomb(layers: int = 1) -> bytes:
    """Return an archive of about one megabyte per layer. It unpacks to one gigabyte of zeros per layer."""
    compressor = zlib.compressobj(9, zlib.DEFLATED, 31)
    described = tarfile.TarInfo("db")
    described.size = 1 << 30
    zeros = bytes(1 << 20)
    parts = [compressor.compress(described.tobuf())]
    parts += [compressor.compress(zeros) for _ in range(layers << 10)]
    return b"".join([*parts, compressor.flush()])


def test_unpacking_a_decompression_bomb_stops_at_the_limit(tmp_path: Path) -> None:
    packed = bomb()
    assert len(packed) < 1 << 21
    tracemalloc.start()
    try:
        with pytest.raises(TooLargeError) as raised:
            unpacked(tmp_path, packed, Unpacking(50_000_000, SETTING))
        assert tracemalloc.get_traced_memory()[1] < 30_000_000
    finally:
        tracemalloc.stop()
    assert str(raised.value) == (
        "the archive has more than 50,000,000 bytes when unpacked; "
        "if that is intended, raise PLATFORM_ARCHIVE_MAX_BYTES"
    )


def test_the_bytes_of_tar_headers_count_towards_the_limit(tmp_path: Path) -> None:
    long = tarfile.TarInfo("db")
    long.pax_headers = {"comment": "x" * 2_000_000}
    with pytest.raises(TooLargeError):
        unpacked(tmp_path, gzip.compress(tar_of((long, TEXT))))


def test_an_archive_whose_size_equals_the_limit_is_unpacked(tmp_path: Path) -> None:
    layer = tar({"db": TEXT})
    assert unpacked(tmp_path, gzip.compress(layer), Unpacking(len(layer), "")) == CONTENT
    with pytest.raises(TooLargeError):
        unpacked(tmp_path, gzip.compress(layer), Unpacking(len(layer) - 1, ""))


# Random damage


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("damaged")


def damaged(whole: bytes, cut: int, flips: list[tuple[int, int]]) -> bytes:
    kept = bytearray(whole[: len(whole) - cut % len(whole)])
    for place, bit in flips:
        kept[place % len(kept)] ^= 1 << bit
    return bytes(kept)


SMALL = random.Random(2).randbytes(300)
LAYERS: dict[str, tuple[bytes, Callable[[bytes], bytes]]] = {
    "gzip": (pack(SMALL), lambda damaged: damaged),
    "tar": (tar({MEMBER: base64.encodebytes(SMALL)}), gzip.compress),
    "long names": (tar({"x" * 150: base64.encodebytes(SMALL)}), gzip.compress),
    "base64": (base64.encodebytes(SMALL), lambda damaged: gzip.compress(tar({"db": damaged}))),
}


@pytest.mark.parametrize("layer", LAYERS)
@settings(max_examples=150)
@given(
    cut=st.just(0) | st.integers(0, 5_000),
    flips=st.lists(st.tuples(st.integers(0, 5_000), st.integers(0, 7)), max_size=4),
)
def test_unpacking_a_randomly_damaged_archive_gives_the_content_or_an_archive_error(
    folder: Path, layer: str, cut: int, flips: list[tuple[int, int]]
) -> None:
    whole, rest = LAYERS[layer]
    # Only gzip has a checksum of the content. In the inner layers, unpacking may therefore miss the damage.
    with suppress(ArchiveError):
        assert unpacked(folder, rest(damaged(whole, cut, flips))) == SMALL or layer != "gzip"


@settings(max_examples=100)
@given(st.binary(max_size=2_000))
def test_unpacking_random_bytes_gives_an_archive_error(folder: Path, content: bytes) -> None:
    for packed in (content, b"\x1f\x8b" + content, gzip.compress(content), gzip.compress(content.ljust(1_024, b"\0"))):
        with pytest.raises(ArchiveError):
            unpacked(folder, packed)
