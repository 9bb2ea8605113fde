"""Detect damage to a table's log, e.g. by a crash or another program. Errors name the broken file and the fix.

Data files are checked in `table_files.py`.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from platform_assets.base.errors import TableError
from platform_assets.base.logs import shown

if TYPE_CHECKING:
    from pathlib import Path

    from deltalake import DeltaTable

_COMMIT = re.compile(r"\d{20}\.json")
_CHECKPOINT = re.compile(r"(\d{20})\.checkpoint.*\.parquet")
_PARQUET = b"PAR1"


def refuse_broken_log(name: str, log: Path) -> None:
    """Raise if the newest commit in a local log is broken, or an older one is empty.

    delta-rs ignores an empty commit, so without this check the table would silently return to an older version.

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
    """If delta-rs cannot open a local log, raise an error that names the log's broken or missing file.

    Raises
    ------
    TableError
        A file is broken or missing. The message names the file and the fix.
    """
    commits, checkpoint = _log_files(log)
    for number in range(max(checkpoint, 0), max(commits, default=-1) + 1):
        file = commits.get(number)
        if file is None or not _is_whole(file):
            file = file or log / f"{number:020d}.json"
            raise TableError(_commit_sentence(name, file, is_newest=number == max(commits)))
    for file in sorted(log.glob("*.parquet")):
        if not is_parquet(file):
            raise TableError(_checkpoint_sentence(name, file))
    hint = log / "_last_checkpoint"
    if hint.exists() and checkpoint < 0:
        raise TableError(_checkpoint_sentence(name, hint))


def refuse_foreign_features(name: str, table: DeltaTable, *, to_write: bool = False) -> None:
    """Raise if a table has a feature that the platform cannot read or, with `to_write`, cannot write.

    Raises
    ------
    TableError
        The table has such a feature. The message names the feature and the fix.
    """
    from deltalake.table import (
        NOT_SUPPORTED_PYARROW_WRITER_VERSIONS,
        SUPPORTED_READER_FEATURES,
        SUPPORTED_WRITER_FEATURES,
    )

    protocol, properties = table.protocol(), table.metadata().configuration
    unknown = {*(protocol.reader_features or ())} - SUPPORTED_READER_FEATURES
    if properties.get("delta.columnMapping.mode", "none") != "none":
        unknown.add("columnMapping")
    if to_write:
        # Check writer features too, because the platform does not implement them: its commits only add finished files,
        # without checking constraints or writing a change feed.
        unknown |= {*(protocol.writer_features or ())} - SUPPORTED_WRITER_FEATURES
        if protocol.min_writer_version in NOT_SUPPORTED_PYARROW_WRITER_VERSIONS:
            unknown.add(f"writer version {protocol.min_writer_version}")
        if properties.get("delta.appendOnly") == "true":
            unknown.add("delta.appendOnly")
    if unknown:
        raise TableError(
            f"{name} has table features that the platform does not support: {', '.join(sorted(unknown))}. Another "
            f"program enabled them. Remove them with that program (ALTER TABLE .. DROP FEATURE), or delete "
            f"{place_of(table)} and materialise the asset again"
        )


def place_of(table: DeltaTable) -> str:
    """Return the folder or URI of a table without secrets, for messages."""
    return shown(table.table_uri).removeprefix("file://").rstrip("/")


def is_parquet(file: Path) -> bool:
    """Whether a file begins and ends with Parquet's magic bytes."""
    with file.open("rb") as opened:
        start = opened.read(len(_PARQUET))
        opened.seek(max(0, file.stat().st_size - len(_PARQUET)))
        return start == opened.read() == _PARQUET


def _log_files(log: Path) -> tuple[dict[int, Path], int]:
    """Return the commits by number, oldest first, and the number of the newest intact checkpoint, or -1."""
    files = sorted(log.iterdir())
    commits = {int(file.stem): file for file in files if _COMMIT.fullmatch(file.name)}
    found = [(match, file) for file in files if (match := _CHECKPOINT.fullmatch(file.name))]
    return commits, max((int(match[1]) for match, file in found if is_parquet(file)), default=-1)


def _is_whole(commit: Path) -> bool:
    """Whether a commit is complete. A commit that the platform wrote is incomplete if it lacks the action `txn`."""
    try:
        actions = [json.loads(line) for line in commit.read_text(encoding="utf-8").splitlines()]
    except (FileNotFoundError, ValueError):
        return False
    kinds = {kind for action in actions if isinstance(action, dict) for kind in action}
    is_ours = any("platform_assets" in action.get("commitInfo", {}) for action in actions if isinstance(action, dict))
    return bool(kinds) and (not is_ours or "txn" in kinds)


def _commit_sentence(name: str, commit: Path, *, is_newest: bool) -> str:
    state = "is empty or truncated" if commit.exists() else "is missing"
    table = commit.parent.parent
    if int(commit.stem) == 0:
        fix = f"Delete the folder {table} and materialise the asset again"
    elif is_newest:
        fix = "Delete that file to return the table to its previous version, and materialise the asset again"
    else:
        fix = (
            f"Restore that file from a backup; or delete the folder {table} and materialise the asset again, which "
            "loses its older versions"
        )
    return f"{name} is damaged: the commit {commit} {state}. {fix}"


def _checkpoint_sentence(name: str, checkpoint: Path) -> str:
    hint = checkpoint.parent / "_last_checkpoint"
    files = f"{checkpoint} and {hint}" if checkpoint != hint and hint.exists() else f"{checkpoint}"
    return (
        f"{name} is damaged: the checkpoint {checkpoint} is broken. Delete {files}; no rows are lost, because the "
        "commits contain the same information"
    )
