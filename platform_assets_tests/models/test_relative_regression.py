"""`RelativeRegression` predicts labels that are proportional to a level."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import skops.io
from sklearn.linear_model import LinearRegression

from platform_assets.models.relative_regression import RelativeRegression
from platform_assets.models.trusted_types import TRUSTED_TYPES


def rows(seed: int = 1) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    hours = np.tile([0, 1], 30)
    level = random.uniform(100, 200, 60)
    return pd.DataFrame({"hour": hours, "level": level, "lag": level * random.uniform(0.8, 1.2, 60), "x": 1.0 * hours})


def truth(frame: pd.DataFrame) -> Any:
    """Return labels: `lag / 2` in hour 0, and `lag + level / 10` in hour 1."""
    return np.where(frame["hour"] == 0, frame["lag"] / 2, frame["lag"] + frame["level"] / 10).astype(float)


def model(by: str | None = "hour") -> RelativeRegression:
    return RelativeRegression(LinearRegression(), "level", ("lag",), by)


@pytest.mark.requirement("ESI-7")
def test_each_hour_has_its_own_estimator_and_predictions_scale_with_the_level() -> None:
    fitted = model().fit(rows(), truth(rows()))
    larger = rows(2).assign(level=lambda frame: frame["level"] * 10, lag=lambda frame: frame["lag"] * 10)
    assert fitted.predict(larger) == pytest.approx(truth(larger))
    assert fitted.predict(larger.iloc[[3]]) == pytest.approx(truth(larger)[[3]])
    assert model(None).fit(rows(), truth(rows())).predict(larger) != pytest.approx(truth(larger), rel=1e-3)


@pytest.mark.requirement("ESI-7")
def test_a_model_loaded_with_the_trusted_types_predicts_the_same_values() -> None:
    fitted = model().fit(rows(), truth(rows()))
    loaded = skops.io.loads(skops.io.dumps(fitted), trusted=list(TRUSTED_TYPES))
    assert loaded.predict(rows(2)).tolist() == fitted.predict(rows(2)).tolist()


@pytest.mark.requirement("ESI-7")
@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"level": np.nan}, "level is missing or not positive in 60 rows"),
        ({"level": 0.0}, "level is missing or not positive in 60 rows"),
        ({"hour": 2}, "hour is 2 in some rows"),
        ({"new": 1.0}, "the columns must be"),
    ],
)
def test_rows_that_the_model_cannot_predict_are_refused(change: dict[str, float], told: str) -> None:
    fitted = model().fit(rows(), truth(rows()))
    with pytest.raises(ValueError, match=told):
        fitted.predict(rows().assign(**change))
