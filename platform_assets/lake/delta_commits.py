"""Publish staged rows as a table's newest version in one commit, safe with concurrent writers."""

from __future__ import annotations

import random
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from platform_assets.base.errors import TableError
from platform_assets.engine.staged_files import WHOLE, short_sha
from platform_assets.lake.lineage import Lineage, newest_of
from platform_assets.lake.table_damage import place_of, refuse_foreign_features
from platform_assets.lake.table_files import broken_files, broken_partitions, sync_commit, sync_files
from platform_assets.lake.table_versions import (
    commit_metadata,
    commit_properties,
    last_batch,
    newest,
    version_in_commit,
)
from platform_assets.lake.undone_loads import UNDONE, refuse_undone
from platform_assets.lake.uploads import Uploads

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    import pyarrow as pa
    from deltalake import DeltaTable, Field, Schema
    from deltalake.transaction import AddAction, RemoveAction

    from platform_assets.engine.staged_files import Staged
    from platform_assets.lake.lake_location import LakeLocation
    from platform_assets.lake.table_versions import TableVersion

_ATTEMPTS = 50
_LONGEST_WAIT = 0.5
"""Longest wait between two attempts, in seconds."""
_FOREVER = "interval 36500 days"


@dataclass(frozen=True)
class Publication:
    """Staged rows to publish as the next version of a table.

    Attributes
    ----------
    name
        Name of the table.
    staged
        The staged rows.
    metadata
        JSON values to store with the version.
    partitions
        Values of the partitions to replace; empty for the whole table.
    lineage
        The input versions of the rows. If None, rows may be replaced even if they were made from newer inputs.
    batch
        Number of the batch to add to the table; None to replace rows.
    """

    name: str
    staged: Staged
    metadata: Mapping[str, Any]
    partitions: Collection[str] = ()
    lineage: Lineage | None = None
    batch: int | None = None

    def parts_after(self, base: TableVersion | None) -> dict[str, tuple[str, int]]:
        """Return the digest and row count of each partition after this publication."""
        kept = base.parts if base and self.partitions else {}
        kept = {value: part for value, part in kept.items() if value not in self.partitions}
        return kept | {value: (part.digest, part.rows) for value, part in self.staged.parts.items()}

    def made_from_after(self, base: TableVersion | None) -> dict[str, Mapping[str, int]]:
        """Return the input versions of each partition after this publication."""
        before = base.made_from if base else {}
        old_parts = base.parts if base else {}
        versions = self.lineage.versions if self.lineage else {}
        affected = self.partitions or {*before, *old_parts, *self.staged.parts}
        after = dict(before)
        for value in affected:
            part = self.staged.parts.get(value)
            is_equal = part is not None and old_parts.get(value, ("", 0))[0] == part.digest
            after[value] = newest_of(before.get(value, {}), versions) if is_equal else versions
        return {value: made_from for value, made_from in sorted(after.items()) if made_from}


def publish(location: LakeLocation, publication: Publication) -> TableVersion:
    """Make staged rows the current version; see `TableStore.publish`."""
    name, staged = publication.name, publication.staged
    _refuse_strays(name, staged, publication.partitions)
    with location.plain_errors(name, "was not published, and its last version stays current"):
        uploads = Uploads(location.files(name), None if location.is_remote else Path(location.uri(name)), staged)
        for attempt in range(_ATTEMPTS):
            published = _publish_once(location, publication, uploads)
            if published is not None:
                return published
            # A random wait keeps two writers from colliding again.
            time.sleep(random.uniform(0, min(_LONGEST_WAIT, 0.01 * 2**attempt)))  # noqa: S311 - no secret
    raise TableError(
        f"{name} was not published: other writers committed first in all {_ATTEMPTS} attempts; run the asset again"
    )


