"""Labels of predictions as clients send them, and their validation.

A label identifies its prediction either by the request, or by a subject and a time. `label_store.py` stores labels, and
`labelled_predictions.py` joins them with predictions.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Literal

from platform_assets.base.printable_text import unprintable

if TYPE_CHECKING:
    from platform_assets.training.tasks import Task

CLOCK_SKEW = timedelta(minutes=1)
"""Allowed clock skew: a time may be up to this far in the future."""
FIRST_TIME = datetime(1970, 1, 1, tzinfo=UTC)
LONGEST_SUBJECT = 200
"""Maximum length of a subject, in characters."""
Outcome = Literal["stored", "already_stored", "unknown", "refused"]
Standing = Literal["current", "superseded", "contradictory"]


@dataclass(frozen=True, slots=True)
class Label:
    """A label as it was sent.

    Attributes
    ----------
    label
        Value of the label, as the model's task defines it.
    observed_at
        Time of the observation, with time zone.
    request_id
        Id of the request whose prediction is labelled; None if the label is for a subject at a time.
    place
        Index of the labelled prediction in the request, from 0. None if the request has only one prediction, or if
        `subject` selects the prediction.
    subject
        Id of the labelled item, such as a client.
    at
        Time to which the label of a subject applies, with time zone; None if `request_id` is given.
    """

    label: float
    observed_at: datetime
    request_id: str | None = None
    place: int | None = None
    subject: str | None = None
    at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Filed:
    """Result of sending a label.

    Attributes
    ----------
    outcome
        - `stored`: the label was stored.
        - `already_stored`: the same label was stored before.
        - `unknown`: the prediction log does not contain the prediction.
        - `refused`: the label was not stored for another reason.
    standing
        Whether the label is `current`, `superseded` or `contradictory`, given the other labels of the same prediction,
        or of the same subject and time; None if the label was not stored.
    reason
        Why the label was not stored; None if it was stored.
    """

    outcome: Outcome
    standing: Standing | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Kept:
    """A stored label, and whether it is current, superseded or contradictory."""

    request_id: str | None
    subject: str | None
    at: datetime | None
    label: float
    observed_at: datetime
    arrived_at: datetime
    sender: str
    standing: Standing


def fault(label: Label, now: datetime, task: Task) -> str | None:
    """Validate a label without looking up its prediction. Return the problem, or None if the label is valid.

    Parameters
    ----------
    label
        The label.
    now
        Current time, with time zone.
    task
        Task of the model.
    """
    if odd := task.label_fault(label.label):
        return odd
    for name, time in (("observed_at", label.observed_at), ("at", label.at)):
        if time is None:
            continue
        if time.tzinfo is None:
            return f"{name} is {time.isoformat()}, without a time zone; add Z or an offset such as +01:00"
        if time < FIRST_TIME:
            return f"{name} is {time.isoformat()}; it must not be before 1970"
        if time > now + CLOCK_SKEW:
            return f"{name} is {time.isoformat()}, which is in the future; the current time is {now:%Y-%m-%dT%H:%M:%SZ}"
    return _fault_of_target(label)


def _fault_of_target(label: Label) -> str | None:
    if label.subject is not None and (odd := subject_fault(label.subject)):
        return odd
    if label.request_id is None:
        return _fault_of_subject(label)
    if label.at is not None:
        return "`at` and `request_id` cannot be combined, because the request identifies the prediction; remove `at`"
    if label.place is not None and label.subject is not None:
        return (
            "`place` and `subject` cannot be combined; "
            "send `subject` if the predictions have subjects, else send `place`"
        )
    return None


def _fault_of_subject(label: Label) -> str | None:
    if label.place is not None:
        return "`place` is allowed only with `request_id`; remove `place`"
    if label.subject is None or label.at is None:
        return "send either `request_id`, or both `subject` and `at` (the time to which the label applies)"
    if label.observed_at < label.at:
        return (
            f"`observed_at` ({label.observed_at.isoformat()}) is before `at` ({label.at.isoformat()}); check both times"
        )
    return None


def subject_fault(subject: str) -> str | None:
    """Validate the subject of a label. Return the problem, or None if the subject is valid."""
    if not subject or len(subject) > LONGEST_SUBJECT:
        return f"the subject has {len(subject)} characters; it must have 1 to {LONGEST_SUBJECT}"
    if odd := unprintable(subject):
        return f"the subject contains control or invisible characters ({', '.join(odd)})"
    return None
