"""A small model for tests of training. It predicts hourly loads; its baseline is the load one week earlier."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from platform_assets.evaluation.conformal import Intervals
from platform_assets.evaluation.gate import Criterion, NotWorse
from platform_assets.evaluation.time_split import TimeSplit
from platform_assets.lake.schemas import Column
from platform_assets.training.model_spec import Candidate, Card, Kpi, ModelSpec
from platform_assets.training.preprocessing import tabular_pipeline
from platform_assets.training.regression import Regression

if TYPE_CHECKING:
    from platform_assets.base.frames import Expression

TABLE = "somewhere/load"


def loads(days: int = 60, seed: int = 3) -> pd.DataFrame:
    """Return hourly loads that depend on the hour, the weekend and the temperature, with more noise in the evening."""
    random = np.random.default_rng(seed)
    at = pd.date_range("2024-01-01", periods=24 * days, freq="h")
    hour, weekend = at.hour.to_numpy(), at.day_of_week.to_numpy() >= 5
    warm = 10 + 5 * np.sin(np.arange(len(at)) / 24 / 9) + random.normal(0, 1, len(at))
    noise = random.normal(0, np.where(hour >= 18, 900, 300))
    load = 25_000 + 4_000 * np.sin((hour - 6) / 24 * 2 * np.pi) - 3_000 * weekend - 150 * warm + noise
    frame = pd.DataFrame(
        {
            "row": np.arange(len(at)),
            "at": at,
            "day": at.strftime("%Y-%m-%d"),
            "hour": hour.astype(float),
            "sine": np.sin((hour - 6) / 24 * 2 * np.pi),
            "weekend": weekend.astype(float),
            "warm": warm,
            "load_mw": load,
        }
    )
    frame["week_before_mw"] = frame["load_mw"].shift(168)
    return frame


def examples(table: Expression) -> Expression:
    """Return all hours, because all have a label."""
    return table


def ridge(_seed: int) -> Any:
    """Return a ridge regression on scaled features."""
    from sklearn.linear_model import Ridge

    return tabular_pipeline(Ridge())


def trees(seed: int) -> Any:
    """Return a few boosted trees."""
    from sklearn.ensemble import HistGradientBoostingRegressor

    return tabular_pipeline(HistGradientBoostingRegressor(max_iter=20, early_stopping=False, random_state=seed))


LOAD = ModelSpec(
    key="somewhere/load_model",
    description="Load of each hour of the next day, with a prediction interval.",
    owners=("team:grid",),
    tables=(TABLE,),
    examples=examples,
    id="row",
    features=tuple(Column(name, "float64", "What it is.") for name in ("hour", "sine", "weekend", "warm")),
    label="load_mw",
    task=Regression(unit="MW", intervals=Intervals(level=0.9, by="hour"), baselines=("week_before_mw",)),
    split=TimeSplit(time="at", block="day", newest=0.25),
    subgroups=("weekend",),
    candidates=(Candidate("ridge", ridge, {"model__alpha": (0.1, 10.0)}), Candidate("trees", trees)),
    ranked_by="neg_mean_absolute_error",
    criteria=(
        Criterion("skill_over_week_before_mw", at_least=0.1, why="With less skill, last week's load would do."),
        Criterion("mape", at_most=0.04, why="The grid can balance this error."),
        Criterion("interval_coverage", at_least=0.8, why="The intervals determine how much reserve is bought."),
    ),
    not_worse=NotWorse("mae", by=20, why="A new version must be about as accurate as the champion."),
    card=Card(
        purpose="How much power will be needed in each hour of tomorrow?",
        acted_on_by="Traders buy it.",
        business_kpi=Kpi("cost of balancing energy (EUR)", "head of trading", "10 % lower within a year"),
        technical_kpi="MAE",
        label="The measured load.",
        objective="Squared error.",
        data="One row per hour.",
        limits=("No holidays.",),
    ),
    folds=3,
    resamples=50,
)
"""A regression model of an hourly series."""
