"""The split rules that a model can declare: splits by group and time, and stratified splits."""

from __future__ import annotations

import hashlib
from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from platform_assets.base.errors import TrainingError
from platform_assets.domains.credit_risk.model import MODEL as CREDIT
from platform_assets.domains.sentence_relevance.model import MODEL as RELEVANCE
from platform_assets.evaluation.split_rules import GroupSplit, StratifiedSplit
from platform_assets.evaluation.splits import Holdout

if TYPE_CHECKING:
    from collections.abc import Iterable

    from platform_assets.training.model_spec import ModelSpec

RULE = StratifiedSplit("reading")
# Groups of one to three rows, with labels that may contradict each other within a group.
GROUPS = st.dictionaries(st.integers(), st.lists(st.integers(0, 1), min_size=1, max_size=3), min_size=40, max_size=120)


def digest(arrays: Iterable[Any]) -> str:
    return hashlib.sha256(b"|".join(one.tobytes() for one in arrays)).hexdigest()[:16]


def examples(count: int, first: int = 0, share: float = 0.5) -> tuple[pd.DataFrame, Any]:
    """Return examples with distinct readings, and their labels."""
    random = np.random.default_rng(first)
    return pd.DataFrame({"reading": np.arange(first, first + count)}), (random.random(count) < share).astype(np.int64)


@pytest.mark.requirement("PLT-7")
@pytest.mark.parametrize(
    ("spec", "identity", "sides", "folds"),
    [
        (
            CREDIT,
            {"groups": 0.25, "newest": 0.25},
            "fc37ccc15e67e2a6",
            "d0715fb68708858d",
        ),
        (
            RELEVANCE,
            {"groups": 0.2, "newest": 0.25},
            "bc8f9ca9f733324a",
            "e16da901929f5c42",
        ),
    ],
)
def test_models_of_earlier_releases_keep_their_split_and_parameters(
    spec: ModelSpec, identity: dict[str, float], sides: str, folds: str
) -> None:
    """The expected digests were computed before models could declare a split rule."""
    random = np.random.default_rng(5)
    groups = random.integers(0, 400, 2_000)
    days = pd.Series(pd.Timestamp("2026-01-01") + pd.to_timedelta(random.integers(0, 100, 2_000), "D"))
    frame = pd.DataFrame({spec.group: groups, "loan_date": days})
    labels = np.zeros(2_000, dtype=np.int64)
    found = spec.split.split(frame, labels)
    assert digest([found.train, found.holdout]) == sides
    assert digest(side for fold in spec.split.folds(frame, labels, spec.folds) for side in fold) == folds
    # These parameters are part of the fingerprint that identifies an earlier training run.
    assert spec.split.identity == identity
    assert set(found.recorded) == {"group", "holdout_groups", "holdout_newest"}


@pytest.mark.requirement("SEN-2")
@given(groups=GROUPS, seed=st.integers(0, 9))
def test_a_stratified_split_keeps_groups_whole_and_preserves_class_shares(
    groups: dict[int, list[int]], seed: int
) -> None:
    rows = [(key, label) for key, labels in groups.items() for label in labels]
    frame, labels = pd.DataFrame({"reading": [key for key, _ in rows]}), np.array([label for _, label in rows])
    rule = StratifiedSplit("reading", share=0.25, seed=seed)
    # A group belongs to the class of most of its rows.
    of_class = Counter(2 * sum(labels) >= len(labels) for labels in groups.values())
    if min(of_class[True], of_class[False]) < 4:
        return
    found = rule.split(frame, labels)
    train, held = (set(frame["reading"].iloc[side]) for side in (found.train, found.holdout))
    assert train | held == set(groups)
    assert not train & held
    held_of_class = Counter(2 * sum(groups[key]) >= len(groups[key]) for key in held)
    assert held_of_class == {kind: round(0.25 * count) for kind, count in of_class.items()}
    folds = rule.folds(frame, labels, 4)
    assert sorted(row for _, test in folds for row in test) == list(range(len(frame)))
    for training, test in folds:
        sides = [set(frame["reading"].iloc[side]) for side in (training, test)]
        assert not sides[0] & sides[1]
        tested = Counter(2 * sum(groups[key]) >= len(groups[key]) for key in sides[1])
        assert all(abs(tested[kind] - count / 4) < 1 for kind, count in of_class.items())


