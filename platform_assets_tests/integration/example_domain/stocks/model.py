"""Declaration of the stocks model, which predicts the probability that the next close is higher."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from platform_assets.domains.stocks.schemas import FEATURES, PRICE_FEATURES
from platform_assets.evaluation.gate import Criterion, NotWorse
from platform_assets.evaluation.split_rules import GroupSplit
from platform_assets.evaluation.thresholds import best_f1
from platform_assets.training.binary_classification import BinaryClassification
from platform_assets.training.model_spec import Candidate, Card, Kpi, ModelSpec
from platform_assets.training.preprocessing import tabular_pipeline

if TYPE_CHECKING:
    import ibis.expr.types as ir


def examples(price_features: ir.Table) -> ir.Table:
    """Return the rows whose next close is known, with a unique id for each row in the column `example`."""
    known = price_features.filter(price_features.rose_next_day.notnull())
    return known.mutate(example=known.symbol + " " + known.day.cast("string"))


def logistic_regression(seed: int) -> Any:
    """Return an unfitted linear model of the log-odds."""
    from sklearn.linear_model import LogisticRegression

    return tabular_pipeline(LogisticRegression(random_state=seed))


CARD = Card(
    purpose="Predicts whether a share closes higher on its next trading day.",
    acted_on_by="Analysts review the shares above the threshold first.",
    business_kpi=Kpi("percentage of reviewed shares that rose", "head of research", "0.6 within a quarter"),
    technical_kpi="ROC AUC with its confidence interval, for symbols that are not in the training set, on later days",
    label="`rose_next_day` is 1 if the next close was higher. It is known one trading day later.",
    objective="Training minimises the log-loss. Scores are then calibrated, and the threshold maximises F1.",
    data="One row per share and trading day, with features as of that day's close.",
    limits=(
        "The model uses only prices and volumes. It ignores news and trading costs, and is not investment advice.",
    ),
)

MODEL = ModelSpec(
    key="stocks/stocks_model",
    description="Probability that a share closes higher on its next trading day, from the features of its newest day.",
    owners=("team:stocks",),
    tables=(PRICE_FEATURES.name,),
    examples=examples,
    id="example",
    features=FEATURES,
    label="rose_next_day",
    task=BinaryClassification(positive="higher at the next close", threshold=best_f1()),
    split=GroupSplit("symbol", "day"),
    subgroups=(),
    candidates=(Candidate("logistic regression", logistic_regression, {"model__C": (0.01, 1.0)}),),
    ranked_by="roc_auc",
    criteria=(
        Criterion("roc_auc", at_least=0.6, why="Below this value, the ranking of shares is little better than chance."),
    ),
    not_worse=NotWorse("roc_auc", by=0.02, why="A new version must rank shares about as well as the champion."),
    card=CARD,
)
