"""Classifier plots: size, colours and determinism, for ordinary and degenerate rows."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from platform_assets.base.errors import TrainingError
from platform_assets.evaluation import classifier_plots
from platform_assets.evaluation.costs import Costs
from platform_assets_tests.evaluation.pictures import MODEL, THRESHOLD, demand_good, near

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Picture = Callable[[Any, Any, float], bytes]

PICTURES: dict[str, Picture] = {
    "calibration": lambda labels, scores, _: classifier_plots.calibration(labels, scores),
    "roc": lambda labels, scores, _: classifier_plots.roc(labels, scores),
    "precision_recall": classifier_plots.precision_recall,
    "confusion": classifier_plots.confusion,
    "costs": lambda labels, scores, threshold: classifier_plots.costs(labels, scores, threshold, Costs(20, why="")),
    "score_distribution": classifier_plots.score_distribution,
}


def rows(count: int, base_rate: float) -> tuple[Any, Any, float]:
    random = np.random.default_rng(count)
    labels = (random.random(count) < base_rate).astype(int)
    return labels, np.clip(random.beta(1, 15, count) + 0.1 * labels * random.random(count), 0, 1), 0.1


CASES: dict[str, tuple[Any, Any, float]] = {
    "many rows, few positive": rows(30_000, 0.02),
    "half positive": rows(400, 0.5),
    "one positive": ([1, *[0] * 49], np.linspace(0, 1, 50), 0.5),
    "all scores equal": ([0, 1] * 20, [0.3] * 40, 0.3),
    "all scores 0": ([0, 1] * 20, [0.0] * 40, 0.5),
    "no positive": ([0] * 20, np.linspace(0, 1, 20), 0.5),
    "no negative": ([1] * 20, np.linspace(0, 1, 20), 0.5),
    "none flagged": ([0, 1] * 10, np.linspace(0, 0.5, 20), 2.0),
    "one row": ([1], [0.2], 0.5),
    "no rows": ([], [], 0.5),
}


@pytest.mark.requirement("PRO-1")
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", PICTURES)
def test_plots_can_be_drawn_for_ordinary_and_degenerate_rows(name: str, case: str) -> None:
    labels, scores, threshold = CASES[case]
    demand_good(PICTURES[name](labels, scores, threshold))


@pytest.mark.requirement("PLT-7")
@pytest.mark.parametrize("name", PICTURES)
def test_the_order_of_rows_does_not_change_the_bytes_of_a_plot(name: str) -> None:
    labels, scores, threshold = CASES["half positive"]
    picture = PICTURES[name](labels, scores, threshold)
    assert PICTURES[name](labels[::-1], scores[::-1], threshold) == picture


@pytest.mark.parametrize("name", PICTURES)
def test_different_rows_give_different_plots(name: str) -> None:
    picture, other = (PICTURES[name](*CASES[case]) for case in ("half positive", "all scores equal"))
    assert picture != other


@pytest.mark.parametrize("name", PICTURES)
def test_the_model_is_drawn_in_its_own_colour(name: str) -> None:
    assert near(PICTURES[name]([0, 1] * 20, [0.1, 0.9] * 20, 0.5), MODEL) > 50


@pytest.mark.parametrize("name", ["precision_recall", "score_distribution"])
def test_the_threshold_is_marked(name: str) -> None:
    labels, scores, threshold = CASES["half positive"]
    assert near(PICTURES[name](labels, scores, threshold), THRESHOLD) > 20


@pytest.mark.parametrize("name", PICTURES)
def test_scores_out_of_range_are_rejected(name: str) -> None:
    with pytest.raises(TrainingError, match="scores must be between 0 and 1"):
        PICTURES[name]([0, 1], [0.5, 1.5], 0.5)


def test_plots_are_drawn_without_warnings_if_the_home_folder_is_read_only(tmp_path: Path) -> None:
    # Simulate a container, in which Matplotlib warns on its first import and rebuilds its font list.
    home = tmp_path / "home"
    home.write_text("a file, so that even root cannot create files below it")
    drop = {"MPLCONFIGDIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME"}
    environment = {name: value for name, value in os.environ.items() if name not in drop} | {
        "HOME": str(home),
        "TMPDIR": str(tmp_path),
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    code = (
        "import logging, sys; from platform_assets.evaluation import classifier_plots\n"
        "picture = classifier_plots.roc([0, 1], [0.1, 0.9])\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
        "assert logging.getLogger('matplotlib').level == logging.NOTSET\n"
        "sys.stdout.buffer.write(picture)"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], cwd=tmp_path, env=environment, check=False, capture_output=True
    )
    assert (done.returncode, done.stderr) == (0, b"")
    demand_good(done.stdout)
    assert done.stdout == classifier_plots.roc([0, 1], [0.1, 0.9])
