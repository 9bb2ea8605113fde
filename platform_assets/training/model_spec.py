"""Declaration of a model as data: tables, features, candidates, quality gate and card.

A domain's `model.py` contains one `ModelSpec`. `trainer.py` trains it, and `assets.py` makes Dagster definitions from
it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from inspect import getfile
from typing import TYPE_CHECKING, Any

from platform_assets.approval.policy import ApprovalPolicy
from platform_assets.base.errors import TrainingError
from platform_assets.settings import variable
from platform_assets.training.explanations import permutation_importance
from platform_assets.training.monitoring_policy import MonitoringPolicy

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from platform_assets.base.frames import Expression
    from platform_assets.evaluation.gate import Criterion, NotWorse
    from platform_assets.evaluation.split_rules import SplitRule
    from platform_assets.lake.schemas import Column
    from platform_assets.settings import DomainSettings
    from platform_assets.training.explanations import Explain
    from platform_assets.training.prediction_tables import PredictionTable
    from platform_assets.training.tasks import Task


@dataclass(frozen=True)
class DeclaredEncoder:
    """A sentence encoder that some candidates of a model use.

    Attributes
    ----------
    settings
        Settings class that declares the encoder's environment variable.
    setting
        Name of the field in that class that holds the URI of the encoder's folder; empty if the variable is not set.
    parameter
        Name of the hyperparameter that receives the encoder's digest, in `set_params` syntax, for example
        `features__encoder`.
    """

    settings: type[DomainSettings]
    setting: str
    parameter: str

    @property
    def variable(self) -> str:
        """The environment variable."""
        return variable(self.setting)


@dataclass(frozen=True)
class Candidate:
    """An estimator with the grid of hyperparameters to search.

    Attributes
    ----------
    name
        Name in the leaderboard.
    build
        Function that takes a random seed and returns an unfitted scikit-learn pipeline. The pipeline is fitted on a
        frame of the features.
    grid
        Values to try for each hyperparameter, named as in `set_params`. Every combination is tried.
    encoder
        Sentence encoder that the candidate needs. Without it, the candidate is left out.
    """

    name: str
    build: Callable[[int], Any]
    grid: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    encoder: DeclaredEncoder | None = None


@dataclass(frozen=True)
class Kpi:
    """A key performance indicator.

    Attributes
    ----------
    name
        Quantity, with its unit.
    owner
        Person or role responsible for the indicator.
    target
        Target value and date.
    """

    name: str
    owner: str
    target: str


@dataclass(frozen=True)
class Card:
    """Texts of the model card.

    Attributes
    ----------
    purpose
        Question that a prediction answers.
    acted_on_by
        Users of the predictions, and their actions.
    business_kpi
        Business KPI of the model.
    technical_kpi
        Metrics that data scientists monitor.
    label
        Definition of the label, and when it is known.
    objective
        Loss that fitting minimises, and rule for the threshold if there is one.
    data
        Source of the examples, and meaning of one row.
    limits
        Prohibited uses and known weaknesses.
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
    """Schedule of automatic retraining.

    Attributes
    ----------
    cron
        Cron expression of the nightly training run, UTC.
    min_new_rows
        Minimum number of new rows in the model's first table before the sensor launches a training run.
    cool_down
        Minimum time between any training run and the next one that the sensor launches.
    """

    cron: str = "0 2 * * *"
    min_new_rows: int = 1_000
    cool_down: timedelta = timedelta(hours=6)


@dataclass(frozen=True)
class Incoming:
    """Table of new rows for a model to predict. The rows arrive in batches, and their drift is measured.

    Attributes
    ----------
    table
        Table with the model's features. Rows are only added.
    batch
        Column that identifies the batch of a row.
    batch_name
        Column with the human-readable name of the batch.
    arrived_at
        Column with the time at which the platform stored the batch, UTC.
    """

    table: str
    batch: str = "file_digest"
    batch_name: str = "file_name"
    arrived_at: str = "landed_at"


