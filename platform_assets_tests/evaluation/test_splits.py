"""Splits by group and time: keys, holdout membership, cut dates and folds."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from uuid import UUID

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from platform_assets.base.errors import TrainingError
from platform_assets.evaluation.splits import Holdout, folds, group_keys, in_holdout, split

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

FIRST = dt.date(2020, 1, 1)
KEYS = st.one_of(st.integers(-(2**70), 2**70), st.text(max_size=8))
NUMBERS_HELD_OUT = [5000002, 5000017, 5000026, 5000031, 5000033]
WORDS_HELD_OUT = ["alpha", "beta", "é", "device-1"]
NUMBERS_HELD_OUT_BY_ANOTHER_SALT = [5000000, 5000011, 5000014, 5000015, 5000019, 5000020, 5000022, 5000024]
GROUPS_BY_FOLD = [
    [5000000, 5000007, 5000010, 5000011],
    [5000001, 5000002, 5000004, 5000005, 5000006],
    [5000003, 5000008, 5000009],
]
ROWS = st.lists(st.tuples(st.integers(0, 200), st.integers(0, 60)), min_size=1, max_size=120)


def days(*offsets: int) -> Any:
    return [FIRST + dt.timedelta(offset) for offset in offsets]


def loans(rows: int, groups: int, seed: int = 0) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return random groups, and random times within two years."""
    random = np.random.default_rng(seed)
    times = np.datetime64("2019-01-01") + random.integers(0, 730, rows).astype("timedelta64[D]")
    return random.integers(0, groups, rows), times


# Groups


@pytest.mark.parametrize(
    ("groups", "keys", "codes"),
    [
        pytest.param([2, 10, 2], ["10", "2"], [1, 0, 1], id="integers"),
        pytest.param(
            [dt.date(2020, 1, 2), pd.Timestamp("2020-01-02")], ["2020-01-02"], [0, 0], id="one date in two types"
        ),
        pytest.param(
            [7, 7.0, "7", np.int64(7), np.float32(7), Decimal(7)], ["7"], [0] * 6, id="one integer in six types"
        ),
        pytest.param(np.array([1.0, 2.0]), ["1", "2"], [0, 1], id="integers that pandas turned into floats"),
        pytest.param([True, 1, False], ["0", "1"], [1, 1, 0], id="booleans are integers, boolean first"),
        pytest.param([1, True, False], ["0", "1"], [1, 1, 0], id="booleans are integers, integer first"),
        pytest.param([2**70, -1, -0.0], ["-1", "0", str(2**70)], [2, 0, 1], id="large, negative, zero"),
        pytest.param(["b", "a", "", "nan"], ["", "a", "b", "nan"], [2, 1, 0, 3], id="text"),
        pytest.param(pd.Series(["é", "e"], index=[5, 3]), ["e", "é"], [1, 0], id="a series with another index"),
        pytest.param([], [], [], id="no rows"),
    ],
)
def test_group_keys_are_sorted_strings(groups: Any, keys: list[str], codes: list[int]) -> None:
    found, texts = group_keys(groups)
    assert (texts, found.tolist()) == (keys, codes)
    assert found.dtype == np.int64


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ([1, None], "1 of 2 rows have no group"),
        (["a", float("nan"), None], "2 of 3 rows have no group"),
        (np.array([1.0, np.nan]), "1 of 2 rows have no group"),
        ([pd.NA, "a"], "1 of 2 rows have no group"),
        ([1.5], "the group 1.5 is neither text, an integer nor a date"),
        ([float("inf")], "the group inf is neither text, an integer nor a date"),
        ([1j], "the group 1j is neither text, an integer nor a date"),
        ([dt.datetime(2020, 1, 1, 12)], "is neither text, an integer nor a date; convert the column to text"),
        ([UUID(int=1)], "is neither text, an integer nor a date"),
    ],
)
def test_missing_groups_and_groups_that_have_no_stable_text_form_are_rejected(groups: Any, message: str) -> None:
    with pytest.raises(TrainingError) as error:
        in_holdout(groups, 0.5)
    assert message in str(error.value)


# Holdout membership


