"""Tables in the lake: Delta Lake tables by name, version and partition, in a folder or an object store.

A write is one atomic commit; its metadata carry the content digest of every partition, so that the
same rows again make no new version. What is in the rows is nobody's business here.
"""

from __future__ import annotations

import math
import random
import re
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from platform_assets.base.errors import TableError
from platform_assets.base.logs import redact, shown
from platform_assets.engine.query_engine import WHOLE, as_frame, combined_digest, is_full
from platform_assets.lake.uploads import Uploads

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    import pyarrow as pa
    import pyarrow.fs as pafs
    from deltalake import DeltaTable, Schema
    from deltalake.transaction import CommitProperties

    from platform_assets.base.frames import Expression, Frame
    from platform_assets.engine.query_engine import Engine, Staged

MEMORY = "memory://"
_METADATA = "platform_assets"
_ATTEMPTS = 50
_LONGEST_WAIT = 0.5
_LONGEST_REASON = 500
_FOREVER = "interval 36500 days"
# Commits that change no rows.
_MAINTENANCE = {"VACUUM START", "VACUUM END", "OPTIMIZE", "ADD FEATURE", "SET TBLPROPERTIES"}
# delta-rs' own bounds are 10 attempts within 3 minutes; a store that is down should be reported sooner.
_PATIENCE = {"retry_timeout": "20s", "connect_timeout": "5s"}


@dataclass(frozen=True)
class TableVersion:
    """One version of a table, as its commit describes it.

    Attributes
    ----------
    name
        The table.
    version
        Delta version; grows, with gaps where maintenance took a number.
    digest
        Content digest of all rows.
    rows
        Number of rows.
    committed_at
        When, UTC.
    metadata
        What the writer said of it: asset, run, inputs, whether the data are demo data.
    parts
        Digest and rows by partition.
    """

    name: str
    version: int
    digest: str
    rows: int
    committed_at: datetime
    metadata: Mapping[str, Any] = field(default_factory=dict)
    parts: Mapping[str, tuple[str, int]] = field(default_factory=dict)


