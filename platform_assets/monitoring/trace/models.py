"""The model version that produced an answer: its artifact, its approval and its training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from platform_assets.approval.ledger_errors import NoSuchRequest
from platform_assets.base.errors import ArtefactError, RegistryError
from platform_assets.monitoring.trace.results import Decision, TracedModel

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from platform_assets.approval.ledger import Ledger
    from platform_assets.approval.ledger_events import Event
    from platform_assets.approval.requests import Request
    from platform_assets.models.artefact_store import ArtefactStore
    from platform_assets.models.registry import ModelRegistry, ModelVersion


@dataclass(frozen=True)
class ModelRecords:
    """Reader of the recorded facts about a model version.

    Parameters
    ----------
    ledger
        Ledger of decisions about models.
    registry
        Registry of model versions, with the records of their training.
    artefacts
        Store of the models' artefacts.
    """

    ledger: Ledger
    registry: ModelRegistry
    artefacts: ArtefactStore

    def trace(self, name: str, version: int | None, approval_id: int | None) -> TracedModel:
        """Return the known facts about the model version that produced an answer.

        Facts are read from the approval request, because it cannot be changed later. Facts that are not in the request
        are read from the registry.

        Parameters
        ----------
        name, version, approval_id
            Name and number of the model version, and number of its approval request.

        Raises
        ------
        LedgerError
            The database does not respond.
        """
        missing: list[str] = []
        request, decisions = _request(self.ledger, approval_id, missing)
        if request and (request.model, request.version) != (name, version):
            missing.append(
                f"the recorded approval request {request.id} is for another version: {request.model} version "
                f"{request.version}"
            )
            request, decisions = None, []
        registered = _registered(self.registry, name, version, missing)
        evidence: Mapping[str, Any] = request.evidence if request else {}
        tags = {**(evidence.get("registered") or {}).get("tags", {}), **(registered.tags if registered else {})}
        runs, either = evidence.get("runs") or {}, request or registered
        if either:
            missing += _artefact(self.artefacts, either.digest)
        return TracedModel(
            name=name,
            version=version,
            approval_id=approval_id,
            digest=either.digest if either else None,
            threshold=either.threshold if either else None,
            decisions=[_decision(event) for event in decisions],
            dagster_run=runs.get("dagster"),
            mlflow_run=registered.run_id if registered else runs.get("mlflow"),
            launched_by=tags.get("launched_by"),
            trained_at=registered.created_at if registered else None,
            git_commit=tags.get("git_commit"),
            code=tags.get("code_version"),
            lock_digest=tags.get("lock_digest"),
            demo=evidence.get("demo"),
            tables=evidence.get("tables") or (registered.tables if registered else {}),
            table_digests=evidence.get("table_digests") or (registered.table_digests if registered else {}),
            missing=missing,
        )


def _request(ledger: Ledger, number: int | None, missing: list[str]) -> tuple[Request | None, Sequence[Event]]:
    if number is None:
        missing.append("no approval request was recorded with the answer")
        return None, []
    try:
        return ledger.request(number), ledger.history(number)
    except NoSuchRequest as error:
        missing.append(str(error))
        return None, []


def _registered(registry: ModelRegistry, name: str, version: int | None, missing: list[str]) -> ModelVersion | None:
    if version is None:
        missing.append("no model version was recorded with the answer")
        return None
    try:
        return registry.version(name, version)
    except RegistryError as error:
        missing.append(f"the model registry does not contain this version: {error}")
        return None


def _artefact(artefacts: ArtefactStore, digest: str) -> list[str]:
    try:
        artefacts.read(digest)
    except ArtefactError as error:
        return [str(error)]
    return []


def _decision(event: Event) -> Decision:
    return Decision(event.kind, event.who, event.authenticated, event.at, event.reason, event.told)
