"""Correction of the paths in MLflow's database after PLATFORM_HOME was moved or copied.

MLflow stores absolute paths, which point to the old home after a move or a copy. Without the correction, MLflow would
not find the records of a moved home, and a copied home would write into the original.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sqlalchemy import Connection, Row

_DEFAULT = "Default"
"""Name of MLflow's own experiment, which MLflow creates under the current folder."""
_EXPERIMENTS = "select experiment_id, name, artifact_location from experiments"
_RUNS = """
select r.run_uuid, r.artifact_uri, e.name from runs r join experiments e on e.experiment_id = r.experiment_id
"""
_CHANGES = (
    "update runs set artifact_uri = :new where run_uuid = :run",
    (
        "update model_versions set source = :new || substr(source, :start)"
        " where run_id = :run and substr(source, 1, length(:old)) = :old"
    ),
    (
        "update model_versions set storage_location = :new || substr(storage_location, :start)"
        " where run_id = :run and substr(storage_location, 1, length(:old)) = :old"
    ),
)


def follow_home(tracking_uri: str, root: Path) -> None:
    """Correct the paths of the platform's experiments, runs and model versions after PLATFORM_HOME was moved or copied.

    An experiment of the platform has the location `<home>/mlflow/<name>`; other experiments are not changed. A run's
    paths change only if its files are below the new root. Files that are only at the old path are first copied below
    the new root, because earlier releases wrote files of a copied home to the old path.

    Parameters
    ----------
    tracking_uri
        MLflow's database, as an SQLAlchemy URL. For any other tracking URI, nothing is changed.
    root
        The folder of all artifacts, `<home>/mlflow`, absolute.
    """
    from sqlalchemy import create_engine, text
    from sqlalchemy.exc import ArgumentError

    try:
        engine = create_engine(tracking_uri)
    except ArgumentError:
        return
    try:
        with engine.begin() as connection:
            for experiment in connection.execute(text(_EXPERIMENTS)):
                _place_experiment(connection, experiment, root)
            for run in connection.execute(text(_RUNS)):
                _place_run(connection, run, root)
    finally:
        engine.dispose()


def _place_experiment(connection: Connection, experiment: Row[Any], root: Path) -> None:
    from sqlalchemy import text

    number, name, location = (experiment[at] for at in range(3))
    new = root / (str(number) if name == _DEFAULT else name)
    is_ours = location.endswith(f"/{root.name}/{name}") or (name == _DEFAULT and location.endswith(f"/mlruns/{number}"))
    if is_ours and location != str(new) and "://" not in location:
        change = text("update experiments set artifact_location = :new where experiment_id = :number")
        connection.execute(change, {"new": str(new), "number": number})


def _place_run(connection: Connection, run: Row[Any], root: Path) -> None:
    from sqlalchemy import text

    number, old, name = (run[at] for at in range(3))
    below = f"{name}/{number}/artifacts"
    new = root / below
    if old == str(new) or not old.endswith(f"/{root.name}/{below}") or "://" in old:
        return
    if not new.exists() and Path(old).exists():
        _copy(Path(old), new)
    if new.exists():
        for change in _CHANGES:
            connection.execute(text(change), {"new": str(new), "old": old, "start": len(old) + 1, "run": number})


def _copy(source: Path, target: Path) -> None:
    """Copy a folder; an interrupted copy leaves no half-filled target."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as partial:
        copied = Path(shutil.copytree(source, Path(partial) / target.name))
        if not target.exists():
            copied.rename(target)
