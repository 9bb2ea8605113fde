"""Splits of a time series by blocks: the holdout, expanding windows, and rows after a version's training period."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from platform_assets.base.errors import TrainingError
from platform_assets.evaluation.split_rules import StratifiedSplit
from platform_assets.evaluation.time_split import TimeSplit

RULE = TimeSplit("at", "day")


def series(days: int = 10, **columns: Any) -> pd.DataFrame:
    at = pd.date_range("2024-03-25", periods=24 * days, freq="h", tz="UTC")
    local = at.tz_convert("Europe/Madrid")
    return pd.DataFrame({"at": at, "day": local.date, "value": np.arange(24.0 * days), **columns})


def labels(frame: pd.DataFrame) -> Any:
    return frame["value"].to_numpy()


@pytest.mark.requirement("ESI-7")
def test_the_newest_whole_days_are_held_out() -> None:
    frame = series()
    found = RULE.split(frame, labels(frame))
    days = frame["day"]
    assert set(days.iloc[found.train]) & set(days.iloc[found.holdout]) == set()
    assert frame["at"].iloc[found.train].max() < frame["at"].iloc[found.holdout].min()
    # The 240 hours in UTC belong to 11 local days, of which the newest fifth is two days.
    assert days.iloc[found.holdout].nunique() == 2
    assert found.left_out == 0
    assert found.recorded["holdout_from"] == "2024-04-02T22:00:00+00:00"


@pytest.mark.requirement("ESI-7")
@given(st.integers(6, 40), st.integers(2, 5), st.integers(0, 2), st.randoms())
def test_each_fold_is_trained_on_earlier_blocks_only(days: int, count: int, gap: int, random: Any) -> None:
    frame = series(days).sample(frac=1, random_state=random.randrange(2**31)).reset_index(drop=True)
    rule = TimeSplit("at", "day", gap=gap)
    try:
        folds = rule.folds(frame, labels(frame), count)
    except TrainingError as error:
        assert "are too few for" in str(error)  # noqa: PT017 - both outcomes are right
        return
    blocks = {day: place for place, day in enumerate(sorted(set(frame["day"])))}
    place = frame["day"].map(blocks).to_numpy()
    sizes = [len(training) for training, _ in folds]
    assert sizes == sorted(sizes)
    tested = np.concatenate([judging for _, judging in folds])
    assert len(set(tested.tolist())) == len(tested)
    for training, judging in folds:
        assert place[training].max() + gap < place[judging].min()
        assert set(training.tolist()) == set(np.flatnonzero(place < place[judging].min() - gap).tolist())


def test_each_test_window_has_the_declared_length() -> None:
    frame = series(12)
    folds = TimeSplit("at", "day", window=2).folds(frame, labels(frame), 3)
    assert [frame["day"].iloc[judging].nunique() for _, judging in folds] == [2, 2, 2]


@pytest.mark.requirement("ESI-7", "PRO-2")
def test_rows_after_the_training_period_of_a_version_count_as_held_out() -> None:
    old = series(10)
    recorded = RULE.split(old, labels(old)).recorded
    new = series(14)
    found = RULE.held_out(recorded, new, labels(new))
    assert new["at"][found].min() == pd.Timestamp("2024-04-02T22:00:00Z")
    assert found.sum() == (new["at"] >= "2024-04-02T22:00:00Z").sum()
    for other, said in (
        ({"group": "day"}, "were not split by at"),
        ({**recorded, "holdout_from": "2024-04-02T22:00:00"}, "is now in the time zone UTC"),
        ({**recorded, "holdout_from": "2030-01-01T00:00:00+00:00"}, r"no examples since its holdout began \(2030"),
    ):
        with pytest.raises(TrainingError, match=said):
            RULE.held_out(other, new, labels(new))


@pytest.mark.parametrize(
    ("frame", "said"),
    [
        (series(1, day="a"), "day has 1 values, which are too few to hold out 1"),
        (series(3).assign(day=["a", "b"] * 36), "blocks must not overlap in at"),
        (series(3).assign(at="2024-01-01"), "the times have type str; convert the column to dates or timestamps"),
        (series(3).assign(at=pd.Series([pd.NaT] * 72)), "72 of 72 rows have no time"),
    ],
)
def test_rows_that_cannot_be_split_are_rejected(frame: pd.DataFrame, said: str) -> None:
    with pytest.raises(TrainingError, match=said):
        RULE.split(frame, labels(frame))


def test_parameters_out_of_range_and_stratified_splits_of_continuous_labels_are_rejected() -> None:
    with pytest.raises(TrainingError, match=r"TimeSplit.newest is 1; it must be"):
        TimeSplit("at", "day", newest=1.0)
    with pytest.raises(TrainingError, match=r"TimeSplit\.gap is -1 and TimeSplit\.window is None; the gap must be"):
        TimeSplit("at", "day", gap=-1)
    frame = series()
    with pytest.raises(TrainingError, match="StratifiedSplit needs the labels 0 and 1; use GroupSplit or TimeSplit"):
        StratifiedSplit("day").split(frame, labels(frame))
