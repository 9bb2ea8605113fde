"""Table versions: the metadata that each commit keeps about the rows it published, and how it is read back.

A commit may also restate the current version: the rows are the same, but were made from newer inputs.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from platform_assets.base.errors import TableError
from platform_assets.engine.staged_files import combined_digest
from platform_assets.lake.table_damage import place_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from deltalake import DeltaTable
    from deltalake.transaction import CommitProperties

_METADATA = "platform_assets"
_FIRST_LOOK = 4
"""Commits that are read at first to find the newest version."""
# Operations of commits that change no rows.
_MAINTENANCE = {"VACUUM START", "VACUUM END", "OPTIMIZE", "ADD FEATURE", "SET TBLPROPERTIES"}


@dataclass(frozen=True)
class TableVersion:
    """One version of a table, as its commit describes it.

    Attributes
    ----------
    name
        The table.
    version
        Delta version. Numbers grow, with gaps where maintenance took a number.
    digest
        Content digest of all rows.
    rows
        Number of rows.
    committed_at
        Time of the commit, UTC.
    metadata
        Metadata given by the writer: asset, run, inputs, whether the data are demo data.
    parts
        Digest and rows by partition.
    made_from
        Input versions by partition. A partition that became empty stays here.
    log_version
        Delta version of the newest commit about this version: a later one if the version was restated.
    """

    name: str
    version: int
    digest: str
    rows: int
    committed_at: datetime
    metadata: Mapping[str, Any] = field(default_factory=dict)
    parts: Mapping[str, tuple[str, int]] = field(default_factory=dict)
    made_from: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    log_version: int = 0


def newest(name: str, table: DeltaTable) -> TableVersion:
    """Return the newest version of a table.

    Raises
    ------
    TableError
        Another program made or changed the table, or its log lost the version's commit.
    """
    number = table.transaction_version(_METADATA)
    if number is None:
        raise TableError(
            f"{name} was not written by the platform; delete {place_of(table)}, or publish under another name"
        )
    limit = _FIRST_LOOK
    while True:
        entries = table.history(limit)
        for entry in entries:
            ours, operation = entry.get(_METADATA), entry.get("operation")
            if ours and ours["version"] == number:
                return version_in_commit(name, ours, entry["version"])
            if not ours and operation not in _MAINTENANCE:
                change = f"{operation or 'a commit without a description'} after version {number}"
                raise TableError(
                    f"{name} was changed by another program ({change}); delete {place_of(table)} and materialise the "
                    "asset again"
                )
        if len(entries) < limit:
            raise TableError(
                f"{name} is damaged: the log does not have version {number}; delete {place_of(table)} and materialise "
                "the asset again"
            )
        limit *= 4


def commit_metadata(
    version: int,
    parts: Mapping[str, tuple[str, int]],
    metadata: Mapping[str, Any],
    made_from: Mapping[str, Mapping[str, int]],
    at: int | None = None,
) -> dict[str, Any]:
    """Return the metadata that a commit keeps about its version, as JSON values.

    Parameters
    ----------
    version, parts, metadata, made_from
        As in `TableVersion`.
    at
        Milliseconds since 1970; None for now.
    """
    return {
        "version": version,
        "at": int(time.time() * 1000) if at is None else at,
        "parts": dict(parts),
        "metadata": dict(metadata),
        "made_from": dict(made_from),
    }


def published_versions(name: str, table: DeltaTable, limit: int | None = None) -> list[TableVersion]:
    """Return the versions that the platform published, newest first."""
    found: dict[int, TableVersion] = {}
    for entry in table.history():
        if _METADATA in entry:
            version = version_in_commit(name, entry[_METADATA], entry["version"])
            found.setdefault(version.version, version)
    return list(found.values())[:limit]


def version_in_commit(name: str, ours: Mapping[str, Any], log_version: int) -> TableVersion:
    """Return the version that a commit's metadata describe."""
    parts = {value: (digest, rows) for value, (digest, rows) in ours["parts"].items()}
    return TableVersion(
        name=name,
        version=ours["version"],
        digest=combined_digest({value: digest for value, (digest, _) in parts.items()}),
        rows=sum(rows for _, rows in parts.values()),
        committed_at=datetime.fromtimestamp(ours["at"] / 1000, UTC),
        metadata=ours["metadata"],
        parts=parts,
        made_from=ours["made_from"] if "made_from" in ours else _recorded_inputs(ours),
        log_version=log_version,
    )


def _recorded_inputs(ours: Mapping[str, Any]) -> dict[str, dict[str, int]]:
    """Return the input versions of a commit that earlier releases made: those of its last run, for every partition."""
    inputs = {name: facts["version"] for name, facts in ours["metadata"].get("inputs", {}).items()}
    return dict.fromkeys(ours["parts"], inputs) if inputs else {}


def commit_properties(committed: Mapping[str, Any]) -> CommitProperties:
    """Return the properties with which delta-rs commits a version and its metadata."""
    from deltalake import CommitProperties, Transaction

    return CommitProperties(
        custom_metadata={_METADATA: committed},
        # The transaction identifies the newest commit with metadata of the opened version, because `history`
        # also returns commits that were added after the table was opened.
        app_transactions=[Transaction(_METADATA, committed["version"])],
        # The metadata describe the whole table. So one of two writers with the same base must fail, even if they
        # change different partitions.
        max_commit_retries=0,
    )
