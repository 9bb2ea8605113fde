"""Damage: files of a table that a crash, a person or another program broke, each named with the way to fix it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from platform_assets.base.errors import TableError

if TYPE_CHECKING:
    from deltalake import DeltaTable

    from platform_assets.lake.lake_location import LakeLocation

_COMMIT = re.compile(r"\d{20}\.json")
_CHECKPOINT = re.compile(r"(\d{20})\.checkpoint.*\.parquet")
_PARQUET = b"PAR1"


def refuse_broken_log(name: str, log: Path) -> None:
    """Raise if the newest commit in a local log is broken, or an older one is empty.

    delta-rs ignores an empty commit, so that the table would silently return to an older version.

    Raises
    ------
    TableError
        A commit is broken. The message names the file and the fix.
    """
    commits, checkpoint = _log_files(log)
    for number, file in commits.items():
        if number > checkpoint and (not file.stat().st_size or (number == max(commits) and not _is_whole(file))):
            raise TableError(_commit_sentence(name, file, is_newest=number == max(commits)))


def refuse_unreadable_log(name: str, log: Path) -> None:
    """Raise if a commit or checkpoint in a local log that delta-rs cannot open is broken or missing.

    Raises
    ------
    TableError
        A file is broken or missing. The message names the file and the fix.
    """
    commits, checkpoint = _log_files(log)
    first = 0 if checkpoint < 0 else checkpoint
    for number in range(first, max(commits, default=-1) + 1):
        file = commits.get(number)
        if file is None or not _is_whole(file):
            file = file or log / f"{number:020d}.json"
            raise TableError(_commit_sentence(name, file, is_newest=number == max(commits)))
    for file in sorted(log.glob("*.parquet")):
        if not _is_parquet(file):
            raise TableError(_checkpoint_sentence(name, file))
    hint = log / "_last_checkpoint"
    if hint.exists() and checkpoint < 0:
        raise TableError(_checkpoint_sentence(name, hint))


def refuse_foreign_features(name: str, table: DeltaTable, *, to_write: bool = False) -> None:
    """Raise if another program set a feature on the table that this platform cannot read, or not write.

    Raises
    ------
    TableError
        There is such a feature. The message names it and the fix.
    """
    from deltalake.table import (
        MAX_SUPPORTED_READER_VERSION,
        NOT_SUPPORTED_PYARROW_WRITER_VERSIONS,
        SUPPORTED_READER_FEATURES,
        SUPPORTED_WRITER_FEATURES,
    )

    protocol, properties = table.protocol(), table.metadata().configuration
    unknown = {*(protocol.reader_features or ())} - SUPPORTED_READER_FEATURES
    if protocol.min_reader_version > MAX_SUPPORTED_READER_VERSION:
        unknown.add(f"reader version {protocol.min_reader_version}")
    if properties.get("delta.columnMapping.mode", "none") != "none":
        unknown.add("columnMapping")
    if to_write:
        # A commit adds finished files, so that nothing would check constraints or write a change feed.
        unknown |= {*(protocol.writer_features or ())} - SUPPORTED_WRITER_FEATURES
        if protocol.min_writer_version in NOT_SUPPORTED_PYARROW_WRITER_VERSIONS:
            unknown.add(f"writer version {protocol.min_writer_version}")
        if properties.get("delta.appendOnly") == "true":
            unknown.add("delta.appendOnly")
    if unknown:
        raise TableError(
            f"{name} has table features that the platform does not support: {', '.join(sorted(unknown))}. Another "
            f"program set them. Remove them there (ALTER TABLE .. DROP FEATURE), or delete {table.table_uri} and "
            "materialise the asset again"
        )


def broken_files(location: LakeLocation, name: str, table: DeltaTable) -> dict[str, str]:
    """Return what is wrong with data files of the version that is open, by path; empty if every file is whole.

    Sizes are compared with the log. In a local folder, the first and last bytes must also be those of Parquet.
    """
    import pyarrow as pa

    files = pa.table(table.get_add_actions(flatten=True)).select(["path", "size_bytes"]).to_pylist()
    sizes = _stored_sizes(location, name) if location.is_remote else {}
    broken = {}
    for file in files:
        path, wanted = file["path"], file["size_bytes"]
        local = Path(location.uri(name), path)
        size = sizes.get(path) if location.is_remote else (local.stat().st_size if local.exists() else None)
        if size is None:
            broken[path] = "is missing"
        elif size != wanted:
            broken[path] = f"has {size} of {wanted} bytes"
        elif not location.is_remote and not _is_parquet(local):
            broken[path] = "is no Parquet file"
    return broken


def broken_partitions(table: DeltaTable, partition_by: str | None, broken: dict[str, str]) -> set[str]:
    """Return the partitions whose files are broken, as values of the partition column; `""` for an unpartitioned one."""
    import pyarrow as pa

    if not broken:
        return set()
    column = f"partition.{partition_by}"
    files: list[dict[str, Any]] = pa.table(table.get_add_actions(flatten=True)).to_pylist()
    return {_partition_text(file[column]) if partition_by else "" for file in files if file["path"] in broken}


def _partition_text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _stored_sizes(location: LakeLocation, name: str) -> dict[str, int]:
    import pyarrow.fs as pafs

    # One listing costs less than one request per file.
    infos = location.files(name).get_file_info(pafs.FileSelector(""))
    return {info.path: info.size for info in infos if info.is_file}


def _log_files(log: Path) -> tuple[dict[int, Path], int]:
    """Commits by number, in order, and the number of the newest checkpoint that is whole; -1 without one."""
    files = sorted(log.iterdir())
    commits = {int(file.stem): file for file in files if _COMMIT.fullmatch(file.name)}
    found = [(match, file) for file in files if (match := _CHECKPOINT.fullmatch(file.name))]
    return commits, max((int(match[1]) for match, file in found if _is_parquet(file)), default=-1)


def _is_whole(commit: Path) -> bool:
    """Whether a commit has all its lines; the platform's own commits end with a transaction."""
    try:
        actions = [json.loads(line) for line in commit.read_text(encoding="utf-8").splitlines()]
    except (FileNotFoundError, ValueError):
        return False
    kinds = {kind for action in actions if isinstance(action, dict) for kind in action}
    is_ours = any("platform_assets" in action.get("commitInfo", {}) for action in actions if isinstance(action, dict))
    return bool(kinds) and (not is_ours or "txn" in kinds)


def _is_parquet(file: Path) -> bool:
    with file.open("rb") as opened:
        start = opened.read(len(_PARQUET))
        opened.seek(max(0, file.stat().st_size - len(_PARQUET)))
        return start == opened.read() == _PARQUET


def _commit_sentence(name: str, commit: Path, *, is_newest: bool) -> str:
    state = "is empty or cut off" if commit.exists() else "is missing"
    table = commit.parent.parent
    if int(commit.stem) == 0:
        fix = f"Delete the folder {table} and materialise the asset again"
    elif is_newest:
        fix = "Delete that file, which returns the table to the version before, and materialise the asset again"
    else:
        fix = (
            f"Restore that file from a backup; or delete the folder {table} and materialise the asset again, which "
            "loses its older versions"
        )
    return f"{name} is damaged: the commit {commit} {state}. {fix}"


def _checkpoint_sentence(name: str, checkpoint: Path) -> str:
    hint = checkpoint.parent / "_last_checkpoint"
    files = f"{checkpoint} and {hint}" if checkpoint != hint and hint.exists() else f"{checkpoint}"
    return f"{name} is damaged: the checkpoint {checkpoint} is broken. Delete {files}; the commits hold the same rows"
