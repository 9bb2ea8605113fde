"""Definition of a metric. The metrics of all tasks are in `metric_catalogue.py`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Metric:
    """Definition of a metric.

    Attributes
    ----------
    label
        Name used in sentences.
    description
        How the metric is computed. Edge cases follow scikit-learn unless stated otherwise.
    needs
        What is missing if the metric is undefined (NaN). It completes the sentence "there are no ..".
    higher_is_better
        Whether higher values are better; None if neither direction is better.
    chance
        Value reached by random scores; None if it depends on the data.
    share_of
        Name of the metric that counts the rows in the denominator, for exact bounds; None if the metric is not a share
        of rows.
    in_unit
        Whether the metric has the unit of the label.
    """

    label: str
    description: str
    needs: str = "rows"
    higher_is_better: bool | None = None
    chance: float | None = None
    share_of: str | None = None
    in_unit: bool = False
