"""What is registered of a model: its versions, with all that is needed to judge and repeat them, and aliases.

`ModelRegistry` is what the platform asks for; `MemoryRegistry` serves tests and demonstrations, and
`mlflow_registry.py` people. The model itself is a file (`artefact_store.py`); who decided what about a version is
not kept here, for an alias has no history.
"""

from __future__ import annotations

import json
import math
import re
import threading
import uuid
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol

from platform_assets.base.errors import RegistryError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from platform_assets.models.fitted_model import FittedModel

CHALLENGER = "challenger"
"""Alias of what the newest training came to."""
CHAMPION = "champion"
"""Alias of the version that serves."""
PREFIX = "platform."
"""How the names of the tags begin that hold a version's fields; a registration's own tags have other names."""
TABLES_TAG = f"{PREFIX}tables"
"""Tag of a model version: JSON, name of each table that it was trained on to its version in the lake."""
_NAME = re.compile(r"[\w.-]+")
_FINGERPRINT = re.compile(r"[\w.:-]+")
_ALIAS = re.compile(r"(?![vV]\d+$)(?!(?i:latest)$)[A-Za-z0-9_-]+")
_LISTED = 20


@dataclass(frozen=True)
class Registration:
    """What training hands to the registry.

    Attributes
    ----------
    name
        The registered model's, for example `credit_risk_model`.
    fingerprint
        Says what the version was made from; the same again is the same version.
    digest
        Of the model's file.
    threshold
        Score from which a row counts as positive.
    tables, table_digests
        Each table that it was trained on, to its version in the lake and the digest of its rows.
    metrics
        Name to value; what is not finite is not kept.
    parameters
        Name to value.
    tags
        Anything else worth knowing, such as the git commit and who launched it.
    record
        The whole story as JSON: leaderboard, intervals, verdict, counts.
    plots
        File name to PNG.
    model
        The model itself, from which MLflow's copy is made.
    """

    name: str
    fingerprint: str
    digest: str
    threshold: float
    tables: Mapping[str, int]
    table_digests: Mapping[str, str]
    metrics: Mapping[str, float]
    parameters: Mapping[str, str | float | int]
    tags: Mapping[str, str]
    record: Mapping[str, Any]
    plots: Mapping[str, bytes]
    model: FittedModel

    def __post_init__(self) -> None:
        """Refuse what not every registry could keep."""
        if not _NAME.fullmatch(self.name):
            raise RegistryError(f"{self.name!r} cannot be a model's name: letters, digits, and _ . - only")
        if not _FINGERPRINT.fullmatch(self.fingerprint):
            raise RegistryError(f"{self.fingerprint!r} cannot be a fingerprint: letters, digits, and _ . : - only")
        refuse_field_tags(self.name, self.tags)


@dataclass(frozen=True)
class ModelVersion:
    """A registered version; the attributes of `Registration`, without plots, record and model.

    Attributes
    ----------
    version
        Its number, from 1.
    created_at
        When it was registered, UTC.
    run_id
        Of the MLflow run that holds plots, record and a copy of the model.
    """

    name: str
    version: int
    digest: str
    fingerprint: str
    threshold: float
    tables: Mapping[str, int]
    table_digests: Mapping[str, str]
    metrics: Mapping[str, float]
    parameters: Mapping[str, str | float | int]
    tags: Mapping[str, str]
    created_at: datetime
    run_id: str


class ModelRegistry(Protocol):
    """Registered models. Every method raises `RegistryError` where the registry cannot be reached."""

    def register(self, registration: Registration) -> ModelVersion:
        """Make a version, all or nothing, and give it the alias `challenger`.

        With a fingerprint that is registered it gives that version and makes no new one, also when several
        processes register at once.
        """
        ...

    def ensure_challenger(self, name: str, number: int) -> None:
        """Give the alias `challenger` to a version: what the newest training came to, be it new or known.

        Raises
        ------
        RegistryError
            There is no such version.
        """
        ...

    def find(self, name: str, fingerprint: str) -> ModelVersion | None:
        """The version with a fingerprint, or None."""
        ...

    def version(self, name: str, number: int) -> ModelVersion:
        """One version.

        Raises
        ------
        RegistryError
            There is no such model or version; the message says which there are.
        """
        ...

    def versions(self, name: str) -> list[ModelVersion]:
        """Return all readable versions, newest first; empty for a model that was never trained."""
        ...

    def unreadable_versions(self, name: str) -> Mapping[int, str]:
        """Return the numbers of the versions whose tags cannot be read, each with the reason."""
        ...

    def by_alias(self, name: str, alias: str) -> ModelVersion | None:
        """The version that has an alias, or None."""
        ...

    def set_alias(self, name: str, alias: str, number: int) -> None:
        """Move an alias to a version.

        Raises
        ------
        RegistryError
            There is no such version, or the alias is none.
        """
        ...

    def drop_alias(self, name: str, alias: str) -> None:
        """Take an alias away; nothing where there is none."""
        ...

    def set_tags(self, name: str, number: int, tags: Mapping[str, str]) -> None:
        """Set tags of a version; its other tags stay.

        Raises
        ------
        RegistryError
            There is no such version, or a tag has a name that the platform needs for a version's fields.
        """
        ...

    def names(self) -> list[str]:
        """The models with versions that the platform registered."""
        ...

    def record(self, name: str, number: int) -> dict[str, Any]:
        """The record that a version was registered with.

        Raises
        ------
        RegistryError
            There is no such version.
        """
        ...

    def pinned_tables(self) -> Mapping[str, set[int]]:
        """Versions of tables that any registered version was trained on, by table; upkeep keeps them readable.

        Raises
        ------
        RegistryError
            What a version says of its tables cannot be understood: no permission to delete.
        """
        ...


