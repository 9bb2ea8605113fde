"""Benchmark of scoring: the compiled pipeline compared with scikit-learn's own `predict_proba`.

scikit-learn receives the rows as a prepared matrix, which is its fastest input, and as a frame. The compiled pipeline
receives one mapping per row, as in the service. All run alternately in this process, on one thread.
"""

from __future__ import annotations

import sys
import time
from functools import partial
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from platform_assets.domains.credit_risk.model import MODEL, NAMES
from platform_assets.models.calibration import CalibratedEstimator
from platform_assets.models.fitted_model import GOLDEN_ROWS, FittedModel, library_versions

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

CLIENTS = 5_000
ROUNDS = 5
SECONDS = 0.5
ROWS = (1, 16, 1_000)
COMPILED, MATRIX, FRAME = "compiled pipeline", "predict_proba, matrix", "predict_proba, frame"


def run(rounds: int = ROUNDS) -> None:
    """Measure every candidate of the credit risk model, fitted on random clients."""
    frame, labels = _clients()
    for candidate in MODEL.candidates:
        with threadpool_limits(1):
            # Build a calibrated pipeline like those of stored models.
            estimator = CalibratedEstimator(candidate.build(1).fit(frame, labels), 0.9, -0.1)
            golden = frame.head(GOLDEN_ROWS)
            scores = estimator.predict_proba(golden)[:, 1]
            model = FittedModel(estimator, tuple(NAMES), golden, scores, library_versions())
            _compare(candidate.name, model, frame, rounds)


def _clients() -> tuple[pd.DataFrame, Any]:
    """Return random clients: their features, (CLIENTS, 5) float64, and labels that depend on the features."""
    chance = np.random.default_rng(1)
    first, jobless = chance.random(CLIENTS) < 0.2, chance.random(CLIENTS) < 0.1
    frame = pd.DataFrame(
        {
            "nb_previous_loans": np.where(first, 0, chance.integers(1, 20, CLIENTS)),
            "avg_amount_loans_previous": np.where(first, np.nan, chance.normal(130, 40, CLIENTS)),
            "age": chance.integers(20, 70, CLIENTS),
            "years_on_the_job": np.where(jobless, np.nan, chance.integers(0, 40, CLIENTS)),
            "flag_own_car": chance.integers(0, 2, CLIENTS),
        }
    )[NAMES].astype("float64")
    return frame, chance.random(CLIENTS) < 0.1 + 0.2 * (frame["flag_own_car"] == 0)


def _compare(name: str, model: FittedModel, frame: pd.DataFrame, rounds: int) -> None:
    print(f"\n{name}: milliseconds per call; medians of {rounds} measurements of {SECONDS:g} s, after a warm-up")
    print(f"{'rows':>6}{COMPILED:>24}{MATRIX:>24}{FRAME:>24}{'ratio to the matrix':>22}")
    for count in ROWS:
        rows = frame.sample(count, replace=True, random_state=count).reset_index(drop=True)
        ways: Mapping[str, Callable[[], Any]] = {
            COMPILED: partial(model.outputs_unlimited, _plain(rows)),
            MATRIX: partial(model.estimator.predict_proba, model.vectors(rows)),
            FRAME: partial(model.estimator.predict_proba, rows),
        }
        scores = [np.asarray(way()) for way in ways.values()]
        assert all(np.array_equal(one if one.ndim == 1 else one[:, 1], scores[0]) for one in scores)
        found: dict[str, list[float]] = {way: [] for way in ways}
        for number in range(rounds + 1):
            for way, work in ways.items():
                took = _milliseconds(work)
                found[way] += [took] if number else []
        middle = {way: median(times) for way, times in found.items()}
        shown = "".join(f"{took:24.3f}" for took in middle.values())
        print(f"{count:6}{shown}{middle[COMPILED] / middle[MATRIX]:22.2f}")


def _plain(rows: pd.DataFrame) -> Sequence[Mapping[str, Any]]:
    """Return the rows as mappings, which is the form in which the service reads them from the online table."""
    values = rows.astype(object).to_numpy().tolist()
    return [
        {name: None if pd.isna(value) else value for name, value in zip(rows.columns, row, strict=True)}
        for row in values
    ]


def _milliseconds(work: Callable[[], Any]) -> float:
    count, began = 0, time.perf_counter()
    while (now := time.perf_counter()) < began + SECONDS:
        work()
        count += 1
    return 1000 * (now - began) / count


if __name__ == "__main__":
    run(*map(int, sys.argv[1:]))
