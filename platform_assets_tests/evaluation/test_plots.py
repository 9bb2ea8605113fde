"""Every picture is small, legible in size, the same again, and made without complaint from whatever there is."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from platform_assets.base.errors import TrainingError
from platform_assets.evaluation import plots

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Picture = Callable[[Any, Any, float], bytes]

MOST_BYTES = 35_000
WHITE = (255, 255, 255)
MODEL, THRESHOLD = (31, 95, 168), (217, 102, 10)

PICTURES: dict[str, Picture] = {
    "calibration": lambda labels, scores, _: plots.calibration(labels, scores),
    "roc": lambda labels, scores, _: plots.roc(labels, scores),
    "precision_recall": plots.precision_recall,
    "confusion": plots.confusion,
    "score_distribution": plots.score_distribution,
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
IMPORTANCES: dict[str, tuple[Any, Any, Any]] = {
    "five": (["amount", "age", "job", "car", "previous"], [0.02, 0.04, 0.001, -0.001, 0.01], [0.002] * 5),
    "one": (["age"], [0.1], [0.0]),
    "none": ([], [], []),
    "no loss": (["a", "b"], [0.0, 0.0], [0.0, 0.0]),
    "only gains": (["a", "b"], [-0.1, -0.2], [0.01, 0.01]),
    "more than there is room for": ([f"word {place}" for place in range(200)], np.arange(200) / 200, np.ones(200)),
    "odd names": ([r"$\no{$", "x^$", "日本", "é", "a\nb\t", "n" * 300], np.arange(6), np.ones(6)),
}
WORDS: dict[str, tuple[Any, Any]] = {
    "both ways": (["fire", "love", "the", "killed"], [0.2, -0.1, 0.0, 0.1]),
    "none": ([], []),
    "no effect": (["a", "b"], [0.0, 0.0]),
    "only up": (["a", "b"], [0.1, 0.2]),
    "more than there is room for": ([f"word{place}" for place in range(200)], np.arange(200) / 200 - 0.4),
    "odd": ([r"$\no{$", "n" * 300], [0.1, -0.1]),
}


def colours(picture: bytes) -> dict[Any, int]:
    """How many pixels have each colour."""
    # A palette has no more; Pillow clears memory for as many as it is told to expect.
    found = Image.open(io.BytesIO(picture)).convert("RGB").getcolors(maxcolors=256)
    assert found is not None
    return {colour: count for count, colour in found}


def near(picture: bytes, wanted: tuple[int, int, int]) -> int:
    """How many pixels have about this colour; the palette may move it a little."""
    return sum(
        count
        for colour, count in colours(picture).items()
        if max(abs(one - other) for one, other in zip(colour, wanted, strict=True)) <= 10
    )


def demand_good(picture: bytes) -> None:
    with Image.open(io.BytesIO(picture)) as image:
        image.load()
        assert (image.format, image.size) == ("PNG", (640, 440))
    assert len(picture) <= MOST_BYTES
    found = colours(picture)
    assert found.get(WHITE, 0) > 0
    assert len(found) > 5


@pytest.mark.requirement("PRO-1")
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_of_whatever_there_is(name: str, case: str) -> None:
    labels, scores, threshold = CASES[case]
    demand_good(PICTURES[name](labels, scores, threshold))


@pytest.mark.requirement("PRO-1")
@pytest.mark.parametrize("case", IMPORTANCES)
def test_a_picture_of_importance(case: str) -> None:
    demand_good(plots.importance(*IMPORTANCES[case]))


def test_the_most_important_features_are_shown() -> None:
    names, means, deviations = np.array([f"f{place}" for place in range(40)]), np.arange(40) / 40, np.zeros(40)
    picture = plots.importance(names.tolist(), means, deviations)
    order = np.random.default_rng(0).permutation(40)
    assert plots.importance(names[order].tolist(), means[order], deviations[order]) == picture
    # The 25 least important ones are not shown.
    assert plots.importance(names.tolist(), np.where(np.arange(40) < 25, -9.0, means), deviations) == picture
    assert plots.importance(names.tolist(), np.where(np.arange(40) < 26, -9.0, means), deviations) != picture


@pytest.mark.requirement("REL-2")
@pytest.mark.parametrize("case", WORDS)
def test_a_picture_of_words(case: str) -> None:
    words, effects = WORDS[case]
    picture = plots.word_effects(words, effects, "relevant", "n = 3 words")
    demand_good(picture)
    assert plots.word_effects(words[::-1], effects[::-1], "relevant", "n = 3 words") == picture
    assert (near(picture, MODEL) > 1_000) == any(np.array(effects) > 0)


@pytest.mark.requirement("PLT-7")
@pytest.mark.parametrize("name", PICTURES)
def test_the_same_rows_make_the_same_bytes(name: str) -> None:
    labels, scores, threshold = CASES["half positive"]
    picture = PICTURES[name](labels, scores, threshold)
    assert PICTURES[name](labels[::-1], scores[::-1], threshold) == picture


@pytest.mark.parametrize("name", PICTURES)
def test_other_rows_make_another_picture(name: str) -> None:
    picture, other = (PICTURES[name](*CASES[case]) for case in ("half positive", "all scores equal"))
    assert picture != other


@pytest.mark.parametrize("name", PICTURES)
def test_the_model_is_blue(name: str) -> None:
    assert near(PICTURES[name]([0, 1] * 20, [0.1, 0.9] * 20, 0.5), MODEL) > 50


@pytest.mark.parametrize("name", ["precision_recall", "score_distribution"])
def test_the_threshold_is_marked(name: str) -> None:
    labels, scores, threshold = CASES["half positive"]
    assert near(PICTURES[name](labels, scores, threshold), THRESHOLD) > 20


@pytest.mark.parametrize("name", PICTURES)
def test_impossible_scores_are_refused(name: str) -> None:
    with pytest.raises(TrainingError, match="scores must lie between 0 and 1"):
        PICTURES[name]([0, 1], [0.5, 1.5], 0.5)


def test_a_home_that_cannot_be_written_is_no_news(tmp_path: Path) -> None:
    # As in a container: Matplotlib would warn on its first import, and list the fonts anew.
    home = tmp_path / "home"
    home.write_text("no folder, so that even root cannot write below it")
    drop = {"MPLCONFIGDIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME"}
    environment = {name: value for name, value in os.environ.items() if name not in drop} | {
        "HOME": str(home),
        "TMPDIR": str(tmp_path),
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    code = (
        "import logging, sys; from platform_assets.core import plots\n"
        "picture = plots.roc([0, 1], [0.1, 0.9])\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
        "assert logging.getLogger('matplotlib').level == logging.NOTSET\n"
        "sys.stdout.buffer.write(picture)"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], cwd=tmp_path, env=environment, check=False, capture_output=True
    )
    assert (done.returncode, done.stderr) == (0, b"")
    demand_good(done.stdout)
    assert done.stdout == plots.roc([0, 1], [0.1, 0.9])
