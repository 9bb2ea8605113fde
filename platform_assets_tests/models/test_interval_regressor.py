"""Artefacts of regression models: prediction intervals, tolerance of golden scores, copies in MLflow."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from platform_assets.base.errors import ArtefactError
from platform_assets.models.artefact_format import dump
from platform_assets.models.artefact_loader import TOLERANCE, open_artefact
from platform_assets.models.fitted_model import FittedModel, library_versions
from platform_assets.models.interval_regressor import IntervalRegressor
from platform_assets.models.mlflow_copy import save_copy
from platform_assets.models.outputs import INTERVAL, PROBABILITY
from platform_assets.training.preprocessing import tabular_pipeline
from platform_assets_tests.training.load_model import loads

if TYPE_CHECKING:
    from pathlib import Path

FEATURES = ("hour", "warm")


def of_load(by: str | None = "hour") -> FittedModel:
    """Return a ridge regression. By default, the half-width of its intervals is 100 for hour 17, 900 for 18, else 300.

    If `by` is None, the half-width is 300 for every row.
    """
    rows = loads(5)
    pipeline = tabular_pipeline(Ridge()).fit(rows[list(FEATURES)], rows["load_mw"])
    estimator = IntervalRegressor(pipeline, list(FEATURES), by, [17.0, 18.0], [100.0, 900.0], half_width=300.0)
    golden = rows[list(FEATURES)].head(24)
    scores = estimator.predict_interval(golden)
    return FittedModel(estimator, FEATURES, golden, scores, library_versions(), None, INTERVAL)


@pytest.mark.requirement("ESI-7")
def test_the_interval_width_depends_on_the_value_of_one_feature() -> None:
    model = of_load()
    rows: list[dict[str, Any]] = [{"hour": hour, "warm": None} for hour in (17, 18, 3, None)]
    found = model.predict(rows)
    assert (found["upper"] - found["value"]).tolist() == pytest.approx([100, 900, 300, 300])
    assert (found["value"] - found["lower"]).tolist() == pytest.approx([100, 900, 300, 300])
    np.testing.assert_array_equal(model.scores(rows), found["value"])
    frame = loads(3)
    plain: list[dict[str, Any]] = [
        dict(zip(FEATURES, row, strict=True)) for row in frame[list(FEATURES)].to_numpy().tolist()
    ]
    np.testing.assert_array_equal(model.outputs(frame), model.outputs(plain))
    np.testing.assert_array_equal(model.outputs(frame)[:1], model.outputs(frame.head(1)))
    assert model.outputs(frame.head(0)).shape == (0, 3)
    one = of_load(by=None).predict(rows)
    assert (one["upper"] - one["value"]).tolist() == pytest.approx([300] * 4)


@pytest.mark.requirement("ESI-7", "PLT-11")
def test_an_artefact_keeps_the_intervals_and_tolerates_rounding_of_large_numbers() -> None:
    model = of_load()
    data = dump(model)
    loaded = open_artefact(data, "it")
    assert loaded.output is INTERVAL
    np.testing.assert_array_equal(loaded.outputs(loads(2)), model.outputs(loads(2)))
    largest = float(np.abs(model.golden_scores).max())
    near = dataclasses.replace(model, golden_scores=model.golden_scores + 0.5 * TOLERANCE * largest)
    assert open_artefact(dump(near), "it").output is INTERVAL
    far = dataclasses.replace(model, golden_scores=model.golden_scores + 2 * TOLERANCE * largest)
    with pytest.raises(ArtefactError, match="does not predict as it did in training"):
        open_artefact(dump(far), "it")
    # The interval bounds of the golden rows are verified as well.
    ends = model.golden_scores.copy()
    ends[:, 2] += 1
    with pytest.raises(ArtefactError, match="the scores of its golden rows differ by up to 1 "):
        open_artefact(dump(dataclasses.replace(model, golden_scores=ends)), "it")


def test_an_unknown_output_and_a_threshold_that_does_not_fit_the_output_are_refused() -> None:
    class Ranking:
        name = "ranking"

    model = of_load()
    with pytest.raises(ArtefactError, match="it has the output 'ranking'; this version .* supports binary"):
        open_artefact(dump(dataclasses.replace(model, output=Ranking())), "it")  # type: ignore[arg-type]  # unknown
    with pytest.raises(ArtefactError, match="its threshold is 0.5, but a regression model has none"):
        INTERVAL.demand_threshold(0.5)
    with pytest.raises(ArtefactError, match="its threshold is None; it must be between 0 and 1"):
        PROBABILITY.demand_threshold(None)


@pytest.mark.requirement("ESI-7", "PLT-7")
def test_the_copy_in_mlflow_predicts_the_same_values_and_has_a_signature(tmp_path: Path) -> None:
    from mlflow import pyfunc

    model = of_load()
    save_copy(model, tmp_path / "copy", "0" * 32)
    copy = pyfunc.load_model(str(tmp_path / "copy"))
    rows = loads(1)[list(FEATURES)]
    np.testing.assert_allclose(copy.predict(rows), model.scores(rows))
    assert copy.metadata.signature.inputs.input_names() == list(FEATURES)
    assert "float64" in str(copy.metadata.signature.outputs)
    assert copy.input_example is not None
