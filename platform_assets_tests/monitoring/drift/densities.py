"""Simulated sensor readings, drawn from a Gaussian mixture that is fitted to a history."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from platform_assets.domains.sensor_maintenance.demo import two_moons
from platform_assets.monitoring.drift.evidence import ColumnDetector
from platform_assets.monitoring.drift.rulers import JointRuler, NumberRuler

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from numpy.typing import NDArray

    from platform_assets.monitoring.drift.rulers import Ruler

    Readings = NDArray[np.float64]
    Draw = Callable[[int], Readings]

TRAINING_ROWS, HOLDOUT_ROWS = 1_200, 300
FALSE_ALARM_DAYS = 1_000.0


def fitted_to(history: Readings, seed: int) -> Draw:
    """Return a seeded function that draws readings, (n, 2), from a density fitted to a history."""
    from sklearn.mixture import GaussianMixture

    mixture = GaussianMixture(6, random_state=0).fit(history)
    roots = np.linalg.cholesky(mixture.covariances_)
    random = np.random.default_rng(seed)

    def draw(rows: int) -> Readings:
        component = random.choice(len(roots), rows, p=mixture.weights_)
        drawn: Readings = mixture.means_[component] + np.einsum(
            "nij,nj->ni", roots[component], random.normal(size=(rows, 2))
        )
        return drawn

    return draw


def demo_history(rows: int = TRAINING_ROWS + HOLDOUT_ROWS) -> Readings:
    """Return readings like those of the sample data."""
    random = np.random.default_rng(0)
    return two_moons(random, random.permutation(np.arange(rows) % 2))


class Watch:
    """The drift detectors that the monitor would build: one for each sensor, and one for both sensors together.

    Parameters
    ----------
    training, others
        Training rows and holdout rows, (n, 2).
    """

    def __init__(self, training: Readings, others: Readings) -> None:
        rulers: dict[str, Ruler] = {
            "sensor_1": NumberRuler(training[:, 0]),
            "sensor_2": NumberRuler(training[:, 1]),
            "together": JointRuler(training, others),
        }
        self.detectors = {name: ColumnDetector(ruler, len(rulers), FALSE_ALARM_DAYS) for name, ruler in rulers.items()}

    def alarms(self, readings: Readings, days: float = 1.0) -> list[str]:
        """Add a batch. Return the names of the detectors that raise an alarm."""
        columns: dict[str, Any] = {"sensor_1": readings[:, 0], "sensor_2": readings[:, 1], "together": readings}
        found = {name: detector.add(columns[name], days) for name, detector in self.detectors.items()}
        return [name for name, one in found.items() if one.alarm]

    def first_alarm(self, batches: Iterable[Readings]) -> int | None:
        """Return the number of the first batch with an alarm, counted from 1. None if no batch raises one."""
        return next((number for number, batch in enumerate(batches, 1) if self.alarms(batch)), None)


def watch(draw: Draw) -> Watch:
    """Return the detectors for training and holdout rows that `draw` returns."""
    return Watch(draw(TRAINING_ROWS), draw(HOLDOUT_ROWS))