class TableStore:
    """The tables below one location.

    Parameters
    ----------
    uri
        A folder, an object store's URI, or `memory://` for a private store that ends with the engine.
    engine
        What reads rows.
    storage_options
        Options for the object store; its usual environment variables count as well. Failures that pass
        (refused connections, time-outs, answers 429 and 5xx) are tried again by delta-rs, for 20 seconds at most.

    Raises
    ------
    TableError
        The folder cannot be a lake's.
    """

    def __init__(self, uri: str, engine: Engine, storage_options: Mapping[str, str] | None = None) -> None:
        self._root = str(engine.folder("lake")) if uri.startswith(MEMORY) else _location(uri)
        self._engine = engine
        self._options = (_PATIENCE if self._is_remote else {}) | dict(storage_options or {})

    @property
    def _is_remote(self) -> bool:
        return "://" in self._root

    def uri(self, name: str) -> str:
        """Where a table lies."""
        return f"{self._root}/{name}"

    def exists(self, name: str) -> bool:
        """Whether a table has any version.

        Raises
        ------
        TableError
            The store cannot be reached.
        """
        return self._found(name) is not None

    def current(self, name: str) -> TableVersion | None:
        """The newest version, or None where the table does not exist yet.

        Raises
        ------
        TableError
            The store cannot be reached, or another program changed the table.
        """
        table = self._found(name)
        if table is None:
            return None
        with self._plain_errors(name, "cannot be read"):
            return _newest(name, table)

    def versions(self, name: str, limit: int | None = None) -> list[TableVersion]:
        """The versions, newest first.

        Raises
        ------
        TableError
            There is no such table, or the store cannot be reached.
        """
        table = self._open(name)
        with self._plain_errors(name, "cannot be read"):
            return [_described(name, entry[_METADATA]) for entry in table.history() if _METADATA in entry][:limit]

    def read(self, name: str, *, version: int | None = None, columns: list[str] | None = None) -> Frame:
        """A table as a pandas frame.

        Raises
        ------
        TableError
            There is no such table or version, its files were removed, or the store cannot be reached.
        """
        expression = self.scan(name, version=version)
        with self._plain_errors(name, "cannot be read"):
            return as_frame(expression.select(columns) if columns else expression)

    def scan(self, name: str, *, version: int | None = None) -> Expression:
        """A table as an expression, which streams; partition columns included.

        It stays with the version that was current when it was made.

        Raises
        ------
        TableError
            There is no such table or version, its files were removed, or the store cannot be reached.
        """
        table = self._open(name, version)
        if version is not None:
            self._refuse_removed(name, table)
        with self._plain_errors(name, "cannot be read"):
            return self._engine.dataset(table.to_pyarrow_dataset())

    def publish(
        self,
        name: str,
        staged: Staged,
        *,
        metadata: Mapping[str, Any] | None = None,
        partitions: Collection[str] = (),
    ) -> TableVersion:
        """Make staged rows the current version, in one commit, or not at all.

        Without `partitions` the staged rows replace the whole table, columns included; with them, they replace
        just those partitions (one without staged rows becomes empty). Where nothing changes there is no new version.

        Parameters
        ----------
        name
            The table.
        staged
            The rows.
        metadata
            Kept with the version; JSON values.
        partitions
            Values of the staged partition column.

        Raises
        ------
        TableError
            Rows outside the named partitions; other columns or partitions than the table has, where that cannot
            be; other writers were faster too often; no space left, or the store cannot be reached.
        """
        _refuse_strays(name, staged, partitions)
        with self._plain_errors(name, "was not published, and its last version stays current"):
            uploads = Uploads(self._files(name), None if self._is_remote else Path(self.uri(name)), staged)
            for attempt in range(_ATTEMPTS):
                published = self._publish_once(name, staged, uploads, partitions, metadata or {})
                if published is not None:
                    return published
                # Chance keeps writers from meeting again and again.
                time.sleep(random.uniform(0, min(_LONGEST_WAIT, 0.01 * 2**attempt)))  # noqa: S311 - no secret
        raise TableError(f"{name}: {_ATTEMPTS} times another writer was faster; run it again")

    def vacuum(self, name: str, retention: timedelta, keep_versions: Collection[int] = ()) -> int:
        """Remove the files that only versions older than the retention need; says how many.

        Files of writers that were killed go as well. A retention shorter than a publication takes would remove
        the files of one at work.

        Parameters
        ----------
        name
            The table.
        retention
            Age up to which every version stays readable, in whole hours, rounded up.
        keep_versions
            Versions that stay readable whatever their age; those that the table does not have do not matter.

        Raises
        ------
        TableError
            There is no such table, or the store cannot be reached.
        """
        table = self._open(name)
        with self._plain_errors(name, "was not cleaned"):
            # What delta-rs reports includes files that went long ago, as long as the log names them.
            before = self._stored_files(name)
            table.vacuum(
                retention_hours=math.ceil(retention / timedelta(hours=1)),
                dry_run=False,
                enforce_retention_duration=False,
                full=True,
                # Models outlive a lake that was lost.
                keep_versions=sorted(version for version in keep_versions if version <= table.version()),
            )
            return len(before - self._stored_files(name)) + self._remove_halves(name, retention)

    def _remove_halves(self, name: str, retention: timedelta) -> int:
        # In a folder delta-rs writes to `<file>#<number>` and renames. It does not see those of killed writers
        # any more; an object store drops uploads that were not completed by a rule of the bucket.
        if self._is_remote:
            return 0
        oldest = time.time() - retention.total_seconds()
        halves = [path for path in Path(self.uri(name)).rglob("*#*") if path.stat().st_mtime < oldest]
        for half in halves:
            half.unlink()
        return len(halves)

    def _stored_files(self, name: str) -> set[str]:
        import pyarrow.fs as pafs

        return {info.path for info in self._files(name).get_file_info(pafs.FileSelector("")) if info.is_file}

    def _found(self, name: str, version: int | None = None) -> DeltaTable | None:
        from deltalake import DeltaTable
        from deltalake.exceptions import TableNotFoundError

        if not self._is_remote and not Path(self.uri(name), "_delta_log").is_dir():
            return None
        with self._plain_errors(name, "cannot be opened"):
            try:
                return DeltaTable(self.uri(name), version=version, storage_options=self._options)
            except TableNotFoundError:
                return None

    def _open(self, name: str, version: int | None = None) -> DeltaTable:
        table = self._found(name)
        if table is None:
            raise TableError(f"there is no table {name} yet; materialise the asset first")
        if version is None or version == table.version():
            return table
        if not 0 <= version < table.version():
            raise TableError(f"{name} has no version {version}; the newest is {table.version()}")
        with self._plain_errors(name, f"has no version {version} that can be read"):
            table.load_as_version(version)
        return table

    def _refuse_removed(self, name: str, table: DeltaTable) -> None:
        import pyarrow.fs as pafs

        with self._plain_errors(name, "cannot be read"):
            infos = self._files(name).get_file_info(_paths(table))
        missing = sum(info.type == pafs.FileType.NotFound for info in infos)
        if missing:
            reason = f"{missing} of its {len(infos)} files were removed after the retention (PLATFORM_RETENTION_DAYS)"
            raise TableError(f"version {table.version()} of {name} cannot be read any more: {reason}")

    def _files(self, name: str) -> pafs.FileSystem:
        import pyarrow.fs as pafs
        from deltalake.fs import DeltaStorageHandler

        if not self._is_remote:
            Path(self.uri(name)).mkdir(parents=True, exist_ok=True)
        return pafs.PyFileSystem(DeltaStorageHandler(self.uri(name), self._options))

    def _publish_once(
        self,
        name: str,
        staged: Staged,
        uploads: Uploads,
        partitions: Collection[str],
        metadata: Mapping[str, Any],
    ) -> TableVersion | None:
        from deltalake.exceptions import CommitFailedError

        table = self._found(name)
        if table is None:
            return self._create(name, staged, uploads, metadata)
        base = _newest(name, table)
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
        described = _description(table.version() + 1, parts, metadata)
        try:
            table.create_write_transaction(
                [*uploads.actions(value for value in changed if value in staged.parts)],
                "overwrite",
                schema,
                partition_by=staged.partition_by,
                partition_filters=None if is_whole else [(staged.partition_by or WHOLE, "in", changed)],
                commit_properties=_properties(described),
            )
        except CommitFailedError:
            return None
        return _described(name, described)

    def _create(self, name: str, staged: Staged, uploads: Uploads, metadata: Mapping[str, Any]) -> TableVersion | None:
        from deltalake.exceptions import DeltaError
        from deltalake.transaction import create_table_with_add_actions

        described = _description(0, _parts_after(None, staged, ()), metadata)
        try:
            create_table_with_add_actions(
                self.uri(name),
                _delta_schema(staged.schema),
                uploads.actions(staged.parts),
                mode="error",
                partition_by=staged.partition_by,
                # Versions are kept as long as `vacuum` says; the log must not forget them earlier.
                configuration={"delta.logRetentionDuration": _FOREVER},
                storage_options=self._options,
                commit_properties=_properties(described),
            )
        except DeltaError:
            # Another writer may have made it first; delta-rs has several words for that.
            if self._found(name) is None:
                raise
            return None
        return _described(name, described)

    @contextmanager
    def _plain_errors(self, name: str, outcome: str) -> Iterator[None]:
        import duckdb
        import pyarrow as pa
        from deltalake.exceptions import DeltaError

        try:
            yield
        except (OSError, DeltaError, pa.ArrowException, duckdb.Error) as error:
            where = shown(self._root)
            if is_full(error):
                raise TableError(f"{name} {outcome}: no space left on {where}; make some and run again") from error
            raise TableError(f"{name} in {where} {outcome}: {_without_secrets(str(error), self._options)}") from None


