"""Declaration of the model of stocks: the probability that the next close is higher, from three features."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from platform_assets.domains.stocks.schemas import FEATURES, PRICE_FEATURES
from platform_assets.evaluation.gate import Criterion, NotWorse
from platform_assets.evaluation.thresholds import best_f1
from platform_assets.training.model_spec import Candidate, Card, Kpi, ModelSpec
from platform_assets.training.preprocessing import tabular_pipeline

if TYPE_CHECKING:
    import ibis.expr.types as ir


def examples(price_features: ir.Table) -> ir.Table:
    """Return one row per share and day whose next close is known, with an `example` that names it."""
    known = price_features.filter(price_features.rose_next_day.notnull())
    return known.mutate(example=known.symbol + " " + known.day.cast("string"))


def logistic_regression(seed: int) -> Any:
    """Return an unfitted linear model of the log-odds."""
    from sklearn.linear_model import LogisticRegression

    return tabular_pipeline(LogisticRegression(random_state=seed))


CARD = Card(
    purpose="Does this share close higher on its next trading day?",
    acted_on_by="Analysts look first at the shares above the threshold.",
    business_kpi=Kpi("share of looked-at shares that rose", "head of research", "0.6 within a quarter"),
    technical_kpi="ROC AUC on shares that the model never saw, on later days, with its interval",
    label="`rose_next_day` 1: the next close was higher. Known one trading day later.",
    objective="Log-loss, calibrated afterwards; the threshold is where F1 was highest.",
    data="One row per share and trading day; features as of that day's close.",
    limits=("It knows prices and volumes only; no news, no costs of trading. No advice to buy.",),
)

MODEL = ModelSpec(
    key="stocks/stocks_model",
    description="Probability that a share closes higher on its next trading day, from the features of its last one.",
    owners=("team:stocks",),
    tables=(PRICE_FEATURES.name,),
    examples=examples,
    id="example",
    features=FEATURES,
    label="rose_next_day",
    positive="higher at the next close",
    group="symbol",
    time="day",
    subgroups=(),
    candidates=(Candidate("logistic regression", logistic_regression, {"model__C": (0.01, 1.0)}),),
    ranked_by="roc_auc",
    threshold=best_f1(),
    criteria=(Criterion("roc_auc", at_least=0.6, why="Below it the order of shares is little better than chance."),),
    not_worse=NotWorse("roc_auc", by=0.02, why="A newer model has to order shares as well."),
    card=CARD,
)
