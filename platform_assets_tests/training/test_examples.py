"""Examples of a model: rejection of invalid ones, and stability of the holdout."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest

from platform_assets.base.errors import TrainingError
from platform_assets.evaluation.splits import split
from platform_assets_tests.training.breakage_model import SPEC, readings

if TYPE_CHECKING:
    from platform_assets_tests.training.bench import Bench


@pytest.mark.parametrize(
    ("frame", "error", "message"),
    [
        (readings().assign(broken=0), TrainingError, "0 of .* training examples are broken"),
        (readings().head(40), TrainingError, "more groups|Each fold needs both classes"),
        (readings().assign(device=1), TrainingError, "groups are held out"),
        (readings().assign(day=readings()["day"].iloc[0]), TrainingError, "a split by time needs two or more days"),
        (
            readings().drop(columns="heat"),
            TrainingError,
            "examples of somewhere/readings returns no column heat; it returns",
        ),
        (readings().drop(columns="site"), TrainingError, "returns no column site"),
        (readings().assign(reading=1), TrainingError, "1199 examples repeat the reading of another example"),
        (readings().assign(broken=2), TrainingError, "1200 examples have a broken that is neither 0 nor 1"),
        (readings().assign(broken="no"), TrainingError, "1200 examples have a broken that is neither 0 nor 1"),
        (
            readings().assign(broken=pd.array([None, *[1] * 1_199], dtype="Int64")),
            TrainingError,
            "1 examples have a broken that is neither 0 nor 1",
        ),
        (readings().assign(noise=np.inf), TrainingError, "returns infinite values of noise"),
    ],
)
def test_reject_invalid_examples(bench: Bench, frame: pd.DataFrame, error: type[Exception], message: str) -> None:
    bench.publish(frame)
    with pytest.raises(error, match=message):
        bench.train()
    assert bench.registry.versions("breakage_model") == []


@pytest.mark.requirement("PRO-2")
def test_held_out_groups_stay_held_out_when_the_table_grows() -> None:
    """A champion is never compared on groups that it was trained on."""
    old = readings()
    grown = pd.concat([old, readings(600, first=5_000).assign(day=pd.Timestamp("2024-06-01"))], ignore_index=True)
    learned = old["device"].iloc[split(old["device"], old["day"], SPEC.holdout).train]
    judged = grown["device"].iloc[split(grown["device"], grown["day"], SPEC.holdout).holdout]
    assert len(judged) > 50
    assert not set(learned) & set(judged)