def _publish_once(location: LakeLocation, publication: Publication, uploads: Uploads) -> TableVersion | None:
    """Try one commit. Return None if another writer committed first."""
    name, staged = publication.name, publication.staged
    table = location.find(name)
    if table is None:
        return _create(location, publication, uploads)
    base = newest(name, table)
    refuse_foreign_features(name, table, to_write=True)
    refuse_undone(base, publication.metadata)
    if publication.batch is not None:
        return _append(location, publication, publication.batch, uploads, table, base)
    schema = _delta_schema(staged.schema)
    _refuse_other_shape(name, table, staged, schema, in_part=bool(publication.partitions))
    parts = publication.parts_after(base)
    broken = broken_partitions(table, staged.partition_by, broken_files(location, name, table))
    changed = {value for value in {*parts, *base.parts} if base.parts.get(value) != parts.get(value)}
    if table.schema() != schema and not publication.partitions:
        changed = {*parts, *base.parts}
    made_from = publication.made_from_after(base)
    if publication.lineage:
        _refuse_stale(publication.lineage, base, changed, in_part=bool(publication.partitions))
    # Also rewrite partitions whose files are missing or damaged.
    changed |= broken & set(staged.parts)
    if not changed and table.schema() == schema:
        return _unchanged(location, publication, table, base, made_from)
    if _lacks_plain_timestamps(table, schema):
        _add_plain_timestamps(table)
        return None
    is_whole = not staged.partition_by or changed >= set(base.parts)
    committed = commit_metadata(table.version() + 1, parts, publication.metadata, made_from)
    actions: list[AddAction | RemoveAction] = [*uploads.actions(sorted(changed & set(staged.parts)))]
    filters = None if is_whole else [(staged.partition_by or WHOLE, "in", sorted(changed))]
    return commit(location, table, name, committed, actions, (schema, filters))


def _append(
    location: LakeLocation,
    publication: Publication,
    batch: int,
    uploads: Uploads,
    table: DeltaTable,
    base: TableVersion,
) -> TableVersion | None:
    """Add the rows, unless the table has this batch or there are no rows. Return None if another writer was first.

    The files that are already in the table are not read, so the cost does not grow with their number.
    """
    name, staged = publication.name, publication.staged
    schema = _delta_schema(staged.schema)
    _refuse_other_shape(name, table, staged, schema, in_part=True)
    if batch <= last_batch(table) or not staged.rows:
        return base
    if _lacks_plain_timestamps(table, schema):
        _add_plain_timestamps(table)
        return None
    if added := [field for field in schema.fields if field not in table.schema().fields]:
        _add_columns(table, added)
        return None
    digest = f"batches:{short_sha([base.digest, staged.digest])}"
    made_from = newest_of(base.made_from.get(WHOLE, {}), publication.lineage.versions if publication.lineage else {})
    committed = commit_metadata(
        table.version() + 1,
        {WHOLE: (digest, base.rows + staged.rows)},
        publication.metadata,
        {WHOLE: made_from} if made_from else {},
        batch=batch,
    )
    return commit(location, table, name, committed, [*uploads.actions([WHOLE])], None)


def _unchanged(
    location: LakeLocation,
    publication: Publication,
    table: DeltaTable,
    base: TableVersion,
    made_from: Mapping[str, Mapping[str, int]],
) -> TableVersion | None:
    """Return the current version, because the rows are unchanged. Commit new metadata if the inputs have changed.

    The commit has no data files. It records the newer inputs, so that a run with older inputs cannot replace the rows.

    If an input has no version number, such as a source file, commit even if the recorded inputs are equal. The file may
    have been replaced and restored, and the commit makes it possible to refuse a run that read the replacement. Do not
    commit if another run changed the table since the step began.
    """
    lineage = publication.lineage
    is_current = lineage is not None and lineage.before is not None and not _has_changed(lineage, base, None)
    if lineage is None or (made_from == base.made_from and (lineage.is_ordered or not is_current)):
        return base
    at = round(base.committed_at.timestamp() * 1000)
    # Keep the record of a rollback, because the restored rows are still current.
    undone = {UNDONE: base.metadata[UNDONE]} if UNDONE in base.metadata else {}
    committed = commit_metadata(base.version, base.parts, {**publication.metadata, **undone}, made_from, at)
    return commit(location, table, base.name, committed, [], None)


def commit(
    location: LakeLocation,
    table: DeltaTable,
    name: str,
    committed: Mapping[str, Any],
    actions: list[AddAction | RemoveAction],
    replaced: tuple[Schema, list[tuple[str, str, Any]] | None] | None,
) -> TableVersion | None:
    """Commit files and metadata. Return None if another writer committed first.

    Parameters
    ----------
    location, table, name
        The table, open at its newest version.
    committed
        Metadata of the commit.
    actions
        Files to add. When appending, also files to remove.
    replaced
        None to append. To overwrite, the new schema and the filters of the partitions to overwrite; filters of None
        overwrite the whole table.
    """
    from deltalake.exceptions import CommitFailedError

    schema, filters = replaced or (table.schema(), None)
    number = table.version() + 1
    sync_files(location, name, actions)
    try:
        table.create_write_transaction(
            actions,
            "overwrite" if replaced else "append",
            schema,
            partition_by=table.metadata().partition_columns or None,
            partition_filters=filters,
            commit_properties=commit_properties(committed),
        )
    except CommitFailedError:
        return None
    sync_commit(location, name, number)
    return version_in_commit(name, committed, number)


