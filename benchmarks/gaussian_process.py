"""Benchmark of sensor maintenance's kernel methods: time, stored size and ROC AUC for each number of readings.

The Gaussian process with an optimised kernel is scikit-learn's default, and the original notebook uses it. Times are
CPU seconds on one thread, because more BLAS threads are slower at these sizes. CPU time excludes other work on the
machine.
"""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from sklearn.gaussian_process import GaussianProcessClassifier
from sklearn.gaussian_process.kernels import RBF
from sklearn.metrics import roc_auc_score
from skops.io import dumps
from threadpoolctl import threadpool_limits

from platform_assets.domains.sensor_maintenance.demo import two_moons
from platform_assets.domains.sensor_maintenance.model import MODEL
from platform_assets.evaluation.learning_plots import exponent
from platform_assets.models.artefact_format import COMPRESSION
from platform_assets.models.calibration import raw_scores
from platform_assets.training.preprocessing import tabular_pipeline

if TYPE_CHECKING:
    from collections.abc import Callable

SIZES = (500, 1_000, 2_000, 4_000)
MOST_OPTIMISED = 2_000
"""Maximum number of readings with which the optimised kernel is measured. Fitting takes minutes with more readings."""
TEST_ROWS = 1_000
MIB = 1 << 20


def optimised(seed: int) -> Any:
    """Return a Gaussian process that optimises its kernel by maximising the marginal likelihood."""
    return tabular_pipeline(GaussianProcessClassifier(1.0 * RBF(1.0), random_state=seed))


def exact(seed: int) -> Any:
    """Return the Gaussian process that the model declares, without its row limit."""
    return MODEL.candidates[0].build(seed).set_params(model__most_rows=sys.maxsize)


WAYS: dict[str, Callable[[int], Any]] = {
    "Gaussian process, kernel optimised": optimised,
    "Gaussian process, kernel fixed": exact,
    **{candidate.name: candidate.build for candidate in MODEL.candidates[1:]},
}


def run(sizes: tuple[int, ...] = SIZES) -> None:
    """Measure each model on sample readings. Print a line per size, and the exponent of each model's fitting time."""
    test, truth = _readings(TEST_ROWS, seed=2)
    for name, build in WAYS.items():
        seconds = []
        allowed = [size for size in sizes if build is not optimised or size <= MOST_OPTIMISED]
        for size in allowed:
            rows, labels = _readings(size, seed=1)
            with threadpool_limits(1):
                took, fitted = _measured(lambda: build(MODEL.seed).fit(rows, labels))  # noqa: B023 - called at once
                scoring, scores = _measured(lambda: raw_scores(fitted, test))  # noqa: B023 - as above
            seconds.append(took)
            stored = len(dumps(fitted, compression=COMPRESSION)) / MIB
            print(
                f"{name}, {size:,} readings: fit {took:.3f} s, prediction {1e6 * scoring / TEST_ROWS:.0f} µs per row, "
                f"artefact {stored:.2f} MiB, ROC AUC {roc_auc_score(truth, scores):.4f}"
            )
        # Compute the exponent from the two largest sizes. At smaller sizes, constant costs hide the growth.
        print(f"{name}: above {allowed[-2]:,} readings, time grows as n^{exponent(allowed[-2:], seconds[-2:]):.2f}")


def _readings(count: int, seed: int) -> tuple[Any, Any]:
    random = np.random.default_rng(seed)
    labels = random.permutation(np.arange(count) % 2)
    return pd.DataFrame(two_moons(random, labels), columns=MODEL.feature_names), labels


def _measured(work: Callable[[], Any]) -> tuple[float, Any]:
    start = time.process_time()
    result = work()
    return time.process_time() - start, result


if __name__ == "__main__":
    run()