@pytest.mark.requirement("SEN-2")
def test_a_stratified_split_depends_on_the_seed_and_not_on_the_order_of_rows() -> None:
    frame, labels = examples(1_500)
    found = RULE.split(frame, labels)
    order = np.random.default_rng(1).permutation(len(frame))
    again = RULE.split(frame.iloc[order].reset_index(drop=True), labels[order])
    assert sorted(order[again.holdout]) == found.holdout.tolist()
    other = StratifiedSplit("reading", seed=7).split(frame, labels)
    both = set(other.holdout) & set(found.holdout)
    # Two independent holdouts share on average a fifth of a fifth of the 1,500 rows, which is 60.
    assert len(both) == pytest.approx(60, abs=25)
    # The expected digest is a literal, because a changed split would change the test set of every model.
    assert digest([found.train, found.holdout]) == "216c3dc65e7857dd"
    assert found.recorded["holdout_seed"] == "20260101"


@pytest.mark.requirement("SEN-2")
def test_new_rows_move_few_groups_between_training_set_and_holdout() -> None:
    frame, labels = examples(1_500)
    more, more_labels = examples(150, first=1_500)
    before = RULE.split(frame, labels)
    both, both_labels = pd.concat([frame, more], ignore_index=True), np.append(labels, more_labels)
    after = RULE.split(both, both_labels)
    moved = set(before.train) & set(after.holdout) | set(before.holdout) & set(after.train)
    assert len(moved) < 15
    folds = [RULE.folds(rows, of, 4) for rows, of in ((frame, labels), (both, both_labels))]
    refolded = sum(len(set(then[1]) - set(now[1])) for then, now in zip(*folds, strict=True))
    assert refolded < 150


@pytest.mark.requirement("SEN-2", "PRO-2")
@given(groups=GROUPS, more=GROUPS)
def test_training_rows_of_a_version_are_recognised_after_the_table_has_grown(
    groups: dict[int, list[int]], more: dict[int, list[int]]
) -> None:
    def table(of: dict[int, list[int]]) -> tuple[pd.DataFrame, Any]:
        rows = [(key, label) for key, labels in of.items() for label in labels]
        return pd.DataFrame({"reading": [key for key, _ in rows]}), np.array([label for _, label in rows])

    grown = {key: groups.get(key, []) + more.get(key, []) for key in (*groups, *more)}
    try:
        then, now = RULE.split(*table(groups)), RULE.split(*table(grown))
    except TrainingError:
        return
    learned = set(table(groups)[0]["reading"].iloc[then.train])
    frame, labels = table(grown)
    held = frame["reading"][RULE.held_out(then.recorded, frame, labels)]
    assert not learned & set(held)
    # Given the same rows, `held_out` finds the version's whole holdout, except groups that have both labels.
    same, same_labels = table(groups)
    found = set(same["reading"][RULE.held_out(then.recorded, same, same_labels)])
    plain = {key for key, of in groups.items() if len(set(of)) == 1}
    assert found & plain == set(same["reading"].iloc[then.holdout]) & plain
    assert len(now.holdout)


@pytest.mark.parametrize(
    "recorded",
    [
        {},
        {"group": "reading", "holdout_groups": "0.2"},
        {**RULE.split(*examples(100)).recorded, "group": "device"},
        StratifiedSplit("reading", seed=1).split(*examples(100)).recorded,
    ],
)
def test_a_version_trained_with_another_split_cannot_be_compared(recorded: dict[str, str]) -> None:
    with pytest.raises(TrainingError, match="it may have been trained on held-out examples"):
        RULE.held_out(recorded, *examples(100))


def test_a_group_split_recognises_its_own_holdout() -> None:
    rule = GroupSplit("reading", holdout=Holdout(groups=0.3))
    frame, labels = examples(200)
    found = rule.split(frame, labels)
    assert np.flatnonzero(rule.held_out(found.recorded, frame, labels)).tolist() == found.holdout.tolist()


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda: StratifiedSplit("reading", share=0), "StratifiedSplit.share is 0; it must be a share above 0"),
        (lambda: StratifiedSplit("reading", share=1.0), "StratifiedSplit.share is 1"),
        (lambda: RULE.split(*examples(100, share=0.0)), "0 of 0 groups of class 1 would be held out"),
        (lambda: RULE.split(*examples(4)), "load data with more groups of each class"),
        (lambda: RULE.folds(*examples(100), 1), "the number of folds is 1; it must be 2 or more"),
        (lambda: RULE.folds(*examples(100, share=0.02), 4), "groups for 4 folds; load more data"),
        (lambda: RULE.split(pd.DataFrame({"reading": [None, "a"]}), np.array([0, 1])), "1 of 2 rows have no group"),
    ],
)
def test_an_impossible_split_is_refused(call: Any, told: str) -> None:
    with pytest.raises(TrainingError) as error:
        call()
    assert told in str(error.value)