@dataclass(frozen=True)
class ModelSpec:
    """Declaration of a model.

    Attributes
    ----------
    key
        Asset key, `<domain>/<name>`. The registered model is called `<name>`.
    description
        Description of the asset.
    owners
        Owners of the asset.
    tables
        Input tables in the lake. The first has one row per example.
    examples
        Function that takes these tables, in this order, and returns a table of labelled examples. The table has the
        columns named below.
    id
        Column that identifies an example. Examples are sorted by it.
    features
        Columns passed to the pipeline.
    label
        Column of the label.
    task
        Kind of model and its parameters: a `BinaryClassification` or a `Regression`.
    split
        Rule that splits examples into training set, holdout and folds: a `GroupSplit`, a `StratifiedSplit` or a
        `TimeSplit`.
    subgroups
        Columns by which metrics are broken down.
    candidates
        Estimators to compare.
    ranked_by
        scikit-learn scorer that ranks the candidates: one of the task's `rankings`.
    criteria
        Bounds of the quality gate, on metrics of the holdout.
    not_worse
        Comparison with the champion in the quality gate.
    card
        Texts of the model card.
    explanations
        Explanations to compute and plot.
    error_columns
        Columns to show in the list of held-out examples with the worst predictions. If empty, there is no list. This
        is the default, because examples may contain personal data.
    folds
        Number of cross-validation folds.
    learning_curve
        Numbers of training examples at which the learning curve measures score and fitting time; empty for no curve.
    resamples
        Number of bootstrap resamples for intervals.
    retraining
        Schedule of automatic retraining.
    loaded_separately
        Tables that a separate job loads, such as tables with partitions. The training job does not refresh them.
    approval
        Policy for approving a version as champion.
    incoming
        Table of new rows for the model; None if no table collects them.
    seed
        Random seed.
    prediction_tables
        Tables of stored predictions that are joined with later labels, in addition to the prediction log.
    label_horizon
        Maximum time between a prediction about a subject and the time of a label about the same subject.
    monitoring
        Policy of the daily monitoring, and the work list of the monitoring page.

    Raises
    ------
    ValueError
        The key is not `<domain>/<name>`.
    TrainingError
        A criterion, `not_worse` or `ranked_by` names an unknown metric, or the task does not fit the features.
    """

    key: str
    description: str
    owners: tuple[str, ...]
    tables: tuple[str, ...]
    examples: Callable[..., Expression]
    id: str
    features: tuple[Column, ...]
    label: str
    task: Task
    split: SplitRule
    subgroups: tuple[str, ...]
    candidates: tuple[Candidate, ...]
    ranked_by: str
    criteria: tuple[Criterion, ...]
    card: Card
    not_worse: NotWorse
    explanations: tuple[Explain, ...] = (permutation_importance,)
    error_columns: tuple[str, ...] = ()
    folds: int = 4
    learning_curve: tuple[int, ...] = ()
    resamples: int = 200
    retraining: Retraining = field(default_factory=Retraining)
    loaded_separately: tuple[str, ...] = ()
    approval: ApprovalPolicy = field(default_factory=ApprovalPolicy)
    incoming: Incoming | None = None
    seed: int = 20_260_101
    prediction_tables: tuple[PredictionTable, ...] = ()
    label_horizon: timedelta = timedelta(days=30)
    monitoring: MonitoringPolicy = field(default_factory=MonitoringPolicy)

    def __post_init__(self) -> None:
        if self.key.count("/") != 1:
            raise ValueError(f"the model key is {self.key!r}; it must be <domain>/<name>")
        for criterion in self.criteria:
            self._demand_metric("criteria", criterion.metric, self.task.metrics)
        self._demand_metric("not_worse", self.not_worse.metric, self.task.metrics)
        self._demand_metric("ranked_by", self.ranked_by, self.task.rankings)
        try:
            self.task.demand_declarable(self.feature_names)
        except TrainingError as error:
            raise TrainingError(f"{self._declared}: {error}") from None

    @property
    def name(self) -> str:
        """Name of the registered model."""
        return self.key.split("/")[1]

    @property
    def domain(self) -> str:
        """Domain of the model."""
        return self.key.split("/")[0]

    @property
    def group(self) -> str:
        """Column of the group key. Splits keep the rows of a group on one side, and intervals resample groups."""
        return self.split.group

    @property
    def feature_names(self) -> list[str]:
        """Names of the features, in order."""
        return [feature.name for feature in self.features]

    @property
    def _declared(self) -> str:
        return f"{self.key}, declared in {getfile(self.examples)}"

    def _demand_metric(self, field_name: str, metric: str, known: Collection[str]) -> None:
        if metric not in known:
            raise TrainingError(
                f"{self._declared}: {field_name} names the unknown metric {metric!r}. Use one of: {', '.join(known)}"
            )