@pytest.mark.requirement("PLT-7")
def test_the_hash_of_a_group_never_changes() -> None:
    # The expected groups are literals, because a changed hash would move clients from the holdout into the training
    # set.
    numbers = np.arange(5_000_000, 5_000_040)
    assert numbers[in_holdout(numbers, 0.2)].tolist() == NUMBERS_HELD_OUT
    words = ["alpha", "beta", "é", "", "7", "-1", "device-1", "device-2", "device-3", "device-4"]
    assert [word for word, held in zip(words, in_holdout(words, 0.5), strict=True) if held] == WORDS_HELD_OUT
    assert numbers[in_holdout(numbers, 0.2, "other")].tolist() == NUMBERS_HELD_OUT_BY_ANOTHER_SALT


@given(st.lists(KEYS, min_size=1, max_size=40), st.randoms(use_true_random=False), st.floats(0, 1))
def test_holdout_membership_depends_only_on_the_group(groups: list[Any], random: Any, share: float) -> None:
    alone = [bool(in_holdout([group], share)[0]) for group in groups]
    assert in_holdout(groups, share).tolist() == alone
    order = random.choices(range(len(groups)), k=2 * len(groups))
    assert in_holdout([groups[place] for place in order], share).tolist() == [alone[place] for place in order]


@given(st.lists(KEYS, min_size=1, max_size=40), st.floats(0, 1), st.floats(0, 1))
def test_a_larger_share_holds_out_the_same_groups_and_possibly_more(
    groups: list[Any], one: float, other: float
) -> None:
    assert not (in_holdout(groups, min(one, other)) & ~in_holdout(groups, max(one, other))).any()


@given(st.lists(KEYS, min_size=1))
def test_a_share_of_0_holds_out_no_group_and_a_share_of_1_all_groups(groups: list[Any]) -> None:
    assert in_holdout(groups, 1).all()
    assert not in_holdout(groups, 0).any()


@pytest.mark.parametrize("share", [0.05, 0.2, 0.5])
def test_the_share_of_held_out_groups_is_about_the_requested_share(share: float) -> None:
    held_out = in_holdout(np.arange(20_000), share)
    assert held_out.mean() == pytest.approx(share, abs=0.01)
    # Another salt holds out an independent set of groups.
    assert (held_out & in_holdout(np.arange(20_000), share, "other")).mean() == pytest.approx(share**2, abs=0.01)


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda: in_holdout([1], 1.1), "the share of groups is 1.1; it must be between 0 and 1"),
        (lambda: in_holdout([1], -0.1), "the share of groups is -0.1"),
        (lambda: in_holdout([1], float("nan")), "the share of groups is nan"),
        (lambda: Holdout(groups=0), "Holdout.groups is 0; it must be a share above 0 and below 1"),
        (lambda: Holdout(newest=1), "Holdout.newest is 1; it must be a share above 0 and below 1"),
        (lambda: folds([1, 2], None, 1, 0.25), "the number of folds is 1; it must be 2 or more"),
    ],
)
def test_shares_and_fold_counts_out_of_range_are_rejected(act: Callable[[], Any], message: str) -> None:
    with pytest.raises(TrainingError) as error:
        act()
    assert message in str(error.value)


# Split


def test_the_split_of_a_worked_example_is_correct() -> None:
    held, other = NUMBERS_HELD_OUT[0], 5_000_000
    assert not in_holdout([other], 0.2)[0]
    groups = [held, other, held, other, held, other, held, other]
    found = split(groups, days(0, 0, 1, 1, 2, 2, 3, 3), Holdout(0.2, 0.25))
    assert (found.train.tolist(), found.holdout.tolist(), found.left_out) == ([1, 3, 5], [6], 4)
    assert found.cut == pd.Timestamp(2020, 1, 4)
    plain = split(groups, None, Holdout(0.2, 0.25))
    assert (plain.train.tolist(), plain.holdout.tolist()) == ([1, 3, 5, 7], [0, 2, 4, 6])
    assert (plain.left_out, plain.cut) == (0, None)
    assert {side.dtype for side in (found.train, found.holdout, plain.train)} == {np.dtype(np.int64)}


