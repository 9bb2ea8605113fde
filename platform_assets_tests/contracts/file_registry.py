"""A model registry in a file, for tests that kill processes. It is a thousand times faster than MLflow."""

from __future__ import annotations

import fcntl
import pickle
import uuid
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from platform_assets.models.memory_registry import MemoryRegistry

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from platform_assets.models.registry import ModelVersion, Registration

_PARTS = ("_versions", "_records", "_aliases")


class FileRegistry:
    """`ModelRegistry` in a folder; each call reads the whole file and replaces it atomically."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def register(self, registration: Registration) -> ModelVersion:
        with self._opened() as registry:
            return registry.register(registration)

    def ensure_challenger(self, name: str, number: int) -> None:
        with self._opened() as registry:
            registry.ensure_challenger(name, number)

    def find(self, name: str, fingerprint: str) -> ModelVersion | None:
        with self._opened() as registry:
            return registry.find(name, fingerprint)

    def version(self, name: str, number: int) -> ModelVersion:
        with self._opened() as registry:
            return registry.version(name, number)

    def versions(self, name: str) -> list[ModelVersion]:
        with self._opened() as registry:
            return registry.versions(name)

    def unreadable_versions(self, name: str) -> Mapping[int, str]:
        with self._opened() as registry:
            return registry.unreadable_versions(name)

    def by_alias(self, name: str, alias: str) -> ModelVersion | None:
        with self._opened() as registry:
            return registry.by_alias(name, alias)

    def named_artefacts(self) -> set[str]:
        with self._opened() as registry:
            return registry.named_artefacts()

    def set_alias(self, name: str, alias: str, number: int) -> None:
        with self._opened() as registry:
            registry.set_alias(name, alias, number)

    def drop_alias(self, name: str, alias: str) -> None:
        with self._opened() as registry:
            registry.drop_alias(name, alias)

    def set_tags(self, name: str, number: int, tags: Mapping[str, str]) -> None:
        with self._opened() as registry:
            registry.set_tags(name, number, tags)

    def names(self) -> list[str]:
        with self._opened() as registry:
            return registry.names()

    def record(self, name: str, number: int) -> dict[str, Any]:
        with self._opened() as registry:
            return registry.record(name, number)

    def pinned_tables(self) -> Mapping[str, set[int]]:
        with self._opened() as registry:
            return registry.pinned_tables()

    @contextmanager
    def _opened(self) -> Iterator[MemoryRegistry]:
        registry, path = MemoryRegistry(), self._folder / "registry"
        with (self._folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            before = path.read_bytes() if path.exists() else b""
            if before:
                vars(registry).update(pickle.loads(before))
            yield registry
            after = pickle.dumps({part: vars(registry)[part] for part in _PARTS})
            if after != before:
                new = self._folder / uuid.uuid4().hex
                new.write_bytes(after)
                new.rename(path)
