"""Store of labels in the table `platform.labels`. Labels are the observed outcomes of predictions, for all models.

Stored labels never change. Of the labels for a prediction, or for a subject and time, the one that was observed last
supersedes the others. If labels with different values were observed at the same time, they contradict each other. They
are kept but not used in an evaluation.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from platform_assets.database.transactions import transaction
from platform_assets.monitoring.labelled_predictions import join
from platform_assets.monitoring.labels import Filed, Kept, fault

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from contextlib import AbstractContextManager
    from uuid import UUID

    import psycopg

    from platform_assets.monitoring.labelled_predictions import LabelledPredictions
    from platform_assets.monitoring.labels import Label, Outcome, Standing
    from platform_assets.training.model_spec import ModelSpec

    Connection = psycopg.Connection[Any]
    Identity = tuple[UUID | None, int | None, str | None, datetime | None, datetime, float]

_FIND_PREDICTIONS = """
with asked as (
    select * from unnest(%(request_ids)s::text[], %(subjects)s::text[], %(places)s::int[])
        with ordinality as asked (request_id, subject, place, number)
), found as (
    select request_id, subject, batch, place, at,
        row_number() over (partition by request_id order by at, batch, place) - 1 as position,
        count(*) over of_request as predictions,
        count(subject) over of_request as subjects,
        min(at) over of_request <> max(at) over of_request as is_repeated
    from platform.predictions where model = %(model)s and request_id = any(%(request_ids)s)
    window of_request as (partition by request_id)
)
select distinct on (number) number, predictions, subjects, is_repeated, matches.batch, matches.place, matches.at
from asked join (select distinct request_id, predictions, subjects, is_repeated from found) requests using (request_id)
left join lateral (
    select batch, place, at from found where found.request_id = asked.request_id and case
        when asked.subject is not null then found.subject = asked.subject
        else found.position = coalesce(asked.place, 0) end
) matches on true
order by number, matches.at desc, matches.batch, matches.place desc
"""
_INSERT = """
insert into platform.labels (model, request_id, batch, place, subject, at, label, observed_at, sender)
select %(model)s, request_id, batch, place, subject, at, label, observed_at, %(sender)s from unnest(
    %(request_ids)s::text[], %(batches)s::uuid[], %(places)s::int[], %(subjects)s::text[], %(ats)s::timestamptz[],
    %(labels)s::float8[], %(observed)s::timestamptz[]
) as sent (request_id, batch, place, subject, at, label, observed_at)
on conflict do nothing
returning batch, place, subject, at, observed_at, label
"""
_HISTORY = """
select request_id, subject, at, label, observed_at, arrived_at, sender,
    case when min(label) over observed <> max(label) over observed then 'contradictory'
        when observed_at < max(observed_at) over target then 'superseded' else 'current' end as standing,
    batch, place
from platform.labels where model = %(model)s and {}
window target as (partition by batch, place, subject, at),
    observed as (partition by batch, place, subject, at, observed_at)
order by observed_at desc, id desc
"""
_ABOUT_TARGETS = """id in (
    select id from unnest(%(batches)s::uuid[], %(places)s::int[]) as sent (batch, place)
        join platform.labels using (batch, place)
    union all
    select id from unnest(%(subjects)s::text[], %(ats)s::timestamptz[]) as sent (subject, at)
        join platform.labels using (subject, at) where model = %(model)s
)"""


@dataclass(frozen=True, slots=True)
class _Target:
    """The prediction to which a label belongs, or the label's subject and time."""

    batch: UUID | None = None
    place: int | None = None
    subject: str | None = None
    at: datetime | None = None


class Labels:
    """Store of labels.

    Parameters
    ----------
    connect
        Function that returns a context manager with a connection to the platform's database.
    """

    def __init__(self, connect: Callable[[], AbstractContextManager[Connection]]) -> None:
        self._connect = connect

    def store(self, spec: ModelSpec, labels: Sequence[Label], sender: str) -> list[Filed]:
        """Store labels in one transaction; return the result for each label, in the order of `labels`.

        Parameters
        ----------
        spec
            Declaration of the model.
        labels
            The labels. If a label cannot be stored, the other labels are still stored.
        sender
            Name of the sender's API key; empty if no key was needed.

        Raises
        ------
        DatabaseError
            The database does not answer; nothing was stored.
        """
        with self.transaction() as connection:
            return store(connection, spec, labels, sender)

    def history(self, model: str, *, request_id: str | None = None, subject: str | None = None) -> list[Kept]:
        """Return the labels of a request or of a subject, latest observation first, including superseded labels.

        Raises
        ------
        DatabaseError
            The database does not answer.
        """
        chosen = "request_id = %(name)s" if request_id is not None else "subject = %(name)s"
        with self.transaction() as connection:
            rows = connection.execute(
                _HISTORY.format(chosen).encode(), {"model": model, "name": request_id if subject is None else subject}
            ).fetchall()
        return [Kept(*row[:8]) for row in rows]

    def joined(self, spec: ModelSpec, version: int, approval: int) -> LabelledPredictions:
        """Join the labels of a model with the predictions of one approved version; see `labelled_predictions.join`.

        Raises
        ------
        DatabaseError
            The database does not answer.
        """
        with self.transaction() as connection:
            return join(connection, spec, version, approval)

    def transaction(self) -> AbstractContextManager[Connection]:
        """Return a context manager that yields a connection in a transaction.

        Raises
        ------
        DatabaseError
            The database does not answer.
        """
        return transaction(self._connect, "the labels")


