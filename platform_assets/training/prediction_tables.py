"""Declaration of the tables that store a model's predictions. Labels that arrive later are joined with these tables.

The prediction log has the predictions of the HTTP service, for every model. A domain that stores further predictions
declares their table in its `ModelSpec`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class PredictionTable:
    """A table of predictions in PostgreSQL.

    Attributes
    ----------
    name
        `<schema>.<table>`.
    key
        Columns that together identify a prediction.
    subjects
        Ways to identify the subject of a prediction. Each is a tuple of columns, whose values are joined by `:`.
        Predictions with equal values of the first tuple are resampled together, because they are not independent.
    score, version, approval
        Columns of the probability or value, of the model version, and of the approval request of that version.
    at
        Columns of the time to which a prediction applies; the first column that is not null is used.
    model
        Column of the model's name; None if all rows belong to one model.
    beside
        Further columns that the metrics of the task need. The keys are the names that the task uses: `lower` and
        `upper` for the ends of the prediction interval, and the names of the baselines.
    """

    name: str
    key: tuple[str, ...]
    subjects: tuple[tuple[str, ...], ...]
    score: str
    version: str
    approval: str
    at: tuple[str, ...]
    model: str | None = None
    beside: Mapping[str, str] = field(default_factory=dict)