def _newest(name: str, table: DeltaTable) -> TableVersion:
    number = table.transaction_version(_METADATA)
    if number is None:
        raise TableError(f"{name} was not written by the platform; remove it, or publish under another name")
    # The log is read anew, and may have grown since the table was opened.
    limit = table.version() - number + 1
    while True:
        entries = table.history(limit)
        for entry in entries:
            ours = entry.get(_METADATA)
            if ours and ours["version"] == number:
                return _described(name, ours)
            if not ours and entry["operation"] not in _MAINTENANCE:
                change = f"{entry['operation']} after version {number}"
                raise TableError(f"{name} was changed by another program ({change}); remove it and publish it again")
        if len(entries) < limit:
            raise TableError(f"{name}: the log does not have version {number}; remove the table and publish it again")
        limit *= 2


def _description(version: int, parts: Mapping[str, tuple[str, int]], metadata: Mapping[str, Any]) -> dict[str, Any]:
    return {"version": version, "at": int(time.time() * 1000), "parts": dict(parts), "metadata": dict(metadata)}


def _described(name: str, ours: Mapping[str, Any]) -> TableVersion:
    parts = {value: (digest, rows) for value, (digest, rows) in ours["parts"].items()}
    return TableVersion(
        name=name,
        version=ours["version"],
        digest=combined_digest({value: digest for value, (digest, _) in parts.items()}),
        rows=sum(rows for _, rows in parts.values()),
        committed_at=datetime.fromtimestamp(ours["at"] / 1000, UTC),
        metadata=ours["metadata"],
        parts=parts,
    )


def _properties(described: Mapping[str, Any]) -> CommitProperties:
    from deltalake import CommitProperties, Transaction

    return CommitProperties(
        custom_metadata={_METADATA: described},
        # A table knows by this, for each of its versions, which description is its own: `history` counts back
        # from the version that was opened, also when the log has grown since.
        app_transactions=[Transaction(_METADATA, described["version"])],
        # The description is that of the whole table, so of two writers with the same base one must lose,
        # also where they change different partitions.
        max_commit_retries=0,
    )


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


def _paths(table: DeltaTable) -> list[str]:
    import pyarrow as pa

    paths: list[str] = pa.table(table.get_add_actions(flatten=True)).column("path").to_pylist()
    return paths


def _delta_schema(schema: pa.Schema) -> Schema:
    from deltalake import Schema

    return Schema.from_arrow(schema)


def _location(uri: str) -> str:
    path = uri.removeprefix("file://")
    if "://" in path:
        return path.rstrip("/")
    if "%" in path:
        raise TableError(f"the lake's folder {path} has a % in its path, which delta-rs decodes; choose another one")
    return str(Path(path).absolute())


def _without_secrets(text: str, options: Mapping[str, str]) -> str:
    telling = re.compile(r"secret|key|token|password|credential|sas", re.IGNORECASE)
    secrets = [value for key, value in options.items() if telling.search(key)]
    plain = redact(shown(re.sub(r"\x1b\[[0-9;]*m", "", text)), secrets)
    return " ".join(plain.replace("↳", " ").split())[:_LONGEST_REASON]
