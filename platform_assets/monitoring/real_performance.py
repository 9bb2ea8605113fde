"""Performance of the champion on its own predictions, once their labels are known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from platform_assets.evaluation.gate import judge
from platform_assets.evaluation.judged import Judged
from platform_assets.training.training_results import Assessment

if TYPE_CHECKING:
    from platform_assets.approval.ledger import Ledger
    from platform_assets.approval.ledger_events import Promotion
    from platform_assets.monitoring.label_store import Labels
    from platform_assets.monitoring.labelled_predictions import LabelledPredictions
    from platform_assets.training.model_spec import ModelSpec


@dataclass(frozen=True)
class RealPerformance:
    """Performance of a champion since its promotion.

    Attributes
    ----------
    spec
        Declaration of the model.
    champion
        The promotion that made a version the champion.
    found
        The champion's predictions with their labels.
    assessment
        Metrics, plots and verdict on the labelled predictions; None if there are not enough labels.
    """

    spec: ModelSpec
    champion: Promotion
    found: LabelledPredictions
    assessment: Assessment | None

    @property
    def examples(self) -> str:
        """Text with the number of labelled predictions, and the numbers of unused predictions and labels."""
        found = self.found
        about = "; ".join(filter(None, [f"{found.share:.1%}", self.spec.task.told_labels(found.labels)]))
        told = (
            f"{len(found.labels):,} of {found.predictions:,} predictions of version {self.champion.version} have a "
            f"label ({about})"
        )
        left_out = (
            (found.contradictory, "predictions not used because of contradictory labels"),
            (found.unmatched, "labels without a prediction"),
            (found.of_others, "labels of predictions of other versions"),
        )
        return "; ".join([told, *(f"{what}: {number:,}" for number, what in left_out if number)])

    @property
    def told(self) -> str:
        """The result in one sentence."""
        if self.assessment is None:
            return f"not enough labels: {self.spec.task.too_few(self.found.labels)}; {self.examples}"
        failed = [reason.told for reason in self.assessment.verdict.reasons if not reason.passed]
        return "; ".join([*failed, self.examples])


def real_performance(spec: ModelSpec, ledger: Ledger, labels: Labels) -> RealPerformance | None:
    """Assess the champion on its labelled predictions; return None if there is no champion.

    The confidence intervals are bootstrapped by subject, because predictions about one subject are not independent.

    Parameters
    ----------
    spec
        Declaration of the model.
    ledger
        Ledger in which promotions are recorded.
    labels
        Store of the labels.

    Raises
    ------
    DatabaseError, LedgerError
        The database does not answer.
    """
    champion = ledger.champion(spec.name)
    if champion is None:
        return None
    found = labels.joined(spec, champion.version, champion.request_id)
    return RealPerformance(spec, champion, found, assess(spec, champion.threshold, found))


def assess(spec: ModelSpec, threshold: float | None, found: LabelledPredictions) -> Assessment | None:
    """Assess labelled predictions against the criteria of the model; None if there are not enough labels.

    A criterion is skipped if its metric needs values that are not stored with the predictions, such as those of a
    baseline.
    """
    if spec.task.too_few(found.labels):
        return None
    labels = spec.task.labels(found.rows["label"])
    # Rename `at` to the time column of the model's split, because plots over time use this column.
    rows = found.rows.rename(columns={"at": getattr(spec.split, "time", None) or "at"})
    judged = Judged(rows, "group", labels, found.outputs, threshold)
    estimates = spec.task.evaluate(judged, spec.resamples)
    return Assessment(
        spec=spec,
        judged=judged,
        estimates=estimates,
        subgroups={},
        difference=None,
        verdict=judge(estimates, [one for one in spec.criteria if one.metric in estimates]),
        explanations=(),
        errors={},
    )
