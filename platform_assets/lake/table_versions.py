"""Versions of a table: what each commit keeps about the rows it published, and how it is read back."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from platform_assets.base.errors import TableError
from platform_assets.engine.staged_files import combined_digest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from deltalake import DeltaTable
    from deltalake.transaction import CommitProperties

_METADATA = "platform_assets"
# Commits that change no rows.
_MAINTENANCE = {"VACUUM START", "VACUUM END", "OPTIMIZE", "ADD FEATURE", "SET TBLPROPERTIES"}


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


def newest(name: str, table: DeltaTable) -> TableVersion:
    """The newest version of a table.

    Raises
    ------
    TableError
        Another program made or changed the table, or its log lost the version's commit.
    """
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
                return version_in_commit(name, ours)
            if not ours and entry["operation"] not in _MAINTENANCE:
                change = f"{entry['operation']} after version {number}"
                raise TableError(f"{name} was changed by another program ({change}); remove it and publish it again")
        if len(entries) < limit:
            raise TableError(f"{name}: the log does not have version {number}; remove the table and publish it again")
        limit *= 2


def commit_metadata(version: int, parts: Mapping[str, tuple[str, int]], metadata: Mapping[str, Any]) -> dict[str, Any]:
    """What a commit keeps about its version, as JSON values."""
    return {"version": version, "at": int(time.time() * 1000), "parts": dict(parts), "metadata": dict(metadata)}


def published_versions(name: str, table: DeltaTable, limit: int | None = None) -> list[TableVersion]:
    """The versions that the platform published, newest first."""
    return [version_in_commit(name, entry[_METADATA]) for entry in table.history() if _METADATA in entry][:limit]


def version_in_commit(name: str, ours: Mapping[str, Any]) -> TableVersion:
    """The version that a commit's metadata describe."""
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


def commit_properties(committed: Mapping[str, Any]) -> CommitProperties:
    """How delta-rs commits a version with its metadata."""
    from deltalake import CommitProperties, Transaction

    return CommitProperties(
        custom_metadata={_METADATA: committed},
        # A table knows by this, for each of its versions, which metadata are its own: `history` counts back
        # from the version that was opened, also when the log has grown since.
        app_transactions=[Transaction(_METADATA, committed["version"])],
        # The metadata are those of the whole table, so of two writers with the same base one must lose,
        # also where they change different partitions.
        max_commit_retries=0,
    )
