"""Declaration of the sensor maintenance model: the probability that a device needs maintenance."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from platform_assets.domains.sensor_maintenance.features import reading
from platform_assets.domains.sensor_maintenance.schemas import FEATURES, READINGS, READINGS_HISTORY
from platform_assets.evaluation.gate import Criterion, NotWorse
from platform_assets.evaluation.thresholds import reaching_recall
from platform_assets.training.model_spec import Candidate, Card, Kpi, ModelSpec, Retraining
from platform_assets.training.preprocessing import tabular_pipeline

if TYPE_CHECKING:
    import ibis.expr.types as ir

COMPONENTS = 100
"""Number of landmark readings of the Nystroem approximation."""


def examples(readings_history: ir.Table) -> ir.Table:
    """Return one row per labelled reading.

    Parameters
    ----------
    readings_history
        Labelled readings, with the columns of `schemas.READINGS_HISTORY`.

    Returns
    -------
    ir.Table
        `example`, the readings, `label`, `reading`. An example keeps its id if the file is sorted differently or grows.
    """
    import ibis

    known = readings_history.mutate(reading=reading(readings_history))
    # Equal readings are numbered, so that the id is unique. Which of them gets which number makes no difference.
    window = ibis.window(group_by=[known.reading, known.label], order_by=known.row)
    number = ibis.row_number().over(window).cast("string")
    example = known.reading + "-" + known.label.cast("string") + "-" + number
    return known.select(*READINGS, "label", "reading", example=example)


def nystroem(seed: int) -> Any:
    """Return logistic regression on a low-rank approximation of the Gaussian process's kernel."""
    from sklearn.kernel_approximation import Nystroem
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    return tabular_pipeline(
        make_pipeline(
            Nystroem(n_components=COMPONENTS, random_state=seed), LogisticRegression(max_iter=1_000, random_state=seed)
        )
    )


MODEL = ModelSpec(
    key="sensor_maintenance/sensor_maintenance_model",
    description="Probability that a device needs maintenance, from two sensor readings.",
    owners=("team:maintenance",),
    tables=(READINGS_HISTORY.name,),
    examples=examples,
    id="example",
    features=FEATURES,
    label="label",
    positive="needs maintenance",
    group="reading",
    time=None,
    subgroups=(),
    candidates=(
        Candidate("Nystroem and logistic regression", nystroem, {"model__logisticregression__C": (1.0, 10.0)}),
    ),
    ranked_by="roc_auc",
    threshold=reaching_recall(0.98),
    criteria=(Criterion("recall", at_least=0.95, why="A missed failure costs more than a needless inspection."),),
    not_worse=NotWorse("roc_auc", by=0.02, why="A new version must rank readings about as well as the champion."),
    retraining=Retraining(min_new_rows=100),
    card=Card(
        purpose="Does this device need maintenance?",
        acted_on_by="Maintenance planners inspect the devices above the threshold.",
        business_kpi=Kpi(
            name="share of failures that were predicted before they happened",
            owner="head of maintenance",
            target="95 % within two quarters after promotion",
        ),
        technical_kpi="Recall on held-out readings with its lower bound; false-positive rate",
        label="`label` 1: the device needs maintenance. An assumption: the source does not explain the label.",
        objective="Log-loss, followed by calibration.",
        data="One row per labelled reading of two sensors. Both columns are standardised in the source.",
        limits=("The readings have no device and no time, so the holdout cannot test new devices or later days.",),
    ),
)
