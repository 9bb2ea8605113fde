"""Publishing: staged rows become a table's newest version in one commit, whoever else publishes meanwhile."""

from __future__ import annotations

import random
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from platform_assets.base.errors import TableError
from platform_assets.engine.staged_files import WHOLE
from platform_assets.lake.table_versions import commit_metadata, commit_properties, newest, version_in_commit
from platform_assets.lake.uploads import Uploads

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    import pyarrow as pa
    from deltalake import DeltaTable, Schema

    from platform_assets.engine.staged_files import Staged
    from platform_assets.lake.lake_location import LakeLocation
    from platform_assets.lake.table_versions import TableVersion

_ATTEMPTS = 50
_LONGEST_WAIT = 0.5
_FOREVER = "interval 36500 days"


def publish(
    location: LakeLocation,
    name: str,
    staged: Staged,
    metadata: Mapping[str, Any],
    partitions: Collection[str],
) -> TableVersion:
    """Make staged rows the current version; see `TableStore.publish`."""
    _refuse_strays(name, staged, partitions)
    with location.plain_errors(name, "was not published, and its last version stays current"):
        uploads = Uploads(location.files(name), None if location.is_remote else Path(location.uri(name)), staged)
        for attempt in range(_ATTEMPTS):
            published = _publish_once(location, name, staged, uploads, partitions, metadata)
            if published is not None:
                return published
            # Chance keeps writers from meeting again and again.
            time.sleep(random.uniform(0, min(_LONGEST_WAIT, 0.01 * 2**attempt)))  # noqa: S311 - no secret
    raise TableError(f"{name}: {_ATTEMPTS} times another writer was faster; run it again")


def _publish_once(
    location: LakeLocation,
    name: str,
    staged: Staged,
    uploads: Uploads,
    partitions: Collection[str],
    metadata: Mapping[str, Any],
) -> TableVersion | None:
    from deltalake.exceptions import CommitFailedError

    table = location.find(name)
    if table is None:
        return _create(location, name, staged, uploads, metadata)
    base = newest(name, table)
    schema = _delta_schema(staged.schema)
    _refuse_other_shape(name, table, staged, schema, in_part=bool(partitions))
    parts = _parts_after(base, staged, partitions)
    if base.parts == parts and table.schema() == schema:
        return base
    if _lacks_plain_timestamps(table, schema):
        _add_plain_timestamps(table)
        return None
    changed = [value for value in {*parts, *base.parts} if base.parts.get(value) != parts.get(value)]
    is_whole = not staged.partition_by or set(changed) >= set(base.parts)
    committed = commit_metadata(table.version() + 1, parts, metadata)
    try:
        table.create_write_transaction(
            [*uploads.actions(value for value in changed if value in staged.parts)],
            "overwrite",
            schema,
            partition_by=staged.partition_by,
            partition_filters=None if is_whole else [(staged.partition_by or WHOLE, "in", changed)],
            commit_properties=commit_properties(committed),
        )
    except CommitFailedError:
        return None
    return version_in_commit(name, committed)


def _create(
    location: LakeLocation, name: str, staged: Staged, uploads: Uploads, metadata: Mapping[str, Any]
) -> TableVersion | None:
    from deltalake.exceptions import DeltaError
    from deltalake.transaction import create_table_with_add_actions

    committed = commit_metadata(0, _parts_after(None, staged, ()), metadata)
    try:
        create_table_with_add_actions(
            location.uri(name),
            _delta_schema(staged.schema),
            uploads.actions(staged.parts),
            mode="error",
            partition_by=staged.partition_by,
            # Versions are kept as long as `vacuum` says; the log must not forget them earlier.
            configuration={"delta.logRetentionDuration": _FOREVER},
            storage_options=location.options,
            commit_properties=commit_properties(committed),
        )
    except DeltaError:
        # Another writer may have made it first; delta-rs has several words for that.
        if location.find(name) is None:
            raise
        return None
    return version_in_commit(name, committed)


def _parts_after(base: TableVersion | None, staged: Staged, partitions: Collection[str]) -> dict[str, tuple[str, int]]:
    kept = {value: part for value, part in base.parts.items() if value not in partitions} if base and partitions else {}
    return kept | {value: (part.digest, part.rows) for value, part in staged.parts.items()}


def _refuse_strays(name: str, staged: Staged, partitions: Collection[str]) -> None:
    if isinstance(partitions, str):
        raise TypeError(f"partitions is a collection of values, not one: [{partitions!r}]")
    if partitions and not staged.partition_by:
        raise TableError(f"{name}: partitions {sorted(partitions)} are named, but the rows are staged without any")
    stray = set(staged.parts) - set(partitions) if partitions else set()
    if stray:
        raise TableError(f"{name}: rows of partitions {sorted(stray)} among those of {sorted(partitions)}")


def _refuse_other_shape(name: str, table: DeltaTable, staged: Staged, schema: Schema, *, in_part: bool) -> None:
    found, given = table.metadata().partition_columns, [staged.partition_by] if staged.partition_by else []
    if found != given:
        state = f"{name} is partitioned by {found or 'nothing'}, the rows by {given or 'nothing'}"
        raise TableError(f"{state}; publish under another name, or remove {table.table_uri} first")
    if in_part:
        lost = [one.name for one in table.schema().fields if one not in schema.fields]
        if lost:
            reason = f"columns {lost} of {name} are missing, or of another type, in the rows of some partitions"
            raise TableError(f"{reason}; columns can only be added, unless the whole table is published")


def _lacks_plain_timestamps(table: DeltaTable, schema: Schema) -> bool:
    return '"timestamp_ntz"' in schema.to_json() and "timestampNtz" not in (table.protocol().reader_features or [])


def _add_plain_timestamps(table: DeltaTable) -> None:
    from deltalake import TableFeatures
    from deltalake.exceptions import CommitFailedError

    # Who loses here finds on the next attempt that it is done, or tries again.
    with suppress(CommitFailedError):
        table.alter.add_feature(TableFeatures.TimestampWithoutTimezone, allow_protocol_versions_increase=True)


def _delta_schema(schema: pa.Schema) -> Schema:
    from deltalake import Schema

    return Schema.from_arrow(schema)
