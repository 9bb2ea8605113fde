"""Tests of which sentences are used for training, and of the reasons why the others are excluded."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from platform_assets.domains.sentence_relevance.features import counts, label, topic
from platform_assets.domains.sentence_relevance.schemas import (
    CANNOT_DECIDE,
    CONFLICTING,
    LABELS,
    NO_WORDS,
    NOT_RELEVANT,
    RELEVANT,
    REPEAT,
    SENTENCES,
    UNDECIDED,
)

if TYPE_CHECKING:
    from platform_assets.base.frames import Frame

pytestmark = pytest.mark.requirement("REL-2")

YES, NO, MAYBE = RELEVANT, NOT_RELEVANT, CANNOT_DECIDE
drawn = st.lists(
    st.tuples(st.sampled_from(["a fire", "A FIRE!", "a flood in the north", "@x", "???é"]), st.sampled_from([*LABELS])),
    min_size=1,
    max_size=12,
)


def archived(*rows: tuple[str, str], first: int = 0) -> Frame:
    return pd.DataFrame(
        {
            "index": range(first, first + len(rows)),
            "text": [text for text, _ in rows],
            "choose_one": [chosen for _, chosen in rows],
            "class_label": [LABELS[chosen] for _, chosen in rows],
        }
    )


def became(*rows: tuple[str, str]) -> list[int | str]:
    """Return one entry per sentence: its label (1 or 0) if it is used for training, else why it is excluded."""
    found = label(archived(*rows))
    assert (found["relevant"].isna() == found["set_aside"].notna()).all()
    return [
        reason if isinstance(reason, str) else int(relevant)
        for relevant, reason in zip(found["relevant"], found["set_aside"], strict=True)
    ]


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([("a fire", YES), ("a song", NO)], [1, 0]),
        ([("a fire", MAYBE)], [UNDECIDED]),
        # If sentences have the same words and the same label, only the first one is used.
        ([("a fire", YES), ("a fire", YES), ("A  Fire! http://t.co/x", YES)], [1, REPEAT, REPEAT]),
        ([("a song", NO), ("b", YES), ("a song ", NO)], [0, 1, REPEAT]),
        # If sentences have the same words but different labels, none of them is used.
        ([("a fire", YES), ("a fire", NO)], [CONFLICTING] * 2),
        ([("a fire", YES), ("a fire", YES), ("@me a FIRE", NO)], [CONFLICTING] * 3),
        # Undecided sentences are ignored when conflicts and repeats are determined.
        ([("a fire", MAYBE), ("a fire", YES), ("a fire", YES)], [UNDECIDED, 1, REPEAT]),
        ([("a fire", YES), ("a fire", NO), ("a fire", MAYBE)], [CONFLICTING, CONFLICTING, UNDECIDED]),
        ([("a fire", MAYBE), ("a fire", MAYBE)], [UNDECIDED] * 2),
        # Sentences without words after cleaning are not treated as equal.
        ([("http://t.co/x", YES), ("@me", NO), ("!?", MAYBE), ("消防", YES)], [NO_WORDS] * 4),
    ],
)
def test_each_sentence_is_used_or_excluded_with_a_reason(
    rows: list[tuple[str, str]], expected: list[int | str]
) -> None:
    assert became(*rows) == expected


@settings(max_examples=40)
@given(drawn)
def test_equal_sentences_are_used_only_once_and_never_if_their_labels_differ(rows: list[tuple[str, str]]) -> None:
    found = label(archived(*rows))
    assert list(found.columns) == [column.name for column in SENTENCES.columns]
    for _, same in found.groupby("near_duplicates"):
        learned = same[same["set_aside"].isna()]
        decided = same[~same["set_aside"].isin([UNDECIDED, NO_WORDS])]
        assert len(learned) == (len(decided) > 0 and decided["label"].nunique() == 1)
        assert learned["sentence_id"].tolist() == decided["sentence_id"].tolist()[: len(learned)]
    told = counts(found)
    aside = sum(rows for name, rows in told.items() if name.startswith("set_aside_"))
    assert told["learned_from"] + aside == len(rows)


def test_the_result_does_not_depend_on_the_order_of_rows() -> None:
    rows = archived(("a fire", YES), ("a song", NO), ("a fire", NO), ("a song", NO), ("so so", MAYBE))
    pd.testing.assert_frame_equal(label(rows.iloc[::-1]), label(rows))


def test_a_labelled_row_has_all_columns() -> None:
    found = label(archived(("A fire, NOW! @me", YES), ("  ", NO), first=1_999))
    first, second = found.astype(object).where(found.notna(), None).to_dict("records")
    assert first == {
        "sentence_id": 1_999,
        "text": "A fire, NOW! @me",
        "label": RELEVANT,
        "relevant": 1,
        "set_aside": None,
        "near_duplicates": first["near_duplicates"],
        "words": 3,
        "topic": "1000 to 1999",
    }
    assert second == first | {
        "sentence_id": 2_000,
        "text": "  ",
        "label": NOT_RELEVANT,
        "relevant": None,
        "set_aside": NO_WORDS,
        "near_duplicates": second["near_duplicates"],
        "words": 0,
        "topic": "2000 to 2999",
    }


def test_near_duplicates_share_a_key_even_if_they_are_excluded_from_training() -> None:
    story = "officials say a home in the north was quarantined"
    found = label(archived((story, YES), (f"BREAKING: {story}", NO), (f"{story} via @me", MAYBE), ("a song", NO)))
    keys = found["near_duplicates"].tolist()
    assert keys[0] == keys[1] == keys[2] != keys[3]
    assert counts(found) == {
        "learned_from": 3,
        "relevant": 1,
        "set_aside_undecided": 1,
        "set_aside_conflicting_labels": 0,
        "set_aside_repeat": 0,
        "set_aside_no_words": 0,
        "groups_of_near_duplicates": 1,
        "rows_in_these_groups": 2,
        "largest_group": 2,
    }


def test_new_sentences_do_not_change_the_keys_of_existing_groups() -> None:
    story = "officials say a home in the north was quarantined"
    before = label(archived((f"news {story}", YES), ("a song", NO)))
    after = label(archived((f"news {story}", YES), ("a song", NO), (story, YES), ("another song of hers", NO)))
    assert after["near_duplicates"].tolist()[:2] == before["near_duplicates"].tolist()
    assert after["near_duplicates"][2] == before["near_duplicates"][0]


@pytest.mark.parametrize(("index", "expected"), [(0, "0 to 999"), (999, "0 to 999"), (9_281, "9000 to 9999")])
def test_a_topic_is_a_range_of_a_thousand_row_numbers(index: int, expected: str) -> None:
    assert topic(index) == expected
