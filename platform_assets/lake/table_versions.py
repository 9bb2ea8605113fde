"""Table versions: write and read the metadata that each commit stores about its rows.

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

SOURCE = "source"
"""Key of a version's metadata: name of the source file that the version was made from, without secrets."""
SOURCE_DIGEST = "source_digest"
"""Key of a version's metadata: SHA-256 of the source file that the version was made from."""
_METADATA = "platform_assets"
_BATCH = "platform_assets_batch"
"""Name of the transaction whose version is the number of the last batch that was added to the table."""
_FIRST_LOOK = 4
"""Number of commits in the first read of the log, to find the newest version."""
# Operations of commits that change no rows.
_MAINTENANCE = {"VACUUM START", "VACUUM END", "OPTIMIZE", "ADD FEATURE", "ADD COLUMN", "SET TBLPROPERTIES"}


@dataclass(frozen=True)
class TableVersion:
    """One version of a table, as its commit describes it.

    Attributes
    ----------
    name
        Name of the table.
    version
        Delta version number. Numbers increase, with gaps, because maintenance commits take numbers too.
    digest
        Content digest of all rows.
    rows
        Number of rows.
    committed_at
        Time of the commit, UTC.
    metadata
        Metadata given by the writer: asset, run, inputs, whether the data are demo data.
    parts
        Digest and row count by partition.
    made_from
        Input versions by partition. A partition that became empty keeps its entry.
    log_version
        Number of the newest commit that describes this version; higher than `version` if it was restated.
    batch
        Number of the batch that the version added; None if it replaced rows.
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
    batch: int | None = None


def newest(name: str, table: DeltaTable) -> TableVersion:
    """Return the newest version of a table.

    Raises
    ------
    TableError
        Another program created or changed the table, or the version's commit is missing from the log.
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


def last_batch(table: DeltaTable) -> int:
    """Return the number of the last batch that was added to a table; 0 if there was none."""
    return table.transaction_version(_BATCH) or 0


def commit_metadata(
    version: int,
    parts: Mapping[str, tuple[str, int]],
    metadata: Mapping[str, Any],
    made_from: Mapping[str, Mapping[str, int]],
    at: int | None = None,
    batch: int | None = None,
) -> dict[str, Any]:
    """Return the metadata that a commit stores about its version, as JSON values.

    Parameters
    ----------
    version, parts, metadata, made_from
        As in `TableVersion`.
    at
        Time of the commit, in milliseconds since 1970. None for the current time.
    batch
        Number of the batch that the commit adds; None if it replaces rows.
    """
    return {
        "version": version,
        "at": int(time.time() * 1000) if at is None else at,
        "parts": dict(parts),
        "metadata": dict(metadata),
        "made_from": dict(made_from),
        **({} if batch is None else {"batch": batch}),
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
    """Return the version that a commit's metadata describes."""
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
        batch=ours.get("batch"),
    )


def _recorded_inputs(ours: Mapping[str, Any]) -> dict[str, dict[str, int]]:
    """Return the input versions from a commit of an earlier release, which recorded them once for all partitions."""
    inputs = {name: facts["version"] for name, facts in ours["metadata"].get("inputs", {}).items()}
    return dict.fromkeys(ours["parts"], inputs) if inputs else {}


def commit_properties(committed: Mapping[str, Any]) -> CommitProperties:
    """Return delta-rs' commit properties: a version, its metadata, and the number of an added batch."""
    from deltalake import CommitProperties, Transaction

    transactions = [Transaction(_BATCH, committed["batch"])] if "batch" in committed else []
    return CommitProperties(
        custom_metadata={_METADATA: committed},
        # Record the version number as a transaction too, because `newest` reads the number from a table object that has
        # opened a version. The object's transactions end at this version, but its `history` contains later commits too.
        app_transactions=[Transaction(_METADATA, committed["version"]), *transactions],
        # Do not let delta-rs retry, because the metadata describe the whole table: of two writers with the same base,
        # one must fail, even if they change different partitions.
        max_commit_retries=0,
    )
