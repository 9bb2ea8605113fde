"""Publish the validated rows of a lake table and its quarantine, in an order in which a crash loses no rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from platform_assets.engine.query_engine import Engine
    from platform_assets.engine.row_batch import RowBatch
    from platform_assets.engine.staged_files import Staged
    from platform_assets.lake.delta_tables import TableStore
    from platform_assets.lake.lineage import Lineage
    from platform_assets.lake.table_versions import TableVersion
    from platform_assets.lake.validation import Validated


class Publisher:
    """Publishes the tables of one step.

    Parameters
    ----------
    tables
        Store of the tables in the lake.
    engine
        The engine that staged the rows.
    metadata
        JSON values to store with each version.
    lineage
        Function that takes the name of a table and returns its lineage. If it returns None, rows are replaced even if
        they were made from newer inputs.
    """

    def __init__(
        self,
        tables: TableStore,
        engine: Engine,
        metadata: Mapping[str, Any],
        lineage: Callable[[str], Lineage | None],
    ) -> None:
        self._tables = tables
        self._engine = engine
        self._metadata = metadata
        self._lineage = lineage

    def publish(
        self, name: str, quarantine: str, validated: Validated, partitions: Collection[str] = ()
    ) -> TableVersion:
        """Publish the bad rows, then the good rows, then call the batch's `published`, if there is a batch.

        A batch is added to the table; other rows replace the table, or the given partitions.
        """
        self.publish_bad(quarantine, validated)
        version = self._commit(name, validated.table, validated.batch, partitions)
        if validated.batch:
            validated.batch.published(self._engine.staged(validated.table))
        return version

    def publish_bad(self, quarantine: str, validated: Validated) -> None:
        """Publish the bad rows of a source. Do this first, so that a crash before the next commit loses no rows."""
        if validated.quarantine:
            self._commit(quarantine, validated.quarantine, validated.batch)

    def _commit(
        self, name: str, staged: Staged, batch: RowBatch | None, partitions: Collection[str] = ()
    ) -> TableVersion:
        metadata, lineage = self._metadata, self._lineage(name)
        if batch is None:
            return self._tables.publish(name, staged, metadata=metadata, partitions=partitions, lineage=lineage)
        return self._tables.append(name, staged, batch.number, metadata=metadata, lineage=lineage)
