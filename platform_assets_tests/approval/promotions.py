"""Helpers for tests of promotions: a model with versions, files and requests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from platform_assets.approval.promotion import Promoter
from platform_assets.models.artefact_store import ArtefactStore
from platform_assets.models.registry import CHAMPION
from platform_assets_tests.approval.proposals import ANNA, MODEL, PASSED, PLOTS, proposal
from platform_assets_tests.contracts.registrations import registration, small_model

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from pathlib import Path

    from platform_assets.approval.ledger import Ledger
    from platform_assets.approval.requests import Request
    from platform_assets.models.fitted_model import FittedModel
    from platform_assets.models.registry import ModelRegistry, ModelVersion


class Works:
    """Ledger, registry, files and promoter, with a method for each step from training to promotion."""

    def __init__(
        self,
        ledger: Ledger,
        registry: ModelRegistry,
        folder: Path,
        lock: Callable[[str], AbstractContextManager[Any]],
        artefacts: Any = None,
    ) -> None:
        self.ledger = ledger
        self.registry = registry
        self.folder = folder
        self.artefacts = artefacts or ArtefactStore(str(folder))
        self.promoter = Promoter(ledger, registry, self.artefacts, lock)

    def train(
        self, fingerprint: str = "print-1", model: str = MODEL, fitted: FittedModel | None = None
    ) -> ModelVersion:
        """Register a new version. Each version gets its own file, even if the models are equal."""
        digest = self.artefacts.save(fitted or small_model())
        return self.registry.register(registration(fingerprint, name=model, digest=digest, plots=PLOTS))

    def ask(self, version: ModelVersion, **others: Any) -> Request:
        """Open a request as a training run does."""
        champion = self.ledger.champion(version.name)
        fields: dict[str, Any] = {
            "model": version.name,
            "digest": version.digest,
            "threshold": version.threshold,
            "evidence": {
                **PASSED,
                "tables": dict(version.tables),
                "table_digests": dict(version.table_digests),
                "fingerprint": version.fingerprint,
                "registered": {
                    "metrics": dict(version.metrics),
                    "parameters": dict(version.parameters),
                    "tags": dict(version.tags),
                },
                "record": self.registry.record(version.name, version.version),
            },
            "champion": (champion.version, champion.digest) if champion else None,
        }
        return self.ledger.open_request(proposal(version.version, **{**fields, **others}))

    def approve(self, version: ModelVersion, **others: Any) -> int:
        """Open and approve a request; return its number."""
        request = self.ask(version, **others)
        return self.ledger.decide(request.id, "approve", ANNA, "better").id

    def crown(self, fingerprint: str = "print-1", model: str = MODEL) -> ModelVersion:
        """Train, approve and promote a new version."""
        version = self.train(fingerprint, model)
        self.promoter.promote(self.approve(version))
        return version

    def file(self, version: ModelVersion) -> Path:
        """Return the file of a version."""
        return self.folder / "models" / f"{version.digest}.skops"


def champion(works: Works) -> int | None:
    """Return the version of the champion, and check that registry and ledger agree."""
    alias, decided = works.registry.by_alias(MODEL, CHAMPION), works.ledger.champion(MODEL)
    assert (alias.digest if alias else None) == (decided.digest if decided else None)
    assert works.promoter.drifted(MODEL) == []
    return alias.version if alias else None
