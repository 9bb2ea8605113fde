"""Reconciliation: point the registry's alias `champion` to the champion of the ledger.

A version that was deleted from the registry is restored from its file and its evidence.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from platform_assets.base.errors import RegistryError
from platform_assets.models.registry import CHALLENGER, CHAMPION, Registration

if TYPE_CHECKING:
    from platform_assets.approval.ledger import Ledger
    from platform_assets.approval.ledger_events import Event, Promotion
    from platform_assets.models.artefact_store import ArtefactStore
    from platform_assets.models.registry import ModelRegistry, ModelVersion

APPROVAL_TAG = "approval"
"""Tag of a version: number of the request that made it the champion."""
HEAD_TAG = "ledger_head"
"""Tag of a version: head of the ledger when the alias was moved. The audit uses it to detect deleted events."""
RESTORED_TAG = "restored_from"
"""Tag of a restored version: number of the deleted version."""


class Reconciler:
    """Updates the registry to match the ledger. The caller holds the model's lock.

    Parameters
    ----------
    ledger
        The record of decisions.
    registry
        Registry of the model versions.
    artefacts
        Store of the model files.
    """

    def __init__(self, ledger: Ledger, registry: ModelRegistry, artefacts: ArtefactStore) -> None:
        self._ledger = ledger
        self._registry = registry
        self._artefacts = artefacts

    def project(self, model: str) -> None:
        """Set the registry's alias and tags for the ledger's champion, then record in the ledger that they are set."""
        champion = self._ledger.champion(model)
        if champion is None:
            return
        waiting = self._ledger.unprojected(model)
        version = self._registered(champion)
        tags = self._tags(champion)
        if any(version.tags.get(name) != value for name, value in tags.items()):
            self._registry.set_tags(model, version.version, tags)
        shown, _ = self._shown(model)
        if shown is None or shown.version != version.version:
            self._registry.set_alias(model, CHAMPION, version.version)
        for event in waiting:
            self._ledger.projected(event.sequence)

    def reconcile(self, model: str) -> list[str]:
        """Update the registry to match the ledger; return one line for each change."""
        drift = self.drifted(model)
        if self._ledger.champion(model) is not None:
            self.project(model)
        elif drift:
            self._registry.drop_alias(model, CHAMPION)
        return [f"repaired: {told}" for told in drift]

    def drifted(self, model: str) -> list[str]:
        """Return the differences between registry and ledger, without changing anything.

        Raises
        ------
        RegistryError, LedgerError
            The registry or the ledger is unreachable.
        """
        champion = self._ledger.champion(model)
        there = self._registry.versions(model)
        shown, stranger = self._shown(model)
        found = f"version {shown.version}" if shown else stranger
        if champion is None:
            return [f"{model}: the alias `{CHAMPION}` points to {found}, but no version was promoted"] if found else []
        wanted = f"version {champion.version}, request {champion.request_id}"
        told = []
        if all(version.digest != champion.digest for version in there):
            told.append(f"{model}: the champion ({wanted}) was deleted from the registry")
        if shown is None or shown.digest != champion.digest:
            told.append(
                f"{model}: the alias `{CHAMPION}` points to {found or 'no version'}, but the champion is {wanted}"
            )
        else:
            tags = self._tags(champion)
            told += [
                f"{model} version {shown.version}: the tag {name} is {shown.tags.get(name)!r}; it must be {value!r}"
                for name, value in tags.items()
                if shown.tags.get(name) != value
            ]
        waiting = [str(event.sequence) for event in self._ledger.unprojected(model)]
        if waiting and not told:
            told.append(
                f"{model}: the registry is up to date, but the ledger has not recorded this for event "
                f"{', '.join(waiting)}"
            )
        return told

    def heads(self) -> dict[str, str]:
        """Return the ledger's chain heads that are stored in the tags of registered versions, by version."""
        return {
            f"{version.name} version {version.version}": version.tags[HEAD_TAG]
            for name in self._registry.names()
            for version in self._registry.versions(name)
            if HEAD_TAG in version.tags
        }

    def _tags(self, champion: Promotion) -> dict[str, str]:
        newest: Event = self._ledger.changes(champion.model)[-1]
        return {APPROVAL_TAG: str(champion.request_id), HEAD_TAG: newest.head}

    def _shown(self, model: str) -> tuple[ModelVersion | None, str]:
        """Return the version that has the alias; None and a description if the platform did not register it."""
        try:
            return self._registry.by_alias(model, CHAMPION), ""
        except RegistryError as error:
            return None, f"a version that the platform did not register ({error})"

    def _registered(self, champion: Promotion) -> ModelVersion:
        """Return the champion's version in the registry; restore it from its file and evidence if it was deleted."""
        there = self._registry.versions(champion.model)
        same = [version for version in there if version.digest == champion.digest]
        found = next((version for version in same if version.version == champion.version), None)
        found = found or next(iter(same), None) or self._restored(champion)
        self._keep_challenger(champion.model)
        return found

    def _restored(self, champion: Promotion) -> ModelVersion:
        request = self._ledger.request(champion.request_id)
        evidence = request.evidence
        registered = evidence.get("registered") or {}
        fingerprint = str(evidence.get("fingerprint") or champion.digest)
        if self._registry.find(champion.model, fingerprint):
            # A later training run registered another file under this fingerprint. Make the fingerprint unique,
            # because the registry would otherwise return the version with that file.
            fingerprint = f"{fingerprint}:{champion.digest}"
        return self._registry.register(
            Registration(
                name=champion.model,
                fingerprint=fingerprint,
                digest=champion.digest,
                threshold=champion.threshold,
                tables=evidence.get("tables") or {},
                table_digests=evidence.get("table_digests") or {},
                metrics=registered.get("metrics") or {},
                parameters=registered.get("parameters") or {},
                tags={**(registered.get("tags") or {}), RESTORED_TAG: str(champion.version)},
                record=evidence.get("record") or {},
                plots=self._ledger.plots(request.id),
                model=self._artefacts.load(champion.digest),
            )
        )

    def _keep_challenger(self, model: str) -> None:
        """Move the alias `challenger` back to the newest trained version, because restoring a version moved it."""
        challenger = self._registry.by_alias(model, CHALLENGER)
        if challenger is None or RESTORED_TAG not in challenger.tags:
            return
        trained = [version for version in self._registry.versions(model) if RESTORED_TAG not in version.tags]
        if trained:
            self._registry.set_alias(model, CHALLENGER, trained[0].version)
