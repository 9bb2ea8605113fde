"""Declaration of where a model's predictions are stored, so that labels that arrive later find them.

The prediction log has the predictions of the HTTP service, for every model. A domain that stores further predictions
declares their table in its `ModelSpec`.
"""

from __future__ import annotations

from dataclasses import dataclass


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
        Ways to name what a prediction is about. Each is a tuple of columns, whose values are joined by `:`. The
        predictions with the same first name are resampled together, because they depend on each other.
    score, version, approval
        Columns of the probability, of the model version, and of the approval request of that version.
    at
        Columns of the time that a prediction is about; the first that is not null counts.
    model
        Column of the model's name; None if all rows are of one model.
    """

    name: str
    key: tuple[str, ...]
    subjects: tuple[tuple[str, ...], ...]
    score: str
    version: str
    approval: str
    at: tuple[str, ...]
    model: str | None = None
