"""Monitoring policy of a model, for domains that override the default."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True)
class WorkList:
    """Subjects for which the champion's newest predictions require action.

    A person marks a subject as done, which records the label 1, or as wrong, which records the label 0.

    Attributes
    ----------
    title
        Heading of the list.
    table
        Online table with the newest prediction of each subject.
    subject
        Column with the subject, with the same values as in labels.
    at
        Columns of the time of the prediction; the first column that is not null is used.
    flagged
        Boolean column: whether the prediction requires action.
    score
        Column of the probability.
    done, wrong
        Texts of the two buttons.
    """

    title: str
    table: str
    subject: str
    at: tuple[str, ...]
    flagged: str
    score: str
    done: str = "Done"
    wrong: str = "Wrong prediction"


@dataclass(frozen=True)
class MonitoringPolicy:
    """Policy of the daily monitoring of a model.

    Attributes
    ----------
    max_champion_age
        A champion counts as recent if it was promoted at most this long ago.
    work_list
        Declaration of the work list; None if the page has no list.
    """

    max_champion_age: timedelta = timedelta(days=180)
    work_list: WorkList | None = None
