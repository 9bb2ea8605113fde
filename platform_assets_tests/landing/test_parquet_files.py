"""Parquet files with page checksums never return altered values. Files that decode to too many bytes are refused."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from platform_assets.base.errors import SourceError
from platform_assets.landing import parquet_files
from platform_assets.landing.packed_files import SizeLimit
from platform_assets.landing.parquet_files import open_parquet

if TYPE_CHECKING:
    from pathlib import Path

FOOTER_LENGTH, MAGIC = 4, 4


def rows(file: Path) -> list[dict[str, Any]]:
    opened = open_parquet(file, "the file")
    found: list[dict[str, Any]] = pa.Table.from_batches(list(opened.batches(100)), opened.schema).to_pylist()
    return found


@pytest.mark.requirement("PLT-12")
@pytest.mark.parametrize("version", ["1.0", "2.0"])
def test_a_file_with_a_bit_flip_before_the_footer_is_refused_or_read_without_changed_values(
    tmp_path: Path, version: str
) -> None:
    count = 300
    table = pa.table(
        {
            "id": range(count),
            "other": range(count, 2 * count),
            "name": [f"client {number % 7}" for number in range(count)],
            "amount": [None if number % 5 == 0 else number * 1.5 for number in range(count)],
        }
    )
    file = tmp_path / "table.parquet"
    pq.write_table(
        table, file, row_group_size=120, data_page_size=300, data_page_version=version, write_page_checksum=True
    )
    whole, expected = file.read_bytes(), rows(file)
    footer = len(whole) - MAGIC - FOOTER_LENGTH - int.from_bytes(whole[-8:-4], "little")
    dice, refused = random.Random(1), 0
    for _ in range(300):
        damaged = bytearray(whole)
        damaged[dice.randrange(MAGIC, footer)] ^= 1 << dice.randrange(8)
        file.write_bytes(damaged)
        try:
            assert rows(file) == expected
        except SourceError:
            refused += 1
    assert refused > 100


LIMIT = SizeLimit(10_000_000, "PLATFORM_UNPACKED_MAX_BYTES")


@pytest.mark.requirement("PLT-12")
def test_a_file_whose_footer_declares_too_many_bytes_is_refused_before_it_is_read(tmp_path: Path) -> None:
    file = tmp_path / "zeros.parquet"
    zeros = pa.table({"a": np.zeros(2_000_000, np.int64)})
    pq.write_table(zeros, file, compression="zstd", use_dictionary=False, data_page_size=20_000_000)
    assert file.stat().st_size < 20_000
    with pytest.raises(SourceError, match="the file has more than 10,000,000 bytes .* PLATFORM_UNPACKED_MAX_BYTES"):
        open_parquet(file, "the file", LIMIT)
    assert open_parquet(file, "the file", SizeLimit(20_000_000, "X")).rows == 2_000_000


@pytest.mark.requirement("PLT-12")
@pytest.mark.parametrize("kind", [pa.string(), pa.binary(), pa.large_string()])
def test_dictionary_values_are_decoded_in_batches_and_a_file_above_the_size_limit_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: pa.DataType
) -> None:
    monkeypatch.setattr(parquet_files, "MOST_BATCH_BYTES", 1_000_000)
    file = tmp_path / "shared.parquet"
    texts = pa.array(["a" * 100_000, "b"], kind)
    rows = pa.DictionaryArray.from_arrays(pa.array([1, None, *[0] * 1_000]), texts)
    pq.write_table(pa.table({"name": rows.cast(kind) if kind == pa.binary() else rows, "n": range(1_002)}), file)
    assert file.stat().st_size < 50_000
    read: list[pa.RecordBatch] = []
    with pytest.raises(SourceError, match="has more than 10,000,000 bytes"):
        read.extend(open_parquet(file, "the file", LIMIT).batches(50))
    parts = [*open_parquet(file, "the file", SizeLimit(1 << 30, "X")).batches(50)]
    assert max(part.nbytes for part in [*read, *parts]) < 1_100_000
    whole = pa.Table.from_batches(parts)
    assert whole.column("n").to_pylist() == [*range(1_002)]
    assert [len(text or "") for text in whole.column("name").to_pylist()] == [1, 0, *[100_000] * 1_000]
