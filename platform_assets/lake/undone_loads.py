"""Undo a load that passed all checks but was wrong: publish the rows of an earlier version again.

The new version records which versions it undid. A source file of a rolled-back version is not loaded again.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from platform_assets.base.errors import TableError
from platform_assets.base.printable_text import is_visible
from platform_assets.lake.table_files import sync_commit
from platform_assets.lake.table_versions import (
    SOURCE,
    SOURCE_DIGEST,
    commit_metadata,
    commit_properties,
    last_batch,
    newest,
    published_versions,
    version_in_commit,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from deltalake import DeltaTable

    from platform_assets.lake.lake_location import LakeLocation
    from platform_assets.lake.table_versions import TableVersion

UNDONE = "undone"
"""Metadata key of a version that undid others. Its value is the mapping that `_record` returns."""


@dataclass(frozen=True)
class Restored:
    """Result of a rollback.

    Attributes
    ----------
    version
        The new version, which is current.
    source
        The earlier version whose rows were restored.
    undone
        The versions between `source` and `version` whose rows differ from the restored rows, oldest first.
    """

    version: TableVersion
    source: TableVersion
    undone: Sequence[TableVersion]


def restore(location: LakeLocation, name: str, table: DeltaTable, number: int, why: tuple[str, str]) -> Restored:
    """Make the rows of an earlier version current again; see `TableStore.restore`. `why` is (person, reason)."""
    from deltalake.exceptions import CommitFailedError

    if not is_visible(why[1]):
        raise TableError(f"{name} was not rolled back: give a reason")
    with location.plain_errors(name, "was not rolled back"):
        base, versions = newest(name, table), published_versions(name, table)
        if (earlier := base.metadata.get(UNDONE)) and earlier["restored"] == number:
            # An earlier run of the command restored the rows, but was interrupted before the downstream tables were
            # made.
            found = {one.version: one for one in versions}
            return Restored(base, found[number], [found[one] for one in earlier["versions"]])
        source = _source(name, number, base, versions, accumulates=last_batch(table) > 0)
        undone = [one for one in reversed(versions) if one.version > number and one.digest != source.digest]
        metadata = {**source.metadata, UNDONE: _record(undone, source, *why)}
        next_version = table.version() + 1
        committed = commit_metadata(next_version, source.parts, metadata, source.made_from)
        try:
            table.restore(number, commit_properties=commit_properties(committed))
        except CommitFailedError:
            raise TableError(
                f"another run published {name} during the rollback, so nothing was rolled back; try again"
            ) from None
        sync_commit(location, name, next_version)
    return Restored(version_in_commit(name, committed, next_version), source, undone)


def _source(
    name: str, number: int, base: TableVersion, versions: Sequence[TableVersion], *, accumulates: bool
) -> TableVersion:
    """Return the version to restore.

    Raises
    ------
    TableError
        The version does not exist or is current, or the table accumulates batches.
    """
    if accumulates:
        raise TableError(
            f"{name} accumulates the rows of files and cannot be rolled back: results that were made from these rows, "
            "such as predictions, are never changed"
        )
    source = next((one for one in versions if one.version == number), None)
    if source is None:
        there = ", ".join(str(one.version) for one in versions[:20])
        raise TableError(f"{name} has no version {number}; the newest versions are {there}")
    if source.digest == base.digest:
        raise TableError(f"{name} already has the rows of version {number}; its current version is {base.version}")
    return source


def _record(undone: Sequence[TableVersion], source: TableVersion, by: str, reason: str) -> dict[str, Any]:
    digests = {one.metadata.get(SOURCE_DIGEST) for one in undone} - {None, source.metadata.get(SOURCE_DIGEST)}
    return {
        "versions": [one.version for one in undone],
        "source_digests": sorted(map(str, digests)),
        "restored": source.version,
        "by": by,
        "reason": reason,
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def refuse_undone(base: TableVersion, metadata: Mapping[str, Any]) -> None:
    """Raise if rows to be published come from a source file whose load was undone.

    Raises
    ------
    TableError
        The current version undid a load of the same file.
    """
    undone, digest = base.metadata.get(UNDONE), metadata.get(SOURCE_DIGEST)
    if not undone or digest not in undone["source_digests"]:
        return
    number = undone["versions"][-1]
    raise TableError(
        f"{base.name} was not published: {metadata.get(SOURCE, 'its source')} has the same content (SHA-256 {digest})"
        f" as a load that {undone['by']} undid ({undone['reason']}). Deliver another file. To use that load after all: "
        f"platform-assets table rollback {base.name} {number} --reason .."
    )


def why_undone(versions: Sequence[TableVersion], number: int) -> str:
    """Return who undid a version, when and why; empty if it was not undone.

    Parameters
    ----------
    versions
        All versions of the table, newest first.
    number
        Number of the version.
    """
    for one in versions:
        undone = one.metadata.get(UNDONE)
        if undone and number in undone["versions"] and one.version > number:
            return f"undone by {undone['by']} at {undone['at']}: {undone['reason']}"
    return ""
