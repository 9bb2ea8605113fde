"""Kill a run of a landing zone between any two steps. No row is lost, and no row is stored twice."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from platform_assets_tests.landing import killed_landing

if TYPE_CHECKING:
    from pathlib import Path

    from platform_assets_tests.warm import WarmParent


@pytest.mark.slow
@pytest.mark.requirement("SEN-1", "PLT-12")
def test_the_next_run_completes_a_landing_that_was_killed_at_any_call(
    warm: WarmParent, database_url: str, tmp_path: Path
) -> None:
    with warm.start(killed_landing.main, database_url, tmp_path) as process:
        lines = [line.rstrip().split(" ", 2) for line in process.stdout]
        assert process.wait() == 0
    assert [line for line in lines if line[-1] != "consistent"] == []
    kills = [how for _, how, _ in lines]
    assert kills == ["killed"] * (len(kills) - 1) + ["completed"]
    assert len(kills) > 18
