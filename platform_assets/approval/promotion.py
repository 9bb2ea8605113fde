"""Promotion of an approved version, and rollback to the previous champion.

The ledger decides which version is the champion, and the registry is a copy. A promotion has three steps: record an
event in the ledger, set the tags and the alias `champion` in the registry (`reconciliation.py`), and record in the
ledger that the registry shows the result. Every step is idempotent. If the process is killed between two steps, the
next promotion, rollback or `reconcile` of the model completes them.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from platform_assets.approval.audit import JOURNAL, Finding
from platform_assets.approval.kept_heads import HEADS_FILE
from platform_assets.approval.ledger_errors import LedgerError
from platform_assets.approval.ledger_events import Promotion
from platform_assets.approval.reconciliation import Reconciler
from platform_assets.approval.registry_audit import altered
from platform_assets.approval.requests import State
from platform_assets.base.errors import ArtefactError, PlatformError
from platform_assets.base.printable_text import escaped
from platform_assets.models.artefact_store import is_digest
from platform_assets.models.registry import ERASED_TAG

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from contextlib import AbstractContextManager

    from platform_assets.approval.ledger import Ledger
    from platform_assets.approval.requests import Actor, Request
    from platform_assets.models.artefact_store import ArtefactStore
    from platform_assets.models.registry import ModelRegistry

_FIXES = {
    State.PENDING: "a person must approve it with `platform-assets decide approve {id}` or on the approval page",
    State.REJECTED: "train a better version",
    State.WITHDRAWN: "open a new request: `platform-assets decide request {model} {version}`",
    State.EXPIRED: "open a new request: `platform-assets decide request {model} {version}`",
    State.SUPERSEDED: "decide on the newer version, or open a new request: "
    "`platform-assets decide request {model} {version}`",
    State.FAILED: "open a new request with new evidence: `platform-assets decide request {model} {version}`",
    State.ROLLED_BACK: "open a new request: `platform-assets decide request {model} {version}`",
}


class PromotionRefused(PlatformError):  # noqa: N818 - says what it is
    """The version cannot be promoted, and a retry would not help; the message names the fix."""


class Promoter:
    """Promotes and rolls back versions, and updates the registry to match the ledger.

    Parameters
    ----------
    ledger
        The record of decisions.
    registry
        Registry of the model versions.
    artefacts
        Store of the model files.
    lock
        Function that returns the cross-process lock with a given name. The lock is released when the process that holds
        it ends.
    read_heads
        Function that returns the copies of the heads in the lake, by chain. None skips the comparison with these
        copies.
    """

    def __init__(
        self,
        ledger: Ledger,
        registry: ModelRegistry,
        artefacts: ArtefactStore,
        lock: Callable[[str], AbstractContextManager[Any]],
        read_heads: Callable[[], Mapping[str, str]] | None = None,
    ) -> None:
        self._ledger = ledger
        self._registry = registry
        self._artefacts = artefacts
        self._lock = lock
        self._read_heads = read_heads
        self._reconciler = Reconciler(ledger, registry, artefacts)

    def promote(self, number: int) -> Promotion:
        """Promote an approved version, or complete a promotion that was interrupted.

        The approval is checked again. If it is stale, the request becomes FAILED, and the reason is recorded.

        Parameters
        ----------
        number
            Number of the request.

        Raises
        ------
        PromotionRefused
            The request is not approved, or its approval is stale: it expired, the champion changed, or the model file
            was altered or lost.
        RegistryError
            The registry is unreachable. If the ledger has already recorded the promotion, the next call completes it;
            otherwise nothing was changed.
        LedgerError, ArtefactError
            The ledger or the store of the model files is unreachable.
        """
        with self._alone(self._ledger.request(number).model):
            request = self._ledger.request(number)
            if request.state is State.APPROVED:
                self._record_promotion(request)
            elif request.state is not State.PROMOTED:
                raise PromotionRefused(self._refusal(request))
            self._reconciler.project(request.model)
        event = next(one for one in self._ledger.history(number) if one.kind == "promote")
        return Promotion(request.id, request.model, request.version, request.digest, request.threshold, event)

    def demand_approved(self, number: int) -> None:
        """Check that a request is approved or promoted, without changing anything.

        Raises
        ------
        PromotionRefused
            The request is neither approved nor promoted; the message names the fix.
        LedgerError
            There is no such request, or the ledger is unreachable.
        """
        request = self._ledger.request(number)
        if request.state not in (State.APPROVED, State.PROMOTED):
            raise PromotionRefused(self._refusal(request))

    def rollback(self, model: str, actor: Actor, reason: str, *, delivery: str | None = None) -> Promotion:
        """Make the previous champion the champion again, and return it.

        Parameters
        ----------
        model
            Name of the model.
        actor
            The person who rolls back.
        reason
            The person's reason.
        delivery
            Idempotency key: a rollback that is sent twice with the same key is done once.

        Raises
        ------
        PromotionRefused
            The previous champion's file was altered or lost.
        DecisionRefused, LedgerError
            The person may not roll back, there is no previous champion, or the ledger is unreachable.
        RegistryError
            The registry is unreachable; see `promote`.
        """
        with self._alone(model):
            # Only check that the registry is reachable. Do not update it for the current champion, because this could
            # fail if that champion's file is damaged.
            self._registry.versions(model)
            done = [event for event in self._ledger.changes(model) if delivery and event.delivery == delivery]
            previous = self._ledger.previous_champion(model)
            if previous and not done and (why := self._unusable(previous.digest)):
                raise PromotionRefused(f"{model} cannot be rolled back to version {previous.version}: {why}")
            self._ledger.rolled_back(model, actor, reason, delivery=delivery)
            self._reconciler.project(model)
            champion = self._ledger.champion(model)
        assert champion is not None  # noqa: S101 - a rollback leaves one
        return champion

    def reconcile(self, model: str) -> list[str]:
        """Update the registry to match the ledger; return one line for each change.

        Raises
        ------
        RegistryError, LedgerError, ArtefactError
            Registry, ledger or artifact store is unreachable, or a deleted version cannot be restored.
        """
        with self._alone(model):
            return self._reconciler.reconcile(model)

    def drifted(self, model: str) -> list[str]:
        """Return the differences between registry and ledger, without changing anything.

        Raises
        ------
        RegistryError, LedgerError
            The registry or the ledger is unreachable.
        """
        return self._reconciler.drifted(model)

    def altered(self, model: str) -> list[str]:
        """Return the alterations of a model's artifacts and registered versions; see `registry_audit.altered`."""
        return altered(model, self._ledger, self._registry, self._artefacts)

    def erased(self, model: str) -> list[str]:
        """Return the versions of a model that were trained on personal data erased later, one message for each."""
        return [
            f"{model} version {version.version}: its training data included a person whose data "
            f"were erased ({version.tags[ERASED_TAG]}), so it cannot be reproduced"
            for version in self._registry.versions(model)
            if ERASED_TAG in version.tags
        ]

    def models(self) -> list[str]:
        """Return the models in the ledger or the registry, sorted by name."""
        return sorted({*self._ledger.models(), *self._registry.names()})

    def audit(self) -> list[Finding]:
        """Return the alterations of the ledger.

        The registry's tags and the lake contain copies of chain heads. A copied head that is not in the ledger also
        counts as an alteration.
        """
        heads, missing = self._reconciler.heads(), []
        if self._read_heads is not None:
            kept, prefixes = self._read_heads(), {"events": "", "journal": JOURNAL}
            heads |= {f"{HEADS_FILE} ({chain})": prefixes.get(chain, "") + head for chain, head in kept.items()}
            if not kept and self._ledger.has_own_events():
                missing = [Finding(HEADS_FILE, "missing from the lake; the next event writes it again")]
            elif all(":" in head for head in kept.values()) and self._ledger.has_own_events():
                missing = [Finding(HEADS_FILE, f"lacks the head of the {one}") for one in prefixes if one not in kept]
        return [*self._ledger.audit(heads), *missing]

    def audit_everything(self) -> list[str]:
        """Return the alterations of the ledger, the registry and the store of the model files, one line for each.

        Control characters are escaped, because names in the registry could otherwise hide or add lines on a terminal.
        """
        found = [f"{finding.row}: {finding.told}" for finding in self.audit()]
        for model in self.models():
            found += [*self.drifted(model), *self.altered(model)]
        return [escaped(line) for line in found]

    @contextmanager
    def _alone(self, model: str) -> Iterator[None]:
        with self._lock(f"promote {model}"):
            yield

    def _record_promotion(self, request: Request) -> None:
        if why := self._unfollowable(request):
            self._ledger.failed(request.id, why)
            raise PromotionRefused(self._refusal(self._ledger.request(request.id)))
        # Fail before anything is recorded if the registry is unreachable.
        self._registry.versions(request.model)
        try:
            self._ledger.promoted(request.id)
        except LedgerError:
            # If the approval became stale after the check, record this. Otherwise, raise the database's error. The
            # promotion may have been recorded nevertheless; the next call then completes it.
            if why := self._ledger.stale(request.id):
                self._ledger.failed(request.id, why)
                raise PromotionRefused(self._refusal(self._ledger.request(request.id))) from None
            raise

    def _unfollowable(self, request: Request) -> str | None:
        """Return why an approval is stale or invalid; None if the version can be promoted."""
        history = self._ledger.history(request.id)
        if not request.passed and not any(event.override for event in history if event.kind == "approve"):
            return "it did not pass the gate, and no approval has an override"
        rows = {f"request {request.id}", *(f"event {event.sequence}" for event in history)}
        if altered := [f"{one.row}: {one.told}" for one in self._ledger.audit() if one.row in rows]:
            return f"the ledger was tampered with: {'; '.join(altered)}"
        return self._ledger.stale(request.id) or self._unusable(request.digest)

    def _unusable(self, digest: str) -> str | None:
        """Return why a model file cannot be used; None if it can."""
        # An unreachable store raises an error here. The file is not reported as unusable, because it may be intact.
        if is_digest(digest) and not self._artefacts.exists(digest):
            return f"the model file {digest}.skops is missing; restore it from a backup"
        try:
            self._artefacts.load(digest)
        except ArtefactError as error:
            return str(error)
        return None

    def _refusal(self, request: Request) -> str:
        last = self._ledger.history(request.id)[-1]
        fix = _FIXES[request.state].format(id=request.id, model=request.model, version=request.version)
        return f"{request.called} cannot be promoted: it is {request.state}, {last.told}; {fix}"
