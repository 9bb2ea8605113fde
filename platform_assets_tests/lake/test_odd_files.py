"""Land unusual files. The outcome is the exact rows, the rows without the quarantined lines, or a refusal of the file.

`make fuzz` lands thousands of such files.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from platform_assets.engine.query_engine import Engine
from platform_assets_tests.lake.fuzz import EXACT, QUARANTINED, REFUSED, outcomes
from platform_assets_tests.lake.odd_files import odd_file

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SEEDS = 300


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    engine = Engine(tmp_path_factory.mktemp("scratch"), "300MB", 1)
    yield engine
    engine.close()


@pytest.mark.requirement("PLT-12")
def test_no_value_is_changed_and_no_row_is_lost(engine: Engine, tmp_path: Path) -> None:
    counts, wrong = outcomes(range(SEEDS), engine, tmp_path)
    assert wrong == []
    assert set(counts) == {EXACT, QUARANTINED, REFUSED}


def test_the_same_seed_gives_the_same_file(tmp_path: Path) -> None:
    assert [odd_file(seed, tmp_path).content for seed in range(20)] == [
        odd_file(seed, tmp_path).content for seed in range(20)
    ]


def test_the_expected_rows_include_stray_quotes_at_the_end_of_a_field(tmp_path: Path) -> None:
    texts = {row[name] for seed in range(SEEDS) for row in odd_file(seed, tmp_path).rows for name in ("name", "note")}
    assert any(text and re.fullmatch(r'Inn \d+"', text) for text in texts)
