"""The model registry. It stores model versions, their metrics, the data needed to reproduce them, and aliases.

`ModelRegistry` is the interface. `mlflow_registry.py` is for production, and `memory_registry.py` for tests and
demonstrations. The model itself is an artefact (`artefact_store.py`). Decisions are in the ledger, because an alias has
no history.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

from platform_assets.base.errors import RegistryError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping
    from datetime import datetime

    from platform_assets.models.fitted_model import FittedModel

CHALLENGER = "challenger"
"""Alias of the version that the newest training created, or matched by fingerprint."""
CHAMPION = "champion"
"""Alias of the live version."""
PREFIX = "platform."
"""Prefix of the tags that store a version's fields. A registration's own tags must not have this prefix."""
TABLES_TAG = f"{PREFIX}tables"
"""Tag for the training tables: a JSON object of table names and their versions in the lake."""
ERASED_TAG = "erased"
"""Tag of a version whose training data contained a person who was erased later.

The value is the number and day of the erasure.
"""
IMPORTED_TAG = "imported"
"""Tag of a version that was imported from another environment. The value describes the origin.

The training tables of an imported version are not in this lake.
"""
UNDONE_TABLES = "undone_tables"
"""Tag of a version whose training tables were rolled back later. The value names these table versions, as JSON."""
_NAME = re.compile(r"[\w.-]+")
_FINGERPRINT = re.compile(r"[\w.:-]+")
_ALIAS = re.compile(r"(?![vV]\d+$)(?!(?i:latest)$)[A-Za-z0-9_-]+")
_DIGEST = re.compile("[0-9a-f]{64}")
_LISTED = 20
"""Number of versions that an error message lists."""


@dataclass(frozen=True)
class Registration:
    """A new version, as training passes it to the registry.

    Attributes
    ----------
    name
        Name of the registered model, for example `credit_risk_model`.
    fingerprint
        Hash of the inputs of the training run. Training runs with equal fingerprints share one version.
    digest
        Digest of the artefact.
    threshold
        Lowest score that counts as positive; None if the model makes no decisions.
    tables
        Mapping from each training table to its version in the lake.
    table_digests
        Mapping from each training table to the digest of its rows.
    metrics
        Metrics by name. NaN and infinite values are dropped.
    parameters
        Parameters by name.
    tags
        Tags by name, for example the git commit and the person who launched the training.
    record
        Details as JSON: leaderboard, intervals, verdict, counts.
    plots
        PNG images by file name.
    model
        The model, which is copied to MLflow.
    """

    name: str
    fingerprint: str
    digest: str
    threshold: float | None
    tables: Mapping[str, int]
    table_digests: Mapping[str, str]
    metrics: Mapping[str, float]
    parameters: Mapping[str, str | float | int]
    tags: Mapping[str, str]
    record: Mapping[str, Any]
    plots: Mapping[str, bytes]
    model: FittedModel

    def __post_init__(self) -> None:
        """Refuse names, fingerprints and tags that a registry could not store."""
        if not _NAME.fullmatch(self.name):
            raise RegistryError(f"{self.name!r} cannot be a model's name; use only letters, digits, _, . and -")
        if not _FINGERPRINT.fullmatch(self.fingerprint):
            raise RegistryError(
                f"{self.fingerprint!r} cannot be a fingerprint; use only letters, digits, _, ., : and -"
            )
        refuse_field_tags(self.name, self.tags)


@dataclass(frozen=True)
class ModelVersion:
    """A registered version, with the attributes of `Registration` except plots, record and model.

    Attributes
    ----------
    version
        Number, from 1.
    created_at
        Time of the registration, UTC.
    run_id
        MLflow run with plots, record and a copy of the model.
    """

    name: str
    version: int
    digest: str
    fingerprint: str
    threshold: float | None
    tables: Mapping[str, int]
    table_digests: Mapping[str, str]
    metrics: Mapping[str, float]
    parameters: Mapping[str, str | float | int]
    tags: Mapping[str, str]
    created_at: datetime
    run_id: str


class ModelRegistry(Protocol):
    """Interface of a registry. Every method raises `RegistryError` if the registry does not respond."""

    def register(self, registration: Registration) -> ModelVersion:
        """Create a version atomically, and give it the alias `challenger`.

        If a version with this fingerprint exists, it is returned instead. If several processes register the same
        fingerprint concurrently, only one version is created.
        """
        ...

    def ensure_challenger(self, name: str, number: int) -> None:
        """Give the alias `challenger` to the version that the newest training created or matched.

        Raises
        ------
        RegistryError
            The version does not exist.
        """
        ...

    def find(self, name: str, fingerprint: str) -> ModelVersion | None:
        """Return the version with a fingerprint, or None."""
        ...

    def version(self, name: str, number: int) -> ModelVersion:
        """Return a version.

        Raises
        ------
        RegistryError
            The model or version does not exist, or its tags cannot be read.
        """
        ...

    def versions(self, name: str) -> list[ModelVersion]:
        """Return all readable versions, newest first; empty for a model that was never trained."""
        ...

    def unreadable_versions(self, name: str) -> Mapping[int, str]:
        """Return the versions whose tags cannot be read, as a mapping from version number to the reason."""
        ...

    def by_alias(self, name: str, alias: str) -> ModelVersion | None:
        """Return the version with an alias, or None."""
        ...

    def set_alias(self, name: str, alias: str, number: int) -> None:
        """Move an alias to a version.

        Raises
        ------
        RegistryError
            The version does not exist, or the alias is malformed.
        """
        ...

    def drop_alias(self, name: str, alias: str) -> None:
        """Remove an alias if it exists."""
        ...

    def set_tags(self, name: str, number: int, tags: Mapping[str, str]) -> None:
        """Set tags of a version. Its other tags do not change.

        Raises
        ------
        RegistryError
            The version does not exist, or a tag begins with `PREFIX`, which is reserved.
        """
        ...

    def names(self) -> list[str]:
        """Return the names of the models with versions that the platform registered."""
        ...

    def record(self, name: str, number: int) -> dict[str, Any]:
        """Return the record of a version.

        Raises
        ------
        RegistryError
            The version does not exist.
        """
        ...

    def pinned_tables(self) -> Mapping[str, set[int]]:
        """Return the table versions on which the registered models were trained, by table name.

        The job `upkeep` does not delete these table versions.

        Raises
        ------
        RegistryError
            The tables of a model version cannot be read. No table version may be deleted then.
        """
        ...

    def named_artefacts(self) -> set[str]:
        """Return the digests of the artefacts and encoders of all versions.

        The job `upkeep` does not delete these files.

        Raises
        ------
        RegistryError
            A version cannot be read. No artefact may be deleted then.
        """
        ...


def named_digests(versions: Collection[ModelVersion]) -> set[str]:
    """Return the digests of the versions' artefacts, and of the encoders among their parameters."""
    parameters = [str(value) for version in versions for value in version.parameters.values()]
    return {version.digest for version in versions} | {value for value in parameters if _DIGEST.fullmatch(value)}


