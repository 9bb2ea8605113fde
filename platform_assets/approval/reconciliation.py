"""Reconciliation of the registry with the ledger: the registry shows the champion that the ledger names.

A version that the registry lost is made again of its file and its evidence.
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
"""Tag of a version: the request by which it became champion."""
HEAD_TAG = "ledger_head"
"""Tag of a version: the ledger's newest event when the alias was moved, so that a cut ledger is found."""
RESTORED_TAG = "restored_from"
"""Tag of a version that was made again of a lost one: the number of that one."""


class Reconciler:
    """Keeps the registry to what the ledger says; whoever calls it holds the model's lock.

    Parameters
    ----------
    ledger
        Where decisions are.
    registry
        What shows them.
    artefacts
        Where the models' files are.
    """

    def __init__(self, ledger: Ledger, registry: ModelRegistry, artefacts: ArtefactStore) -> None:
        self._ledger = ledger
        self._registry = registry
        self._artefacts = artefacts

    def project(self, model: str) -> None:
        """Bring the ledger's champion to the registry, and mark that it is there."""
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
        """Make the registry show what the ledger says; what was done, a line each."""
        drift = self.drifted(model)
        if self._ledger.champion(model) is not None:
            self.project(model)
        elif drift:
            self._registry.drop_alias(model, CHAMPION)
        return [f"mended: {told}" for told in drift]

    def drifted(self, model: str) -> list[str]:
        """In what the registry does not show what the ledger says; looks only.

        Raises
        ------
        RegistryError, LedgerError
            One of them does not answer.
        """
        champion = self._ledger.champion(model)
        there = self._registry.versions(model)
        shown, stranger = self._shown(model)
        found = f"version {shown.version}" if shown else stranger
        if champion is None:
            return [f"{model}: the alias {CHAMPION} is at {found}, and nothing was promoted"] if found else []
        wanted = f"version {champion.version}, request {champion.request_id}"
        told = []
        if all(version.digest != champion.digest for version in there):
            told.append(f"{model}: the champion ({wanted}) is not in the registry: it was deleted")
        if shown is None or shown.digest != champion.digest:
            told.append(f"{model}: the alias {CHAMPION} is at {found or 'no version'}; the champion is {wanted}")
        else:
            tags = self._tags(champion)
            told += [
                f"{model} version {shown.version}: the tag {name} is {shown.tags.get(name)!r}; it must be {value!r}"
                for name, value in tags.items()
                if shown.tags.get(name) != value
            ]
        waiting = [str(event.sequence) for event in self._ledger.unprojected(model)]
        if waiting and not told:
            told.append(f"{model}: it is not recorded that the registry shows event {', '.join(waiting)}")
        return told

    def heads(self) -> dict[str, str]:
        """Return the ends of the ledger that the registry's versions carry, by version."""
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
        """The version that has the alias; or, where it is none that the platform knows, what the registry says."""
        try:
            return self._registry.by_alias(model, CHAMPION), ""
        except RegistryError as error:
            return None, f"a version that is not the platform's ({error})"

    def _registered(self, champion: Promotion) -> ModelVersion:
        """The champion's version in the registry, made again of its file and evidence if it was lost."""
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
            # Trained again since, which made another file.
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
        """A version that was made again is the registry's newest, and still no challenger."""
        challenger = self._registry.by_alias(model, CHALLENGER)
        if challenger is None or RESTORED_TAG not in challenger.tags:
            return
        trained = [version for version in self._registry.versions(model) if RESTORED_TAG not in version.tags]
        if trained:
            self._registry.set_alias(model, CHALLENGER, trained[0].version)
