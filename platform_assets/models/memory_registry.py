"""A model registry in memory, for tests and demonstrations."""

from __future__ import annotations

import json
import threading
import uuid
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from platform_assets.models.registry import (
    CHALLENGER,
    as_version,
    copied,
    named_digests,
    pinned,
    refuse_field_tags,
    refuse_no_alias,
    unknown,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from platform_assets.models.registry import ModelVersion, Registration


class MemoryRegistry:
    """A registry in memory."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._versions: dict[str, list[ModelVersion]] = {}
        self._records: dict[tuple[str, int], str] = {}
        self._aliases: dict[tuple[str, str], int] = {}

    def register(self, registration: Registration) -> ModelVersion:
        """Create a version, or return the one with this fingerprint; see `ModelRegistry`."""
        with self._lock:
            known = self.find(registration.name, registration.fingerprint)
            if known is None:
                there = self._versions.setdefault(registration.name, [])
                known = as_version(registration, len(there) + 1, datetime.now(UTC), uuid.uuid4().hex)
                self._records[known.name, known.version] = json.dumps(dict(registration.record))
                there.append(known)
            self.ensure_challenger(known.name, known.version)
            return copied(known)

    def ensure_challenger(self, name: str, number: int) -> None:
        """Give the alias `challenger` to a version."""
        self.set_alias(name, CHALLENGER, number)

    def find(self, name: str, fingerprint: str) -> ModelVersion | None:
        """Return the version with a fingerprint, or None."""
        return next((version for version in self.versions(name) if version.fingerprint == fingerprint), None)

    def version(self, name: str, number: int) -> ModelVersion:
        """Return a version; see `ModelRegistry`."""
        found = next((version for version in self.versions(name) if version.version == number), None)
        if found is None:
            raise unknown(name, number, self.versions(name), self._versions)
        return found

    def versions(self, name: str) -> list[ModelVersion]:
        """Return all versions, newest first."""
        with self._lock:
            return [copied(version) for version in reversed(self._versions.get(name, []))]

    def unreadable_versions(self, name: str) -> Mapping[int, str]:  # noqa: ARG002 - signature of `ModelRegistry`
        """Return an empty mapping, because a version in memory can always be read."""
        return {}

    def by_alias(self, name: str, alias: str) -> ModelVersion | None:
        """Return the version with an alias, or None."""
        number = self._aliases.get((name, alias))
        return None if number is None else self.version(name, number)

    def set_alias(self, name: str, alias: str, number: int) -> None:
        """Move an alias to a version; see `ModelRegistry`."""
        refuse_no_alias(alias)
        with self._lock:
            self._aliases[name, alias] = self.version(name, number).version

    def drop_alias(self, name: str, alias: str) -> None:
        """Remove an alias if it exists."""
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
        """Return the names of the models."""
        with self._lock:
            return sorted(self._versions)

    def record(self, name: str, number: int) -> dict[str, Any]:
        """Return the record of a version; see `ModelRegistry`."""
        found: dict[str, Any] = json.loads(self._records[name, self.version(name, number).version])
        return found

    def named_artefacts(self) -> set[str]:
        """Return the digests of the artefacts and encoders of all versions."""
        with self._lock:
            return named_digests([version for there in self._versions.values() for version in there])

    def pinned_tables(self) -> Mapping[str, set[int]]:
        """Return the table versions on which the registered models were trained; see `ModelRegistry`."""
        with self._lock:
            return pinned(version.tables for there in self._versions.values() for version in there)
