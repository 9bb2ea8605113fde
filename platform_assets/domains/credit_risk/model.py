"""Declaration of credit risk's model: the probability that a loan is not paid on time, from five features."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from platform_assets.domains.credit_risk.features import age_group, profile
from platform_assets.domains.credit_risk.schemas import FEATURES, LOAN_FEATURES, LOANS
from platform_assets.evaluation.gate import Criterion, NotWorse
from platform_assets.evaluation.splits import Holdout
from platform_assets.evaluation.thresholds import reaching_recall
from platform_assets.training.model_spec import Candidate, Card, Kpi, ModelSpec
from platform_assets.training.preprocessing import tabular_pipeline

if TYPE_CHECKING:
    import ibis.expr.types as ir

NAMES = [feature.name for feature in FEATURES]
# The original notebook's forest had five trees of unlimited depth, which memorise single clients.
NOTEBOOK_TREES = 5
TREES = 100
SMALLEST_LEAF = 200


def examples(loan_features: ir.Table, loans: ir.Table) -> ir.Table:
    """Return one row per loan with a known outcome: features, label, profile, date and subgroups.

    Parameters
    ----------
    loan_features
        One row per loan, with the columns of `schemas.LOAN_FEATURES`.
    loans
        The same loans, with the columns of `schemas.LOANS`.

    Returns
    -------
    ir.Table
        `loan_id`, the five features, `status`, `profile`, `loan_date`, `gender`, `age_group`.

    """
    people = loans.select("loan_id", profile=profile(loans), gender=loans.code_gender)
    labelled = loan_features.filter(loan_features.status.notnull())
    return labelled.inner_join(people, "loan_id").select(
        "loan_id", *NAMES, "status", "profile", "loan_date", "gender", age_group=age_group(labelled.age)
    )


# A first loan has no previous average and a pensioner has no job. `tabular_pipeline` imputes both, with indicators.


def logistic_regression(seed: int) -> Any:
    """Return an unfitted logistic regression."""
    from sklearn.linear_model import LogisticRegression

    return tabular_pipeline(LogisticRegression(class_weight="balanced", max_iter=1_000, random_state=seed))


def random_forest(seed: int) -> Any:
    """Return the original notebook's forest, with class weights in place of synthetic loans."""
    from sklearn.ensemble import RandomForestClassifier

    return tabular_pipeline(RandomForestClassifier(NOTEBOOK_TREES, class_weight="balanced", random_state=seed))


def gradient_boosting(seed: int) -> Any:
    """Return unfitted gradient-boosted trees on binned features."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    return tabular_pipeline(
        HistGradientBoostingClassifier(
            max_iter=TREES,
            learning_rate=0.05,
            early_stopping=False,
            class_weight="balanced",
            random_state=seed,
        )
    )


MODEL = ModelSpec(
    key="credit_risk/credit_risk_model",
    description="Probability that a loan is not paid back on time, from the five features known when it is granted.",
    owners=("team:credit-risk",),
    tables=(LOAN_FEATURES.name, LOANS.name),
    examples=examples,
    id="loan_id",
    features=FEATURES,
    label="status",
    positive="not paid on time",
    group="profile",
    time="loan_date",
    subgroups=("gender", "age_group"),
    candidates=(
        Candidate("logistic regression", logistic_regression, {"model__C": (0.01, 1.0)}),
        Candidate("random forest", random_forest, {"model__min_samples_leaf": (1, SMALLEST_LEAF)}),
        Candidate("gradient boosting", gradient_boosting, {"model__max_leaf_nodes": (8, 31)}),
    ),
    ranked_by="average_precision",
    threshold=reaching_recall(0.7),
    criteria=(
        Criterion("roc_auc", at_least=0.65, why="Below this, ranking applicants is little better than chance."),
        Criterion(
            "lift_top_decile",
            at_least=1.5,
            why="The top tenth of applicants must contain clearly more bad loans than average.",
        ),
        Criterion(
            "recall",
            at_least=0.5,
            why="The threshold is chosen to find 70 % of bad loans; among unseen people it must find half.",
        ),
        Criterion(
            "calibration_error",
            at_most=0.03,
            why="Limits depend on the probability. A perfect model reaches 0.02 by chance on 1,000 loans.",
        ),
    ),
    not_worse=NotWorse("roc_auc", by=0.02, why="A new version must rank applicants as well as the champion."),
    holdout=Holdout(groups=0.25, newest=0.25),
    card=Card(
        purpose="How likely is it that this client does not pay a loan back on time?",
        acted_on_by="Credit officers review applications above the threshold by hand before granting them.",
        business_kpi=Kpi(
            name="share of granted loans that are not paid on time",
            owner="head of credit risk",
            target="20 % below the share before the model, within two quarters of its promotion",
        ),
        technical_kpi="ROC AUC on the test set (held-out profiles), with its interval; calibration error",
        label="`status` 1: the loan was not paid on time. Known once the loan is due; the source has no date for it.",
        objective=(
            "Log-loss with balanced class weights, then calibrated to the true base rate. The threshold is the highest "
            "one with a recall of 70 % on people that the model was not fitted on."
        ),
        data="One row per loan, with features as of its date. People are identified by profile, not by client number.",
        limits=(
            "It has five features, without income, debts and payment history, so it must not decide alone.",
            "It is trained on granted loans only, and extrapolates to applicants who were refused.",
            "Age is a feature and gender is not. Check whether the law allows age in credit decisions.",
            "Do not use it for products, countries or currencies that its training loans do not cover.",
        ),
    ),
)