def champion_or_newest(registry: ModelRegistry, name: str) -> ModelVersion | None:
    """Return the champion, or the newest version if there is no champion; None if there is no version."""
    return registry.by_alias(name, CHAMPION) or next(iter(registry.versions(name)), None)


def as_version(registration: Registration, number: int, created_at: datetime, run_id: str) -> ModelVersion:
    """Convert a registration to the model version that it creates."""
    return copied(
        ModelVersion(
            name=registration.name,
            version=number,
            digest=registration.digest,
            fingerprint=registration.fingerprint,
            threshold=registration.threshold,
            tables=registration.tables,
            table_digests=registration.table_digests,
            metrics=finite(registration.metrics),
            parameters=registration.parameters,
            tags=registration.tags,
            created_at=created_at,
            run_id=run_id,
        )
    )


def finite(metrics: Mapping[str, float]) -> dict[str, float]:
    """Return the finite metrics. MLflow would store infinity as the largest float, and JSON cannot express it."""
    return {name: float(value) for name, value in metrics.items() if math.isfinite(value)}


def pinned(tables: Iterable[Mapping[str, int]]) -> dict[str, set[int]]:
    """Merge mappings from table to version into one mapping from table to all its versions."""
    found: dict[str, set[int]] = {}
    for one in tables:
        for table, number in one.items():
            found.setdefault(table, set()).add(number)
    return found


def refuse_no_alias(alias: str) -> None:
    """Refuse an alias that MLflow does not accept.

    Raises
    ------
    RegistryError
        The alias is malformed or reserved.
    """
    if not _ALIAS.fullmatch(alias):
        raise RegistryError(
            f"{alias!r} cannot be an alias; use only letters, digits, _ and -, but not `latest` or a version like v1"
        )


def refuse_field_tags(name: str, tags: Iterable[str]) -> None:
    """Refuse tags with the prefix that is reserved for a version's fields.

    Raises
    ------
    RegistryError
        A tag has the prefix.
    """
    reserved = sorted(tag for tag in tags if tag.startswith(PREFIX))
    if reserved:
        raise RegistryError(f"{name}: the tags {reserved} have the prefix {PREFIX!r}, which is reserved; rename them")


def unknown(name: str, number: int, versions: Collection[ModelVersion], names: Iterable[str]) -> RegistryError:
    """Return the error for a missing version. Its message lists the existing versions."""
    if not versions:
        there = ", ".join(sorted(names)) or "none"
        return RegistryError(
            f"no model {name} is registered (registered models: {there}); train it with the job train_{name}"
        )
    numbers = [str(version.version) for version in versions]
    there = ", ".join(numbers[:_LISTED]) + (", .." if len(numbers) > _LISTED else "")
    return RegistryError(f"{name} has no version {number}; registered versions: {there}")


def copied(version: ModelVersion) -> ModelVersion:
    """Return a copy with its own mappings, so that callers cannot change the stored version."""
    return replace(
        version,
        tables=dict(version.tables),
        table_digests=dict(version.table_digests),
        metrics=dict(version.metrics),
        parameters=dict(version.parameters),
        tags=dict(version.tags),
    )
