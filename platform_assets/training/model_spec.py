"""What a model is, as data: what it learns from, what competes, what it must reach, and its card.

A domain's `model.py` declares one with these. Nothing here fits, reads or writes: that is for
`trainer.py`; in Dagster it becomes an asset, checks, jobs, a schedule and a sensor (`assets.py`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from inspect import getfile
from typing import TYPE_CHECKING, Any

from platform_assets.approval.policy import ApprovalPolicy
from platform_assets.base.errors import TrainingError
from platform_assets.evaluation.metrics import METRICS
from platform_assets.evaluation.splits import Holdout
from platform_assets.training.explanations import permutation_importance

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from platform_assets.base.frames import Expression
    from platform_assets.evaluation.gate import Criterion, NotWorse
    from platform_assets.evaluation.thresholds import ThresholdRule
    from platform_assets.lake.schemas import Column
    from platform_assets.training.explanations import Explain

RANKINGS = (
    "accuracy",
    "average_precision",
    "balanced_accuracy",
    "d2_brier_score",
    "d2_log_loss_score",
    "f1",
    "jaccard",
    "matthews_corrcoef",
    "neg_brier_score",
    "neg_log_loss",
    "precision",
    "recall",
    "roc_auc",
)
"""Names of scikit-learn's scorers for two classes, by which a search can rank; a list, so that none is imported."""


@dataclass(frozen=True)
class Candidate:
    """One kind of estimator that competes, with the settings that are tried.

    Attributes
    ----------
    name
        What people call it.
    build
        Seed to an unfitted scikit-learn pipeline that takes a frame of the features, by their names.
    grid
        Values to try by parameter, named as `set_params` takes them; every combination is.
    """

    name: str
    build: Callable[[int], Any]
    grid: Mapping[str, Sequence[Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class Kpi:
    """A figure that says whether the model is worth having.

    Attributes
    ----------
    name
        What is counted, with its unit.
    owner
        Who answers for it.
    target
        The value to reach, and by when.
    """

    name: str
    owner: str
    target: str


@dataclass(frozen=True)
class Card:
    """What a person has to know before relying on the model.

    Attributes
    ----------
    purpose
        The question that a prediction answers.
    acted_on_by
        Who does what because of it.
    business_kpi
        What the business gets.
    technical_kpi
        What the data scientist watches.
    label
        What counts as positive, and when it is known.
    objective
        What fitting optimises, and how the threshold is chosen.
    data
        Where the examples come from, and what one row is.
    limits
        What it must not be used for, and where it is weak.
    """

    purpose: str
    acted_on_by: str
    business_kpi: Kpi
    technical_kpi: str
    label: str
    objective: str
    data: str
    limits: tuple[str, ...]


@dataclass(frozen=True)
class Retraining:
    """When the model is trained without anybody asking.

    Attributes
    ----------
    cron
        Time of the nightly training, UTC.
    min_new_rows
        Rows that have to be added to the first of the model's tables before the sensor trains.
    cool_down
        Time that has to pass after a training before the sensor launches another.
    """

    cron: str = "0 2 * * *"
    min_new_rows: int = 1_000
    cool_down: timedelta = timedelta(hours=6)


@dataclass(frozen=True)
class ModelSpec:
    """One model of two classes.

    Attributes
    ----------
    key
        `<domain>/<name>`: the asset's key; the name is also the registered model's.
    description
        What it predicts, for whoever sees the asset.
    owners
        Who answers for it.
    tables
        The tables of the lake that it learns from. The first has a row for each example.
    examples
        Those tables, in that order, to one row per labelled example, with the columns below.
    id
        Column that names an example; examples are put into its order.
    features
        The columns that the pipeline gets, and nothing else.
    label
        Column of the label, 1 or 0.
    positive
        What the label 1 stands for, said of a row.
    group
        Column of the key whose rows belong together: no group is on both sides of a split.
    time
        Column of the time of an example; None where there is none.
    subgroups
        Columns by whose values the metrics are also told.
    candidates
        What competes.
    ranked_by
        Which of scikit-learn's scorers ranks the candidates, e.g. `average_precision`; one of `RANKINGS`.
    threshold
        How the decision threshold is chosen.
    criteria
        What the holdout has to show before anyone is asked to approve.
    not_worse
        In what it has to keep up with the champion.
    card
        What people have to know.
    explanations
        What shows by what the model goes; drawn beside the other plots.
    error_columns
        What is shown of the held-out examples about which the model is most surely wrong. Without any, none of them
        is shown: examples may be people.
    holdout
        Which examples are held out.
    folds
        Folds of the cross-validations.
    resamples
        Bootstrap resamples behind an interval.
    retraining
        When it is trained again.
    approval
        Who may make a version the champion.
    seed
        Random seed.

    Raises
    ------
    ValueError
        The key is not `<domain>/<name>`.
    TrainingError
        A criterion, `not_worse` or `ranked_by` names a metric that does not exist.
    """

    key: str
    description: str
    owners: tuple[str, ...]
    tables: tuple[str, ...]
    examples: Callable[..., Expression]
    id: str
    features: tuple[Column, ...]
    label: str
    positive: str
    group: str
    time: str | None
    subgroups: tuple[str, ...]
    candidates: tuple[Candidate, ...]
    ranked_by: str
    threshold: ThresholdRule
    criteria: tuple[Criterion, ...]
    card: Card
    not_worse: NotWorse
    explanations: tuple[Explain, ...] = (permutation_importance,)
    error_columns: tuple[str, ...] = ()
    holdout: Holdout = field(default_factory=Holdout)
    folds: int = 4
    resamples: int = 200
    retraining: Retraining = field(default_factory=Retraining)
    approval: ApprovalPolicy = field(default_factory=ApprovalPolicy)
    seed: int = 20_260_101

    def __post_init__(self) -> None:
        if self.key.count("/") != 1:
            raise ValueError(f"{self.key}: a model's key is <domain>/<name>")
        for criterion in self.criteria:
            self._demand_metric("criteria", criterion.metric, METRICS)
        self._demand_metric("not_worse", self.not_worse.metric, METRICS)
        self._demand_metric("ranked_by", self.ranked_by, RANKINGS)

    @property
    def name(self) -> str:
        """Name in the registry."""
        return self.key.split("/")[1]

    @property
    def domain(self) -> str:
        """The domain that owns it."""
        return self.key.split("/")[0]

    @property
    def feature_names(self) -> list[str]:
        """Names of the features, in order."""
        return [feature.name for feature in self.features]

    def _demand_metric(self, field_name: str, metric: str, known: Collection[str]) -> None:
        if metric not in known:
            raise TrainingError(
                f"{self.key}, declared in {getfile(self.examples)}: {field_name} names the unknown metric {metric!r}. "
                f"Use one of: {', '.join(known)}"
            )
