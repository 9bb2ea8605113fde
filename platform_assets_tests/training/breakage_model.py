"""A small model for tests of training, with one informative feature and one noise feature."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from platform_assets.evaluation.gate import Criterion, NotWorse
from platform_assets.evaluation.split_rules import GroupSplit
from platform_assets.evaluation.splits import Holdout
from platform_assets.evaluation.thresholds import reaching_recall
from platform_assets.lake.schemas import Column
from platform_assets.training.binary_classification import BinaryClassification
from platform_assets.training.model_spec import Candidate, Card, Kpi, ModelSpec

if TYPE_CHECKING:
    from platform_assets.base.frames import Expression
    from platform_assets.engine.query_engine import Engine
    from platform_assets.lake.delta_tables import TableStore
    from platform_assets.lake.table_versions import TableVersion

TABLE = "somewhere/readings"


def readings(rows: int = 1_200, *, signal: float = 2.0, seed: int = 1, first: int = 0) -> pd.DataFrame:
    """Return readings of devices over a hundred days. `signal` is the effect of `heat` on the log-odds of breaking."""
    random = np.random.default_rng([seed, first])
    heat, noise = random.normal(size=rows), random.normal(size=rows)
    broken = random.random(rows) < 1 / (1 + np.exp(1.5 - signal * heat))
    return pd.DataFrame(
        {
            "reading": first + np.arange(rows),
            "device": random.integers(0, 150, rows),
            "day": pd.Timestamp("2024-01-01") + pd.to_timedelta(random.integers(0, 100, rows), unit="D"),
            "heat": np.where(random.random(rows) < 0.05, np.nan, heat),
            "noise": noise,
            "site": np.where(random.random(rows) < 0.5, "north", "south"),
            "broken": broken.astype(int),
        }
    )


def publish(tables: TableStore, engine: Engine, frame: pd.DataFrame, *, demo: bool = False) -> TableVersion:
    """Publish readings as the current version of their table."""
    with engine.stage(frame) as staged:
        return tables.publish(TABLE, staged, metadata={"demo": demo})


def examples(table: Expression) -> Expression:
    """Return all readings, because all are labelled."""
    return table


def linear(seed: int) -> Any:
    """Return a pipeline that selects its columns by name."""
    from sklearn.compose import ColumnTransformer
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    columns = ColumnTransformer([("numbers", SimpleImputer(), ["heat", "noise"])])
    return make_pipeline(columns, LogisticRegression(random_state=seed))


def forest(seed: int) -> Any:
    """Return a random forest, which depends on the seed."""
    from sklearn.ensemble import RandomForestClassifier

    return RandomForestClassifier(5, max_depth=3, random_state=seed)


SPEC = ModelSpec(
    key="somewhere/breakage_model",
    description="Probability that a device breaks.",
    owners=("team:devices",),
    tables=(TABLE,),
    examples=examples,
    id="reading",
    features=(Column("heat", "float64", "How hot."), Column("noise", "float64", "How loud.")),
    label="broken",
    task=BinaryClassification(positive="broken", threshold=reaching_recall(0.8)),
    split=GroupSplit("device", "day", Holdout(groups=0.3, newest=0.4)),
    subgroups=("site",),
    candidates=(
        Candidate("linear", linear, {"logisticregression__C": (0.1, 1.0)}),
        Candidate("forest", forest),
    ),
    ranked_by="roc_auc",
    criteria=(Criterion("roc_auc", at_least=0.7), Criterion("recall", at_least=0.5)),
    not_worse=NotWorse("roc_auc", by=0.05),
    card=Card(
        purpose="Which device will break?",
        acted_on_by="A mechanic looks at it.",
        business_kpi=Kpi("hours of standstill", "head of operations", "halved within a year"),
        technical_kpi="ROC AUC",
        label="It broke within a week.",
        objective="Log-loss.",
        data="One row per reading.",
        limits=("Only devices with a thermometer.",),
    ),
    folds=3,
    resamples=50,
)
ONE_CANDIDATE = replace(SPEC, candidates=(Candidate("linear", linear),))
"""The same model with a single candidate, for tests that need no search."""