@pytest.mark.parametrize(
    ("offsets", "newest", "cut"),
    [
        pytest.param([0, 1, 2, 3], 0.25, 3, id="exact"),
        pytest.param([0, 1, 2, 3], 0.3, 3, id="nearest is below"),
        pytest.param([0, 1, 2, 3], 0.45, 2, id="nearest is above"),
        pytest.param([0, 1, 2, 3], 0.375, 3, id="the later day of a tie"),
        pytest.param([0, 1, 1, 1], 0.1, 1, id="most rows on one day"),
        pytest.param([0, 0, 0, 1], 0.9, 1, id="never the first day"),
        pytest.param([0, 1, 2, 30_000], 0.5, 2, id="late outlier"),
        pytest.param([-40_000, 1, 2, 3], 0.5, 2, id="early outlier"),
    ],
)
def test_the_share_of_rows_on_or_after_the_cut_date_is_nearest_to_the_requested_share(
    offsets: list[int], newest: float, cut: int
) -> None:
    held, other = NUMBERS_HELD_OUT[0], 5_000_000
    groups = [held, other] * len(offsets)
    found = split(groups, np.repeat(np.array(days(*offsets)), 2), Holdout(0.2, newest))
    assert found.cut == pd.Timestamp(FIRST) + pd.Timedelta(days=cut)


@pytest.mark.parametrize(
    "times",
    [
        pytest.param(
            [dt.datetime(2020, 1, day, 23, 59) for day in (1, 2, 3, 4)],
            id="times of one day are on one side of the cut",
        ),
        pytest.param([dt.datetime(2020, 1, day, tzinfo=dt.UTC) for day in (1, 2, 3, 4)], id="with a time zone"),
        pytest.param(np.array(days(0, 1, 2, 3), dtype="datetime64[D]"), id="NumPy days"),
        pytest.param(pd.Series(pd.to_datetime(days(0, 1, 2, 3)), index=[9, 8, 7, 6]), id="a series with another index"),
    ],
)
def test_split_accepts_dates_and_timestamps(times: Any) -> None:
    held, other = NUMBERS_HELD_OUT[0], 5_000_000
    found = split([other, other, held, held], times, Holdout(0.2, 0.25))
    assert (found.train.tolist(), found.holdout.tolist(), found.left_out) == ([0, 1], [3], 1)
    assert found.cut is not None
    assert f"{found.cut:%Y-%m-%d %H:%M}" == "2020-01-04 00:00"


def test_training_set_and_holdout_have_about_the_requested_sizes() -> None:
    groups, times = loans(20_000, 2_000)
    found = split(groups, times, Holdout())
    assert len(found.holdout) / 20_000 == pytest.approx(0.2 * 0.25, abs=0.01)
    assert len(found.train) / 20_000 == pytest.approx(0.8 * 0.75, abs=0.02)
    assert len(found.train) + len(found.holdout) + found.left_out == 20_000


@given(ROWS, st.floats(0.05, 0.95), st.floats(0.05, 0.95), st.booleans(), st.randoms(use_true_random=False))
def test_a_split_separates_groups_and_times_for_any_rows(
    rows: list[tuple[int, int]], share: float, newest: float, timed: bool, random: Any
) -> None:
    def of(some: list[tuple[int, int]]) -> tuple[set[tuple[int, int]], set[tuple[int, int]], Any]:
        times = days(*(day for _, day in some)) if timed else None
        found = split([group for group, _ in some], times, Holdout(share, newest))
        train, held = ([some[place] for place in side] for side in (found.train, found.holdout))
        assert len(train) + len(held) + found.left_out == len(some)
        return set(train), set(held), found.cut

    try:
        train, held, cut = of(rows)
    except TrainingError:
        assume(False)
        raise
    assert not {group for group, _ in train} & {group for group, _ in held}
    if timed:
        day_of_cut = (cut.date() - FIRST).days
        assert all(day < day_of_cut for _, day in train)
        assert all(day >= day_of_cut for _, day in held)
    else:
        assert len(train | held) == len(set(rows))
    assert of(random.sample(rows, len(rows))) == (train, held, cut)


@given(ROWS, ROWS)
def test_later_rows_never_move_a_group_from_the_holdout_to_training(
    rows: list[tuple[int, int]], more: list[tuple[int, int]]
) -> None:
    later = [*rows, *((group, day + 61) for group, day in more)]
    try:
        before, after = (
            split([group for group, _ in some], days(*(day for _, day in some)), Holdout(0.3, 0.4))
            for some in (rows, later)
        )
    except TrainingError:
        assume(False)
        raise
    assert not {rows[place][0] for place in before.holdout} & {later[place][0] for place in after.train}
    assert before.cut is not None
    assert after.cut is not None
    assert after.cut >= before.cut


