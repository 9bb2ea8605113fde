"""Batch predictions: the champion predicts every landed row once, and stored predictions are never changed.

The predictions of a group of files, and the state of these files, are written to PostgreSQL in one transaction. Then
the predictions are copied to the lake. After a crash, the next run copies the predictions that are missing in the lake.
Without a champion, the files wait.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from platform_assets.base.errors import ArtefactError, NoChampion, TableError
from platform_assets.engine.query_engine import as_frame
from platform_assets.lake.online_tables import plain_errors
from platform_assets.serving.stored_predictions import (
    DIGEST,
    LINE,
    OUTSIDE,
    PREDICTED_AT,
    PROBABILITY,
    batch_time,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager

    import psycopg

    from platform_assets.base.frames import Expression, Frame
    from platform_assets.lake.delta_tables import TableStore
    from platform_assets.lake.schemas import TableSchema
    from platform_assets.landing.landing_zone import Zone
    from platform_assets.serving.current_champions import CurrentChampions
    from platform_assets.serving.live_models import LiveModel
    from platform_assets.serving.stored_predictions import StoredPredictions

ROWS_AT_ONCE = 200_000
"""Maximum number of rows per transaction. The rows of a larger file are still stored in one transaction."""


@dataclass(frozen=True)
class BatchPredictions:
    """Declaration of stored batch predictions.

    Attributes
    ----------
    model
        Name of the registered model.
    landed
        Table of the landed rows. Its key is the digest of the file and the line.
    table
        Table of the predictions, made by `prediction_table`.
    positive
        Column of `table` with the decision.
    """

    model: str
    landed: TableSchema
    table: TableSchema
    positive: str


@dataclass(frozen=True)
class BatchOutcome:
    """Result of a run.

    Attributes
    ----------
    files, rows
        Number of files and rows that were predicted.
    waiting
        Number of files that wait.
    reason
        Reason why files wait; empty if no file waits.
    live
        Model version that made the predictions; None if nothing was predicted.
    """

    files: int = 0
    rows: int = 0
    waiting: int = 0
    reason: str = ""
    live: LiveModel | None = None


class BatchPredictor:
    """Predicts the rows of landed files, and stores the predictions in PostgreSQL.

    Parameters
    ----------
    declared
        Declaration of the batch predictions.
    zone
        The zone of the files.
    stored
        Store of the predictions in PostgreSQL.
    champions
        Loads the champion.
    connect
        Context manager that yields a connection to the platform's database.
    """

    def __init__(
        self,
        declared: BatchPredictions,
        zone: Zone,
        stored: StoredPredictions,
        champions: CurrentChampions,
        connect: Callable[[], AbstractContextManager[psycopg.Connection[Any]]],
    ) -> None:
        self._declared = declared
        self._zone = zone
        self._stored = stored
        self._champions = champions
        self._connect = connect

    def predict(self, landed: Expression, run: str, rows_at_once: int = ROWS_AT_ONCE) -> BatchOutcome:
        """Predict the landed files that are not processed yet, all with the same model version.

        Parameters
        ----------
        landed
            The table of the landed rows. Files whose rows are not in this table yet have to wait.
        run
            Id of the run, which is recorded with the files.
        rows_at_once
            Maximum number of rows per transaction. A larger file still gets a single transaction.

        Raises
        ------
        ArtefactError
            The champion cannot be loaded, or cannot score a row.
        TableError
            The table has no row of any of the files.
        DatabaseError
            The database does not respond. Committed files are done, and all other files wait.
        """
        waiting = [file.digest for file in self._zone.landed()]
        if not waiting:
            return BatchOutcome()
        try:
            live = self._champions.load(self._declared.model)
        except NoChampion as error:
            return BatchOutcome(waiting=len(waiting), reason=str(error))
        counts = _rows_per_file(landed, waiting)
        if not counts:
            raise TableError(
                f"{self._declared.landed.name} contains no rows of the waiting files, for example of {waiting[0]}; "
                "materialise it again"
            )
        files = rows = 0
        for digests in _groups(counts, rows_at_once):
            frame = as_frame(landed.filter(landed[DIGEST].isin(digests)).order_by(DIGEST, LINE))
            done = self._store(predicted(live, frame, self._declared), digests, run)
            files += len(done)
            rows += sum(counts[digest] for digest in done)
        later = len(waiting) - len(counts)
        reason = f"their rows are not in the version of {self._declared.landed.name} that this run read"
        return BatchOutcome(files, rows, later, reason if later else "", live)

    def _store(self, predictions: Frame, digests: Sequence[str], run: str) -> set[str]:
        """Store the predictions of the files that are not processed yet, and return these files."""
        with plain_errors(self._declared.table.name), self._connect() as connection, connection.transaction():
            new = self._zone.mark_processed(connection, digests, run)
            self._stored.add(connection, plain_rows(predictions[predictions[DIGEST].isin(new)]))
        return new


def adopt_lost(stored: StoredPredictions, tables: TableStore, table: str) -> None:
    """Copy predictions from the lake to the database if the database lacks them.

    The database lacks predictions if it was restored from an older backup. Without the copy, the same files would be
    predicted again, perhaps by another model version.

    Parameters
    ----------
    stored
        The predictions in the database.
    tables
        Store of the tables in the lake.
    table
        Name of the table.

    Raises
    ------
    TableError, DatabaseError
        The lake or the database cannot be read.
    """
    in_database = stored.last_batch()
    if tables.last_batch(table) > in_database:
        lake = tables.scan(table)
        stored.adopt(lake.filter(lake[PREDICTED_AT] > batch_time(in_database)).to_pyarrow())


def predicted(live: LiveModel, rows: Frame, declared: BatchPredictions) -> Frame:
    """Return the predictions for landed rows: the columns of the declared table, except the time.

    Parameters
    ----------
    live
        The model version that scores all rows.
    rows
        (n, columns) rows of the landed table.
    declared
        Declaration of the batch predictions.

    Raises
    ------
    ArtefactError
        The rows do not fit the model, or a score is not a number. The message names file and line. Also raised
        if the model makes no decisions.
    """
    import numpy as np
    import pandas as pd

    scores = live.model.outputs(rows)
    decided = live.model.output.decide(scores, live.threshold)
    if decided is None:
        raise ArtefactError(
            f"version {live.version} of {live.name} makes no decisions, but {declared.table.name} stores decisions "
            f"in the column {declared.positive}; approve a classifier"
        )
    if not np.isfinite(scores).all():
        first = rows.iloc[int(np.argmin(np.isfinite(scores)))]
        raise ArtefactError(
            f"version {live.version} of {live.name} gives a score that is not finite for line {first[LINE]} of the "
            f"file {first[DIGEST]}; approve another version"
        )
    outside = live.model.outside_training_range(rows)
    by_model: dict[str, Any] = {
        PROBABILITY: scores,
        declared.positive: decided,
        "threshold": live.threshold,
        "model_version": live.version,
        "approval_id": live.approval_id,
        OUTSIDE: pd.array([None] * len(rows) if outside is None else outside, dtype="boolean"),
    }
    columns = [column.name for column in declared.table.columns if column.name != PREDICTED_AT]
    return rows.assign(**by_model)[columns]


def _rows_per_file(landed: Expression, digests: Sequence[str]) -> dict[str, int]:
    """Return the number of rows of each file that has rows, in the order of the digests."""
    found = landed.filter(landed[DIGEST].isin(digests)).group_by(DIGEST).agg(rows=lambda files: files.count())
    counts = {row[DIGEST]: row["rows"] for row in found.to_pyarrow().to_pylist()}
    return {digest: counts[digest] for digest in digests if digest in counts}


def _groups(counts: dict[str, int], rows_at_once: int) -> Iterator[list[str]]:
    """Yield groups of files with at most `rows_at_once` rows in total. A file with more rows is its own group."""
    group: list[str] = []
    rows = 0
    for digest, count in counts.items():
        if group and rows + count > rows_at_once:
            yield group
            group, rows = [], 0
        group.append(digest)
        rows += count
    if group:
        yield group


def plain_rows(frame: Frame) -> Iterator[tuple[Any, ...]]:
    """Yield the rows as tuples of plain Python values, with None for missing values."""
    columns = (_plain(frame[name]) for name in frame.columns)
    return zip(*columns, strict=True)


def _plain(values: Any) -> list[Any]:
    return [None if missing else value for value, missing in zip(values.tolist(), values.isna(), strict=True)]