def store(connection: Connection, spec: ModelSpec, labels: Sequence[Label], sender: str) -> list[Filed]:
    """Store labels as `Labels.store` does, but in the caller's transaction."""
    now, model = datetime.now(UTC), spec.name
    faults = [fault(label, now, spec.task) for label in labels]
    targets = _targets(connection, model, labels, faults)
    filed = [found if isinstance(found, Filed) else None for found in targets]
    sound = {number: found for number, found in enumerate(targets) if isinstance(found, _Target)}
    new = _insert(connection, model, {number: (labels[number], target) for number, target in sound.items()}, sender)
    standings = _standings(connection, model, list(sound.values()))
    for number, target in sound.items():
        label = labels[number]
        identity = _identity(label, target)
        # If a request repeats a label, the first copy is `stored` and every further copy is `already_stored`.
        outcome: Outcome = "stored" if identity in new else "already_stored"
        new.discard(identity)
        filed[number] = Filed(outcome, standings[target, label.observed_at, label.label])
    return [one for one in filed if one is not None]


def _targets(
    connection: Connection, model: str, labels: Sequence[Label], faults: Sequence[str | None]
) -> list[_Target | Filed]:
    """Return the target of each label or, if the label is not stored, the result with the reason."""
    by_request = [
        number for number, label in enumerate(labels) if label.request_id is not None and faults[number] is None
    ]
    asked = [labels[number] for number in by_request]
    rows: Mapping[int, Any] = {}
    if asked:
        values = {
            "model": model,
            "request_ids": [one.request_id for one in asked],
            "subjects": [one.subject for one in asked],
            "places": [one.place for one in asked],
        }
        found = connection.execute(_FIND_PREDICTIONS.encode(), values).fetchall()
        rows = {by_request[row[0] - 1]: row[1:] for row in found}
    return [
        Filed("refused", reason=why)
        if why
        else _Target(subject=label.subject, at=label.at)
        if label.request_id is None
        else _prediction(model, label, rows.get(number))
        for number, (label, why) in enumerate(zip(labels, faults, strict=True))
    ]


def _prediction(model: str, label: Label, row: tuple[Any, ...] | None) -> _Target | Filed:
    """Return the prediction that a label names or, if there is none, the result with the reason.

    `row` is the label's row from `_FIND_PREDICTIONS`; None if the query found no prediction of the request.
    """
    if row is None:
        return Filed(
            "unknown",
            reason=f"the prediction log has no prediction of {model} with the request id {label.request_id}; a "
            "prediction is logged shortly after its response, and deleted after PLATFORM_PREDICTIONS_DAYS",
        )
    predictions, subjects, is_repeated, batch, place, at = row
    if why := _ambiguity(label, predictions, has_subjects=subjects > 0, is_repeated=is_repeated):
        return Filed("refused", reason=why)
    if batch is None:
        which = f"the subject {label.subject}" if label.subject is not None else f"the place {label.place}"
        return Filed("unknown", reason=f"the request {label.request_id} has no prediction of {model} with {which}")
    # Round the prediction's time down to seconds, because many programs send observed_at in whole seconds.
    if label.observed_at < at.replace(microsecond=0):
        return Filed(
            "refused",
            reason=f"observed_at is {label.observed_at.isoformat()}, before the prediction was made at "
            f"{at.isoformat()}; check observed_at",
        )
    return _Target(batch=batch, place=place)


def _ambiguity(label: Label, predictions: int, *, has_subjects: bool, is_repeated: bool) -> str | None:
    """Return the reason why a label of a request is ambiguous; None if the label names at most one prediction.

    If the predictions have subjects, the label must name the subject. The index `place` is not enough: a prediction can
    have different indices in the response and in the log, because only the response contains unknown subjects.
    """
    if label.subject is not None or (predictions == 1 and label.place is None):
        return None
    if is_repeated:
        return f"several requests have the id {label.request_id}; send the subject as well"
    if has_subjects:
        return f"the request has {predictions} predictions with subjects; send the subject of the labelled prediction"
    if label.place is None:
        return f"the request has {predictions} predictions; send the place of the labelled prediction, from 0"
    return None


def _insert(
    connection: Connection, model: str, sent: Mapping[int, tuple[Label, _Target]], sender: str
) -> set[Identity]:
    """Insert the labels that are not stored yet, and return their identities."""
    unique = {_identity(label, target): (label, target) for label, target in sent.values()}
    # Insert labels in a fixed order, so that concurrent transactions with the same labels cannot deadlock.
    ordered = [unique[identity] for identity in sorted(unique, key=repr)]
    values = {
        "model": model,
        "sender": sender,
        "request_ids": [label.request_id for label, _ in ordered],
        "labels": [label.label for label, _ in ordered],
        "observed": [label.observed_at for label, _ in ordered],
        **_columns([target for _, target in ordered]),
    }
    return set(connection.execute(_INSERT.encode(), values).fetchall())


def _standings(
    connection: Connection, model: str, targets: Sequence[_Target]
) -> dict[tuple[_Target, datetime, float], Standing]:
    """Return whether each stored label of the targets is current, superseded or contradictory."""
    rows = connection.execute(
        _HISTORY.format(_ABOUT_TARGETS).encode(), {"model": model, **_columns(targets)}
    ).fetchall()
    return {
        (_Target(batch, place, subject, at), observed_at, label): standing
        for _, subject, at, label, observed_at, _, _, standing, batch, place in rows
    }


def _columns(targets: Sequence[_Target]) -> dict[str, list[Any]]:
    return {
        "batches": [target.batch for target in targets],
        "places": [target.place for target in targets],
        "subjects": [target.subject for target in targets],
        "ats": [target.at for target in targets],
    }


def _identity(label: Label, target: _Target) -> Identity:
    return target.batch, target.place, target.subject, target.at, label.observed_at, label.label
