"""The identity of a reading, and the examples of the model."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pandas as pd
import pytest

from platform_assets.domains.sensor_maintenance.features import reading
from platform_assets_tests.domains.sensor_maintenance.histories import demo_history, examples_of

if TYPE_CHECKING:
    from pathlib import Path

    from platform_assets.engine.query_engine import Engine


@pytest.mark.requirement("SEN-2")
def test_the_identity_of_a_reading_is_a_digest_of_its_values(engine: Engine) -> None:
    table = engine.as_expression(
        pd.DataFrame({"row": [1, 2, 3], "sensor_1": [-0.25, 0.0, -0.0], "sensor_2": [1e6, 1 / 3, 1 / 3]})
    )
    found = table.select("row", reading=reading(table)).order_by("row").to_pyarrow()["reading"].to_pylist()
    # The hashed texts are literals, because other texts would change the holdout.
    texts = ["-250000000|1000000000000000", "0|333333333", "0|333333333"]
    assert found == [hashlib.sha256(text.encode()).hexdigest() for text in texts]


def test_examples_keep_their_ids_when_the_file_is_sorted_differently_and_grows(engine: Engine, tmp_path: Path) -> None:
    history = demo_history(tmp_path, 200)
    history = pd.concat([history, history.head(20)], ignore_index=True).assign(row=range(len(history) + 20))
    before = examples_of(engine, history)
    assert before["example"].is_unique
    assert list(before.columns) == ["sensor_1", "sensor_2", "label", "reading", "example"]
    more = history.sample(frac=1, random_state=1).assign(sensor_1=lambda rows: rows["sensor_1"] + 10)
    both = pd.concat([more, history.sample(frac=1, random_state=2)], ignore_index=True)
    after = examples_of(engine, both.assign(row=range(len(both))))
    kept = after[after["example"].isin(before["example"])].reset_index(drop=True)
    pd.testing.assert_frame_equal(kept, before)