@pytest.mark.parametrize(
    ("groups", "times", "message"),
    [
        ([], None, "there are no rows to split"),
        ([5_000_000], None, "none of the groups are held out at a share of 0.2; load data with more groups"),
        (["held"], None, "all of the groups are held out at a share of 0.2"),
        (["held", 5_000_000], days(0, 1), "the holdout has no rows on or after 2020-01-02"),
        ([5_000_000, "held"], days(1, 1), "all rows are from one day; a split by time needs two or more days"),
        (["held", 5_000_000, "held"], days(0, 1, 1), "there are no rows outside the holdout before 2020-01-02"),
        (["held", 5_000_000], [*days(0), None], "1 of 2 rows have no time"),
        (["held", 5_000_000], days(0), "there are 1 times for 2 rows"),
        (["held", 5_000_000], [1, 2], "the times have type int64; convert the column to dates or timestamps"),
        (
            ["held", 5_000_000],
            ["2020-01-02", "01/02/2020"],
            "the times have type str; convert the column to dates or timestamps",
        ),
        (
            ["held", 5_000_000],
            [dt.datetime(2020, 1, 1), dt.datetime(2020, 1, 1, tzinfo=dt.UTC)],
            "the times cannot be read as dates, or as timestamps in one time zone; convert the column to one of these",
        ),
    ],
)
def test_rows_that_cannot_be_split_are_rejected(groups: list[Any], times: Any, message: str) -> None:
    named = [NUMBERS_HELD_OUT[0] if group == "held" else group for group in groups]
    with pytest.raises(TrainingError) as error:
        split(named, times, Holdout(0.2, 0.25))
    assert message in str(error.value)


# Folds


@given(ROWS, st.integers(2, 4), st.booleans(), st.randoms(use_true_random=False))
def test_folds_separate_groups_and_times_for_any_rows(
    rows: list[tuple[int, int]], count: int, timed: bool, random: Any
) -> None:
    groups, times = [group for group, _ in rows], days(*(day for _, day in rows)) if timed else None
    try:
        found = folds(groups, times, count, 0.4)
    except TrainingError:
        assume(False)
        raise
    assert len(found) == count
    tested = [place for _, test in found for place in test]
    assert len(tested) == len(set(tested))
    for train, test in found:
        assert not {groups[place] for place in train} & {groups[place] for place in test}
        if timed:
            assert max(rows[place][1] for place in train) < min(rows[place][1] for place in test)
    if not timed:
        assert sorted(tested) == list(range(len(rows)))
    order = random.sample(range(len(rows)), len(rows))
    again = folds([groups[place] for place in order], times and [times[place] for place in order], count, 0.4)
    assert [sorted(order[place] for place in test) for _, test in again] == [test.tolist() for _, test in found]


def test_the_fold_of_a_group_never_changes() -> None:
    groups = np.arange(5_000_000, 5_000_012)
    of_few = [groups[test].tolist() for _, test in folds(groups, None, 3, 0.25)]
    assert of_few == GROUPS_BY_FOLD
    more = np.arange(5_000_000, 5_003_000)
    of_many = [set(more[test].tolist()) for _, test in folds(more, None, 3, 0.25)]
    assert all(set(few) <= many for few, many in zip(of_few, of_many, strict=True))
    assert [len(many) for many in of_many] == pytest.approx([1000] * 3, abs=80)


@pytest.mark.parametrize(("newest", "first_test_day"), [(0.25, 3), (0.5, 2), (0.75, 1)])
def test_folds_are_cut_at_the_requested_share_of_rows(newest: float, first_test_day: int) -> None:
    groups = [group for fold in GROUPS_BY_FOLD for group in fold]
    found = folds(np.repeat(groups, 4), days(*[0, 1, 2, 3] * len(groups)), 3, newest)
    assert [sorted(set(test % 4)) for _, test in found] == [list(range(first_test_day, 4))] * 3
    assert [sorted(set(train % 4)) for train, _ in found] == [list(range(first_test_day))] * 3


def test_folds_are_independent_of_the_holdout() -> None:
    groups = np.arange(6_000)
    learned = groups[~in_holdout(groups, 0.5)]
    assert [len(test) for _, test in folds(learned, None, 3, 0.25)] == pytest.approx([1000] * 3, abs=100)


def test_a_fold_without_test_rows_is_rejected() -> None:
    with pytest.raises(TrainingError, match="^fold 2 of 3 has no rows; load data with more groups$"):
        folds([GROUPS_BY_FOLD[0][0], GROUPS_BY_FOLD[2][0]], None, 3, 0.25)
