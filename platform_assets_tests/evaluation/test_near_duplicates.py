"""Groups of near-duplicates: agreement with brute force, the similarity rule, and stable keys."""

from __future__ import annotations

from fractions import Fraction
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from platform_assets.evaluation.near_duplicates import AT_LEAST, _connected, _incidence, near_duplicates, shingles

pytestmark = pytest.mark.requirement("REL-2")

HEADLINE = "officials say a home in the north was quarantined"
words = st.sampled_from(["a", "fire", "in", "the", "north", "0", "é"])
texts = st.lists(st.lists(words, max_size=6).map(" ".join), max_size=14)
# Each of these texts is similar only to the next one, so a text can merge the groups of its neighbours. Random texts
# hardly ever do.
CHAIN = [" ".join("abcdefghijkl"[first : first + 5]) for first in range(8)]
chains = st.tuples(st.permutations(CHAIN), st.integers(0, 8)).map(lambda one: (one[0][: one[1]], one[0][one[1] :]))


def by_brute_force(given: list[str]) -> list[set[int]]:
    """Return groups of indices, found by comparing all pairs of texts."""
    groups = [{place} for place in range(len(given))]

    def similar(one: str, other: str) -> bool:
        a, b = shingles(one), shingles(other)
        return Fraction(len(a & b), len(a | b)) >= AT_LEAST

    for one, other in combinations(range(len(given)), 2):
        if similar(given[one], given[other]):
            first, second = (next(group for group in groups if place in group) for place in (one, other))
            if first is not second:
                first |= second
                groups.remove(second)
    return groups


@settings(max_examples=50)
@given(texts)
def test_groups_equal_those_of_brute_force(drawn: list[str]) -> None:
    keys = near_duplicates(drawn)
    expected = {frozenset(group) for group in by_brute_force(drawn)}
    assert {frozenset(place for place, key in enumerate(keys) if key == one) for one in keys} == expected


@settings(max_examples=50)
@given(st.tuples(texts, texts) | chains)
def test_appended_texts_can_merge_groups_but_never_divide_them(drawn: tuple[list[str], list[str]]) -> None:
    before, more = drawn
    old, new = near_duplicates(before), near_duplicates(before + more)
    joined: dict[str, set[str]] = {}
    for one, other in zip(old, new, strict=False):
        joined.setdefault(other, set()).add(one)
    assert all(len({new[place] for place, key in enumerate(old) if key == one}) == 1 for one in old)
    # Merged groups have the key of the older group.
    assert all(key in groups for key, groups in joined.items())


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (HEADLINE, HEADLINE, True),
        (HEADLINE, f"breaking {HEADLINE} via abc", True),
        (
            HEADLINE,
            "officials say a home in the north was quarantined and then much more was said of it by others",
            True,
        ),
        (HEADLINE, "officials say a ship in the south was lost", False),
        ("fire", "fire", True),
        ("fire", "fire fire", False),
        ("", "", True),
        ("", "a", False),
        # The similarity is exactly 2/5.
        ("a b c d e f", "a b c", True),
        ("a b c d e f g", "a b c", False),
        ("a b", "b a", False),
    ],
)
def test_near_duplicates_share_at_least_two_fifths_of_their_bigrams(one: str, other: str, same: bool) -> None:
    first, second = near_duplicates([one, other])
    assert (first == second) == same


def test_near_duplicates_of_near_duplicates_are_in_one_group() -> None:
    chain = ["a b c d e", "c d e f g", "e f g h i"]
    assert len(set(near_duplicates([chain[0], chain[2]]))) == 2
    assert len(set(near_duplicates(["a b c d e", "b c d e f", "c d e f g", "d e f g h"]))) == 1


def test_the_keys_of_known_texts_never_change() -> None:
    assert near_duplicates(["a fire in the north", "nothing", "a fire in the north again"]) == [
        "6448377d9ae757b3",
        "1785cfc3bc6ac773",
        "6448377d9ae757b3",
    ]
    assert near_duplicates([]) == []


def test_comparing_texts_in_slices_gives_the_same_groups() -> None:
    incidence = _incidence([f"{a} {b} {c} fire" for a in "abcde" for b in "abc" for c in "xyz"])
    whole = _connected(incidence)
    assert 1 < len(set(whole.tolist())) < incidence.shape[0]
    assert _connected(incidence, 100).tolist() == _connected(incidence, 1).tolist() == whole.tolist()
    two_at_once = _connected(_incidence(["p q", "r s", "a b c", "a b c d", "t u", "a b c d e"]), 12).tolist()
    one_at_once = _connected(_incidence(["p q", "a b c", "r s", "a b c d"]), 4).tolist()
    assert (two_at_once, one_at_once) == ([0, 1, 2, 2, 3, 2], [0, 1, 2, 1])
