"""Examples of a model: rejection of invalid examples, and stability of the holdout."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest

from platform_assets.base.errors import TableError, TrainingError
from platform_assets.evaluation.split_rules import GroupSplit
from platform_assets.training.examples import read_examples, split_summary
from platform_assets.training.fitting import labels_of
from platform_assets_tests.training.breakage_model import SPEC, TABLE, readings

if TYPE_CHECKING:
    from platform_assets_tests.training.bench import Bench


@pytest.mark.parametrize(
    ("frame", "error", "message"),
    [
        (readings().assign(broken=0), TrainingError, "0 of .* training examples are broken"),
        (readings().head(40), TrainingError, "more groups|each fold needs both classes"),
        (readings().assign(device=1), TrainingError, "groups are held out"),
        (readings().assign(day=readings()["day"].iloc[0]), TrainingError, "a split by time needs two or more days"),
        (
            readings().drop(columns="heat"),
            TrainingError,
            "examples of somewhere/readings does not return these columns: 'heat'. It returns",
        ),
        (readings().drop(columns="site"), TrainingError, "does not return these columns: 'site'"),
        (readings().drop(columns="day"), TrainingError, "does not return these columns: 'day'"),
        (readings().assign(reading=1), TrainingError, "1199 examples have the same reading as another example"),
        (readings().assign(broken=2), TrainingError, "in 1200 examples, broken is neither 0 nor 1"),
        (readings().assign(broken="no"), TrainingError, "in 1200 examples, broken is neither 0 nor 1"),
        (
            readings().assign(broken=pd.array([None, *[1] * 1_199], dtype="Int64")),
            TrainingError,
            "in 1 examples, broken is neither 0 nor 1",
        ),
        (readings().assign(noise=np.inf), TrainingError, "returns infinite values of noise"),
    ],
)
def test_invalid_examples_are_refused(bench: Bench, frame: pd.DataFrame, error: type[Exception], message: str) -> None:
    bench.publish(frame)
    with pytest.raises(error, match=message):
        bench.train()
    assert bench.registry.versions("breakage_model") == []


@pytest.mark.requirement("PRO-2")
def test_held_out_groups_stay_held_out_when_the_table_grows() -> None:
    """Otherwise, a champion could be evaluated on groups that it was trained on."""
    old = readings()
    grown = pd.concat([old, readings(600, first=5_000).assign(day=pd.Timestamp("2024-06-01"))], ignore_index=True)
    learned = old["device"].iloc[SPEC.split.split(old, labels_of(SPEC, old)).train]
    judged = grown["device"].iloc[SPEC.split.split(grown, labels_of(SPEC, grown)).holdout]
    assert len(judged) > 50
    assert not set(learned) & set(judged)


def test_examples_are_split_by_time_only_if_the_split_has_a_time_column(bench: Bench) -> None:
    timed, timeless = (
        read_examples(bench.tables, SPEC),
        read_examples(bench.tables, replace(SPEC, split=GroupSplit("device"))),
    )
    assert timed.frame["day"].iloc[timed.parts.train].max() < timed.parts.cut <= timed.holdout["day"].min()
    assert (timeless.parts.cut, timeless.parts.left_out) == (None, 0)
    sizes = [f"{len(one.training):,} training examples; {len(one.holdout):,} held out" for one in (timed, timeless)]
    assert [split_summary(SPEC, one) for one in (timed, timeless)] == [
        f"{sizes[0]} (other values of device, from {timed.parts.cut:%Y-%m-%d} on); {timed.parts.left_out:,} left out",
        f"{sizes[1]} (other values of device); 0 left out",
    ]


def test_examples_can_be_read_from_recorded_table_versions(bench: Bench) -> None:
    bench.publish(readings(800))
    assert [len(read_examples(bench.tables, SPEC, {TABLE: number}).frame) for number in (0, 1)] == [1_200, 800]
    with pytest.raises(TableError, match="table somewhere/readings has no version 2; it was vacuumed"):
        read_examples(bench.tables, SPEC, {TABLE: 2})