def _create(location: LakeLocation, publication: Publication, uploads: Uploads) -> TableVersion | None:
    from deltalake.exceptions import DeltaError
    from deltalake.transaction import create_table_with_add_actions

    name, staged = publication.name, publication.staged
    parts, made_from = publication.parts_after(None), publication.made_from_after(None)
    committed = commit_metadata(0, parts, publication.metadata, made_from, batch=publication.batch)
    actions = uploads.actions(staged.parts)
    sync_files(location, name, actions)
    try:
        create_table_with_add_actions(
            location.uri(name),
            _delta_schema(staged.schema),
            actions,
            mode="error",
            partition_by=staged.partition_by,
            # Never expire log entries, because `vacuum` decides how long old versions stay readable.
            configuration={"delta.logRetentionDuration": _FOREVER},
            storage_options=location.options,
            commit_properties=commit_properties(committed),
        )
    except DeltaError:
        # delta-rs raises various errors if another writer created the table first. Try again in this case.
        if location.find(name) is None:
            raise
        return None
    sync_commit(location, name, 0)
    return version_in_commit(name, committed, 0)


def _refuse_stale(lineage: Lineage, base: TableVersion, changed: Collection[str], *, in_part: bool) -> None:
    if not changed:
        return
    recorded = [base.made_from.get(value, {}) for value in changed if value in base.parts or value in base.made_from]
    lineage.refuse_stale(base.name, recorded, has_changed=_has_changed(lineage, base, changed if in_part else None))


def _has_changed(lineage: Lineage, base: TableVersion, partitions: Iterable[str] | None) -> bool:
    """Whether a commit changed the table, or one of the given partitions, since the step began."""
    before: Any = lineage.before
    if partitions is None:
        return before is None or before.log_version != base.log_version
    parts, made_from = (before.parts, before.made_from) if before else ({}, {})
    return any(
        (parts.get(value), made_from.get(value)) != (base.parts.get(value), base.made_from.get(value))
        for value in partitions
    )


def _refuse_strays(name: str, staged: Staged, partitions: Collection[str]) -> None:
    if isinstance(partitions, str):
        raise TypeError(f"partitions must be a collection of values: use [{partitions!r}]")
    if partitions and not staged.partition_by:
        raise TableError(
            f"{name}: partitions {sorted(partitions)} were given, but the staged rows have no partition column"
        )
    stray = set(staged.parts) - set(partitions) if partitions else set()
    if stray:
        raise TableError(
            f"{name}: rows of partitions {sorted(stray)} are staged, but only {sorted(partitions)} are to be replaced"
        )


def _refuse_other_shape(name: str, table: DeltaTable, staged: Staged, schema: Schema, *, in_part: bool) -> None:
    found, given = table.metadata().partition_columns, [staged.partition_by] if staged.partition_by else []
    if found != given:
        state = f"{name} is partitioned by {found or 'nothing'}, but the staged rows are partitioned by"
        raise TableError(f"{state} {given or 'nothing'}; publish under another name, or delete {place_of(table)} first")
    if in_part:
        lost = [one.name for one in table.schema().fields if one not in schema.fields]
        if lost:
            reason = f"columns {lost} of {name} are missing from the staged rows, or have another type"
            raise TableError(
                f"{reason}. Publishing single partitions or a batch can only add columns; to drop or retype a "
                "column, publish the whole table, or delete it and load it again"
            )


def _lacks_plain_timestamps(table: DeltaTable, schema: Schema) -> bool:
    return '"timestamp_ntz"' in schema.to_json() and "timestampNtz" not in (table.protocol().reader_features or [])


def _add_plain_timestamps(table: DeltaTable) -> None:
    from deltalake import TableFeatures
    from deltalake.exceptions import CommitFailedError

    # Ignore a conflict with another writer. The next attempt checks again whether the table has the feature.
    with suppress(CommitFailedError):
        table.alter.add_feature(TableFeatures.TimestampWithoutTimezone, allow_protocol_versions_increase=True)


def _add_columns(table: DeltaTable, fields: list[Field]) -> None:
    from deltalake.exceptions import CommitFailedError

    # delta-rs ignores the new columns of appended files, so these columns are added in a separate commit.
    with suppress(CommitFailedError):
        table.alter.add_columns(fields)


def _delta_schema(schema: pa.Schema) -> Schema:
    from deltalake import Schema

    return Schema.from_arrow(schema)
