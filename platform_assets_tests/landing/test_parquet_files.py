"""Damaged parquet files: with page checksums, no altered value is read."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from platform_assets.base.errors import SourceError
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
def test_a_flipped_bit_before_the_footer_changes_no_value(tmp_path: Path, version: str) -> None:
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
