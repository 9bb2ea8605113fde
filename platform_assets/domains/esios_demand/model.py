"""Declaration of the demand model: the demand in each hour of the next local day, with prediction intervals."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from platform_assets.domains.esios_demand.schemas import (
    DEMAND_FEATURES,
    DEMAND_FORECAST,
    FEATURES,
    LEVEL,
    MW,
    NAIVE_D1,
    RELATIVE,
)
from platform_assets.evaluation.conformal import Intervals
from platform_assets.evaluation.gate import Criterion, NotWorse
from platform_assets.evaluation.time_split import TimeSplit
from platform_assets.training.model_spec import Candidate, Card, Kpi, ModelSpec, Retraining
from platform_assets.training.prediction_tables import PredictionTable
from platform_assets.training.regression import Regression

if TYPE_CHECKING:
    import ibis.expr.types as ir

NAMES = [feature.name for feature in FEATURES]
NAIVE_D7 = "naive_d7_mw"
DAYS_OF_WEEK = list(range(1, 8))
INTERVALS = Intervals(level=0.9, by="local_hour")
TREES = 100
"""Number of boosting iterations."""


def examples(demand_features: ir.Table) -> ir.Table:
    """Return one row per hour whose demand and features are known.

    Parameters
    ----------
    demand_features
        One row per hour, with the columns of `schemas.DEMAND_FEATURES`.

    Returns
    -------
    ir.Table
        `hour_utc` (text), the features, `demand_mw`, `datetime_utc`, `local_day` (text), `naive_d7_mw`, `naive_d1_mw`.
    """
    known = demand_features.filter(*(demand_features[name].notnull() for name in (*NAMES, "demand_mw")))
    return known.select(
        *NAMES,
        "demand_mw",
        "datetime_utc",
        NAIVE_D1.name,
        hour_utc=known.datetime_utc.strftime("%Y-%m-%d %H:%M"),
        local_day=known.local_day.cast("string"),
        **{NAIVE_D7: known.lag_7d_mw},
    )


def ridge(seed: int) -> Any:
    """Return a ridge regression for each local hour, relative to `LEVEL`, with a one-hot encoded weekday."""
    from sklearn.compose import ColumnTransformer
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import Ridge
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    from platform_assets.models.relative_regression import RelativeRegression

    weekdays = OneHotEncoder(categories=[DAYS_OF_WEEK], sparse_output=False)
    columns = ColumnTransformer(
        [("weekday", weekdays, ["weekday"])], remainder="passthrough", verbose_feature_names_out=False
    )
    of_hour = Pipeline(
        [("fill", SimpleImputer()), ("scale", StandardScaler()), ("model", Ridge(3.0, random_state=seed))]
    )
    relative = RelativeRegression(of_hour, LEVEL.name, [column.name for column in RELATIVE], "local_hour")
    return Pipeline([("columns", columns.set_output(transform="pandas")), ("model", relative)])


def boosting(seed: int) -> Any:
    """Return gradient boosting on binned features, relative to `LEVEL`."""
    from sklearn.ensemble import HistGradientBoostingRegressor

    from platform_assets.models.relative_regression import RelativeRegression

    trees = HistGradientBoostingRegressor(
        max_iter=TREES,
        learning_rate=0.1,
        max_leaf_nodes=15,
        max_features=0.3,
        early_stopping=False,
        random_state=seed,
    )
    return RelativeRegression(trees, LEVEL.name, [column.name for column in RELATIVE])


MODEL = ModelSpec(
    key="esios_demand/demand_model",
    description="Demand of the Spanish peninsula in each hour of the next local day, with 90 % prediction intervals.",
    owners=("team:platform",),
    tables=(DEMAND_FEATURES.name,),
    loaded_separately=(DEMAND_FORECAST.name,),
    examples=examples,
    id="hour_utc",
    features=FEATURES,
    label="demand_mw",
    task=Regression(unit=MW, intervals=INTERVALS, baselines=(NAIVE_D7, NAIVE_D1.name)),
    split=TimeSplit("datetime_utc", "local_day", newest=0.1),
    subgroups=("local_hour", "weekday", "is_holiday"),
    candidates=(
        Candidate("ridge per hour", ridge, {"model__estimator__model__alpha": (1.0, 3.0)}),
        Candidate("gradient boosting", boosting),
    ),
    ranked_by="neg_mean_absolute_percentage_error",
    criteria=(
        Criterion(
            f"skill_over_{NAIVE_D7}",
            at_least=0.3,
            why="A model that is little better than the naive forecast is not worth maintaining.",
        ),
        Criterion(
            "mape", at_most=0.04, why="Balancing energy must cover each error. Above 4 %, plans miss demand peaks."
        ),
        Criterion(
            "interval_coverage",
            at_least=0.85,
            why="Reserves are planned from the intervals, which should contain 90 % of the hours.",
        ),
    ),
    not_worse=NotWorse("mae", by=50.0, why="A new version must forecast about as well as the champion."),
    card=Card(
        purpose="How much power will the Spanish peninsula need in each hour of tomorrow?",
        acted_on_by="The energy team plans purchases and reserves at 10:00 for the next day.",
        business_kpi=Kpi(
            name="cost of balancing energy (EUR per month)",
            owner="head of energy trading",
            target="10 % lower than with a naive forecast (same hour a week before), within two quarters of promotion",
        ),
        technical_kpi="MAPE on the newest tenth of the days; skill over two naive forecasts; coverage of the intervals",
        label=(
            "`demand_mw`: the demand of an hour as last published by the grid operator, known once the hour is over. "
            "The series is itself a forecast of the operator, not the measured demand."
        ),
        objective=(
            "Squared error of the ratio of the demand to the mean of the last 24 hours. The intervals contain 90 % of "
            "the out-of-fold residuals of each local hour."
        ),
        data="One row per hour. All features are known at 10:00 local time on the day before.",
        limits=(
            "The model has no temperature data. In the hot June of 2017, its errors were 1.3 times those of the year.",
            "The model learns holidays from training data. Its first forecast of 25 December had a mean error of 13 %.",
            "The model forecasts the peninsula only, and one day ahead only.",
            "The intervals assume errors as large as those in cross-validation. They are widened after larger errors.",
        ),
    ),
    retraining=Retraining(cron="0 11 * * 1", min_new_rows=5_000),
    prediction_tables=(
        PredictionTable(
            name="esios_demand.forecasts",
            key=("datetime_utc",),
            subjects=(("local_day",),),
            score="demand_mw",
            version="model_version",
            approval="approval_id",
            at=("datetime_utc",),
            beside={
                "lower": "lower_mw",
                "upper": "upper_mw",
                NAIVE_D7: "naive_d7_mw",
                NAIVE_D1.name: "naive_d1_mw",
            },
        ),
    ),
)
