"""Rulers convert values into scores, and store the mean of each score over the training rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from platform_assets.monitoring.drift.evidence import ColumnDetector
from platform_assets.monitoring.drift.rulers import CategoryRuler, JointRuler, NumberRuler, Ruler

if TYPE_CHECKING:
    from collections.abc import Callable

VALUES = st.lists(st.integers(-5, 5).map(float), min_size=1, max_size=40)


@given(VALUES, VALUES)
def test_the_distance_between_two_samples_of_numbers_is_the_kolmogorov_smirnov_distance(
    known: list[float], new: list[float]
) -> None:
    samples = np.array(known), np.array(new)
    shares = [[float((sample <= value).mean()) for value in range(-5, 6)] for sample in samples]
    expected = max(abs(one - other) for one, other in zip(*shares, strict=True))
    assert NumberRuler(samples[0]).distance(samples[1]) == pytest.approx(expected, abs=1e-12)


@given(VALUES)
def test_the_mean_rank_of_the_training_rows_is_a_half(known: list[float]) -> None:
    ruler = NumberRuler(np.array(known))
    assert ruler.means[0] == pytest.approx(0.5)
    assert ruler.means[2:].sum() == pytest.approx(1)
    assert ruler.weights.sum() == pytest.approx(1)
    assert len(ruler.names) == len(ruler.means) == len(ruler.weights) == len(ruler.variances)


def test_numbers_are_scored_by_rank_and_assigned_to_deciles() -> None:
    ruler = NumberRuler(np.array([*range(1, 11), np.nan], dtype=float))
    scores, places = ruler.scores(np.array([0.0, 1.0, 10.0, 11.0, np.nan, np.inf]))
    assert scores[:, 0].tolist() == pytest.approx([0, 0.05, 0.95, 1, np.nan, 1], nan_ok=True)
    assert scores[:, 1].tolist() == pytest.approx([1, 0.9, 0.9, 1, np.nan, 1], nan_ok=True)
    assert places.tolist() == [0, 0, 9, 9, 10, 9]
    assert ruler.names[2] == "share of values below 2"
    assert ruler.names[-2:] == ("share of values of at least 10", "share of missing values")
    assert ruler.means[-1] == pytest.approx(1 / 11)


@pytest.mark.parametrize(
    "known", [np.full(50, np.nan), np.full(50, 3.0), np.array([1.0, 2.0] * 25)], ids=["missing", "constant", "binary"]
)
def test_constant_and_empty_columns_are_measured(known: np.ndarray) -> None:
    detector = ColumnDetector(NumberRuler(known), 2, 1_000.0)
    for _ in range(20):
        assert not detector.add(known, 1.0).alarm
    assert detector.add(np.full(200, 7.0), 1.0).alarm


def test_rare_categories_share_a_score() -> None:
    known = np.array(
        [f"common {number % 20}" for number in range(400)] + [f"rare {n}" for n in range(30)], dtype=object
    )
    ruler = CategoryRuler(known)
    assert len(ruler.names) == 22
    assert ruler.means[-2] == pytest.approx(30 / 430)
    assert ruler.distance(known) == pytest.approx(0)
    assert ruler.distance(np.array(["new"] * 10, dtype=object)) == pytest.approx(400 / 430)


def drawn(random: np.random.Generator, rows: int) -> np.ndarray:
    """Return two dependent columns: coordinates of points near a ring."""
    angle = random.uniform(0, 2 * np.pi, rows)
    return np.column_stack([np.cos(angle), np.sin(angle)]) + random.normal(0, 0.1, (rows, 2))


def permuted(random: np.random.Generator) -> np.ndarray:
    """Return two independent columns. Each is distributed like the corresponding column of `drawn`."""
    return np.column_stack([drawn(random, 300)[:, 0], drawn(random, 300)[:, 1]])


def test_the_joint_ruler_detects_a_lost_dependence_that_single_columns_miss() -> None:
    random = np.random.default_rng(0)
    training, holdout = drawn(random, 1_000), drawn(random, 300)
    single, joint = NumberRuler(training[:, 0]), JointRuler(training, holdout)
    detectors: list[tuple[Ruler, Callable[[np.ndarray], np.ndarray]]] = [
        (single, lambda rows: rows[:, 0]),
        (joint, lambda rows: rows),
    ]
    alarms = []
    for ruler, values in detectors:
        detector = ColumnDetector(ruler, 3, 1_000.0)
        usual = [detector.add(values(drawn(random, 300)), 1.0).alarm for _ in range(5)]
        alarms.append((any(usual), detector.add(values(permuted(random)), 1.0).alarm))
    assert alarms == [(False, False), (False, True)]


def test_the_joint_ruler_accepts_missing_infinite_and_constant_values() -> None:
    random = np.random.default_rng(0)
    rows = np.column_stack([random.normal(size=(500, 2)), np.full(500, 4.0), np.full(500, np.nan)])
    rows[::7, 0] = np.nan
    ruler = JointRuler(rows[:400], rows[400:])
    new = rows[:50].copy()
    new[0, 1], new[1, 1] = np.inf, -np.inf
    scores, _ = ruler.scores(new)
    assert scores.shape == (50, 5)
    assert np.isfinite(scores).all()
    assert 0 <= ruler.distance(new) <= 1
