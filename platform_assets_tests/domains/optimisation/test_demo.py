"""The demo hotels are reproducible and complete, and have the same irregularities as the real hotels."""

from __future__ import annotations

import csv
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from platform_assets.domains.optimisation import demo as hotels
from platform_assets.domains.optimisation.demo import COLUMNS, generate, generate_coordinates
from platform_assets.domains.optimisation.schemas import COMPACT_TABLE

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Generator = Callable[..., Path]

BOTH = pytest.mark.parametrize(("write", "encoding"), [(generate, "cp1252"), (generate_coordinates, "utf-8")])


def lines_of(path: Path, encoding: str) -> list[list[str]]:
    with path.open(encoding=encoding, newline="") as file:
        return list(csv.reader(file))


@BOTH
def test_the_same_number_of_rows_and_seed_give_the_same_file(tmp_path: Path, write: Generator, encoding: str) -> None:
    first = write(tmp_path / "first.csv", 2_000)
    assert write(tmp_path / "again.csv", 2_000).read_bytes() == first.read_bytes()
    assert write(tmp_path / "other.csv", 2_000, seed=1).read_bytes() != first.read_bytes()
    first.read_text(encoding=encoding)


@BOTH
@pytest.mark.parametrize("rows", [1, 2, 100, 1_000])
def test_a_demo_file_has_the_requested_line_count(tmp_path: Path, write: Generator, encoding: str, rows: int) -> None:
    header, *body = lines_of(write(tmp_path / "new folder" / "hotels.csv", rows), encoding)
    assert header == list(COLUMNS)
    assert len(body) == rows


@BOTH
def test_zero_rows_are_refused(tmp_path: Path, write: Generator, encoding: str) -> None:
    with pytest.raises(ValueError, match="at least 1 is needed"):
        write(tmp_path / f"{encoding}.csv", 0)


@BOTH
def test_a_failed_write_leaves_no_file(tmp_path: Path, write: Generator, encoding: str) -> None:
    (tmp_path / encoding).mkdir()
    with pytest.raises(IsADirectoryError):
        write(tmp_path / encoding, 100)
    assert [entry.name for entry in tmp_path.iterdir()] == [encoding]


def test_a_demo_file_has_the_declared_columns() -> None:
    assert tuple(column.name for column in COMPACT_TABLE.columns[1:]) == COLUMNS


@pytest.mark.requirement("OPT-2")
def test_the_demo_hotels_have_the_irregularities_of_the_real_hotels(tmp_path: Path) -> None:
    path = generate(tmp_path / "hotels.csv", 20_000)
    with pytest.raises(UnicodeDecodeError):
        path.read_text(encoding="utf-8")
    _, *body = lines_of(path, "cp1252")
    good = [dict(zip(COLUMNS, line, strict=True)) for line in body if len(line) == len(COLUMNS)]
    assert len(body) - len(good) == 50
    assert 1_500 < len({line["ean_hotel_id"] for line in good}) <= hotels.MOST_HOTELS
    assert {line["state_province"] for line in good} == {"NY"}
    assert 0 < sum("-" in line["postal_code"] for line in good) < 0.05 * len(good)
    assert 0 < sum(not line["star_rating"] for line in good) < 0.01 * len(good)
    assert {len(line["latitude"].partition(".")[2]) for line in good} == {12}
    assert all(line["latitude"].endswith("0000000") for line in good)


@pytest.mark.requirement("OPT-1", "PLT-6")
def test_some_demo_coordinates_are_missing(tmp_path: Path) -> None:
    _, *body = lines_of(generate_coordinates(tmp_path / "speed.csv", 20_000), "utf-8")
    kinds = Counter(
        "surplus" if len(line) > len(COLUMNS) else {"": "missing", "unknown": "none"}.get(line[6], "good")
        for line in body
    )
    assert kinds == {"good": 19_900, "missing": 34, "none": 33, "surplus": 33}
