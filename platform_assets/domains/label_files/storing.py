"""Store the labels of landed files, and record the refused labels with their reasons."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from platform_assets.engine.query_engine import as_frame
from platform_assets.monitoring.label_store import store
from platform_assets.monitoring.labels import Filed, Label

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import psycopg

    from platform_assets.base.frames import Expression, Frame
    from platform_assets.landing.landing_zone import Zone
    from platform_assets.monitoring.label_store import Labels
    from platform_assets.training.model_spec import ModelSpec

ROWS_AT_ONCE = 10_000
_REFUSE = (
    b"insert into platform.refused_labels (file_digest, line, file_name, model, reason)"
    b" values (%s, %s, %s, %s, %s) on conflict do nothing"
)
_COUNT = "select count(*) from platform.refused_labels"
_LAST = "select file_name, line, model, reason from platform.refused_labels order by at desc, file_name, line limit %s"


def store_landed(zone: Zone, rows: Expression, labels: Labels, models: Mapping[str, ModelSpec], run: str) -> int:
    """Store the labels of landed files that are not processed yet, and return the number of refused labels.

    The labels and the state of their files are committed in one transaction.

    Parameters
    ----------
    zone
        The zone of the files.
    rows
        Rows of `schemas.LABELS_INCOMING`. Files without a row in this table are left for a later run.
    labels
        Store of the labels.
    models
        The declared models by name.
    run
        Id of the Dagster run.

    Raises
    ------
    DatabaseError
        The database does not respond; nothing was stored.
    """
    waiting = [file.digest for file in zone.landed()]
    if not waiting:
        return 0
    frame = as_frame(rows.filter(rows.file_digest.isin(waiting)).order_by("file_digest", "line"))
    with labels.transaction() as connection:
        new = zone.mark_processed(connection, frame["file_digest"].unique().tolist(), run)
        refused = [
            (row["file_digest"], row["line"], row["file_name"], row["model"], filed.reason)
            for row, filed in _filed(connection, frame[frame["file_digest"].isin(new)], models)
            if filed.reason is not None
        ]
        with connection.cursor() as cursor:
            cursor.executemany(_REFUSE, refused)
    return len(refused)


def refusals(labels: Labels, most: int) -> tuple[int, list[str]]:
    """Return the number of refused labels, and the newest of them with their reasons.

    Raises
    ------
    DatabaseError
        The database does not respond.
    """
    with labels.transaction() as connection:
        [(count,)] = connection.execute(_COUNT.encode()).fetchall()
        rows = connection.execute(_LAST.encode(), [most]).fetchall()
    return count, [f"{name}, line {line}, {model}: {reason}" for name, line, model, reason in rows]


def _filed(
    connection: psycopg.Connection[Any], frame: Frame, models: Mapping[str, ModelSpec]
) -> Iterator[tuple[dict[str, Any], Filed]]:
    """Store the labels of each file and model; yield each row with the result for its label."""
    for key, part in frame.groupby(["file_digest", "file_name", "model"], sort=False):
        _, name, model = map(str, key)
        for first in range(0, len(part), ROWS_AT_ONCE):
            rows: list[Any] = part.iloc[first : first + ROWS_AT_ONCE].to_dict("records")
            if model not in models:
                why = f"there is no model {model}; the models are {', '.join(sorted(models))}"
                yield from ((row, Filed("refused", reason=why)) for row in rows)
            else:
                yield from zip(rows, store(connection, models[model], _labels(rows), name), strict=True)


def _labels(rows: Sequence[dict[str, Any]]) -> list[Label]:
    import pandas as pd

    def given(value: Any) -> Any:
        return None if pd.isna(value) else value

    return [
        Label(
            label=float(row["label"]),
            observed_at=row["observed_at"].to_pydatetime(),
            request_id=given(row["request_id"]),
            place=None if pd.isna(row["place"]) else int(row["place"]),
            subject=given(row["subject"]),
            at=None if pd.isna(row["at"]) else row["at"].to_pydatetime(),
        )
        for row in rows
    ]