class MemoryRegistry:
    """A registry that ends with its process."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._versions: dict[str, list[ModelVersion]] = {}
        self._records: dict[tuple[str, int], str] = {}
        self._aliases: dict[tuple[str, str], int] = {}

    def register(self, registration: Registration) -> ModelVersion:
        """Make a version, or give the one with this fingerprint; see `ModelRegistry`."""
        with self._lock:
            known = self.find(registration.name, registration.fingerprint)
            if known is None:
                there = self._versions.setdefault(registration.name, [])
                known = as_version(registration, len(there) + 1, datetime.now(UTC), uuid.uuid4().hex)
                self._records[known.name, known.version] = json.dumps(dict(registration.record))
                there.append(known)
            self.ensure_challenger(known.name, known.version)
            return _copy(known)

    def ensure_challenger(self, name: str, number: int) -> None:
        """Give the alias `challenger` to a version."""
        self.set_alias(name, CHALLENGER, number)

    def find(self, name: str, fingerprint: str) -> ModelVersion | None:
        """The version with a fingerprint, or None."""
        return next((version for version in self.versions(name) if version.fingerprint == fingerprint), None)

    def version(self, name: str, number: int) -> ModelVersion:
        """One version; see `ModelRegistry`."""
        found = next((version for version in self.versions(name) if version.version == number), None)
        if found is None:
            raise unknown(name, number, self.versions(name), self._versions)
        return found

    def versions(self, name: str) -> list[ModelVersion]:
        """Return all versions, newest first."""
        with self._lock:
            return [_copy(version) for version in reversed(self._versions.get(name, []))]

    def unreadable_versions(self, name: str) -> Mapping[int, str]:  # noqa: ARG002 - as `ModelRegistry` has it
        """Return nothing, because a version in memory can always be read."""
        return {}

    def by_alias(self, name: str, alias: str) -> ModelVersion | None:
        """The version that has an alias, or None."""
        number = self._aliases.get((name, alias))
        return None if number is None else self.version(name, number)

    def set_alias(self, name: str, alias: str, number: int) -> None:
        """Move an alias to a version; see `ModelRegistry`."""
        refuse_no_alias(alias)
        with self._lock:
            self._aliases[name, alias] = self.version(name, number).version

    def drop_alias(self, name: str, alias: str) -> None:
        """Take an alias away; nothing where there is none."""
        refuse_no_alias(alias)
        with self._lock:
            self._aliases.pop((name, alias), None)

    def set_tags(self, name: str, number: int, tags: Mapping[str, str]) -> None:
        """Set tags of a version; see `ModelRegistry`."""
        refuse_field_tags(name, tags)
        with self._lock:
            there = self._versions[self.version(name, number).name]
            at = next(at for at, version in enumerate(there) if version.version == number)
            there[at] = replace(there[at], tags={**there[at].tags, **tags})

    def names(self) -> list[str]:
        """The models with versions."""
        with self._lock:
            return sorted(self._versions)

    def record(self, name: str, number: int) -> dict[str, Any]:
        """The record that a version was registered with; see `ModelRegistry`."""
        found: dict[str, Any] = json.loads(self._records[name, self.version(name, number).version])
        return found

    def pinned_tables(self) -> Mapping[str, set[int]]:
        """Versions of tables that any registered version was trained on, by table."""
        with self._lock:
            return pinned(version.tables for there in self._versions.values() for version in there)


def as_version(registration: Registration, number: int, created_at: datetime, run_id: str) -> ModelVersion:
    """The version that a registration becomes."""
    return _copy(
        ModelVersion(
            name=registration.name,
            version=number,
            digest=registration.digest,
            fingerprint=registration.fingerprint,
            threshold=float(registration.threshold),
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
    """The metrics that are numbers: MLflow writes infinity as the largest float, and JSON has no word for it."""
    return {name: float(value) for name, value in metrics.items() if math.isfinite(value)}


def pinned(tables: Iterable[Mapping[str, int]]) -> dict[str, set[int]]:
    """All versions of each table."""
    found: dict[str, set[int]] = {}
    for one in tables:
        for table, number in one.items():
            found.setdefault(table, set()).add(number)
    return found


def refuse_no_alias(alias: str) -> None:
    """Refuse what MLflow does not take for an alias.

    Raises
    ------
    RegistryError
        It is none.
    """
    if not _ALIAS.fullmatch(alias):
        raise RegistryError(
            f"{alias!r} cannot be an alias: letters, digits, _ and - only, and neither `latest` nor a version like v1"
        )


def refuse_field_tags(name: str, tags: Iterable[str]) -> None:
    """Refuse tags that would be taken for a version's fields.

    Raises
    ------
    RegistryError
        There are some.
    """
    reserved = sorted(tag for tag in tags if tag.startswith(PREFIX))
    if reserved:
        raise RegistryError(f"{name}: the tags {reserved} have names that the platform needs; rename them")


def unknown(name: str, number: int, versions: Collection[ModelVersion], names: Iterable[str]) -> RegistryError:
    """The error for a version that is not there; says what is."""
    if not versions:
        there = ", ".join(sorted(names)) or "none yet"
        return RegistryError(
            f"no model {name} is registered (registered: {there}); train it, with the job train_{name}"
        )
    numbers = [str(version.version) for version in versions]
    there = ", ".join(numbers[:_LISTED]) + (", .." if len(numbers) > _LISTED else "")
    return RegistryError(f"{name} has no version {number}; it has {there}")


def _copy(version: ModelVersion) -> ModelVersion:
    """The same with mappings of its own, so that nobody changes what is kept."""
    return replace(
        version,
        tables=dict(version.tables),
        table_digests=dict(version.table_digests),
        metrics=dict(version.metrics),
        parameters=dict(version.parameters),
        tags=dict(version.tags),
    )
