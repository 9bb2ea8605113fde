"""From an approved request to a champion: the promotion, the rollback.

The ledger decides and the registry shows it: a promotion is first one entry in the ledger, then tags and the alias
`champion` in the registry, then a mark in the ledger that the registry has it. Whoever is killed between any two of
these leaves the rest to the next promotion, rollback or `reconcile`; each step does nothing where it was done. The
steps in the registry stand in `reconciliation.py`.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from platform_assets.approval.ledger_errors import LedgerError
from platform_assets.approval.ledger_events import Promotion
from platform_assets.approval.reconciliation import Reconciler
from platform_assets.approval.registry_audit import altered
from platform_assets.approval.requests import PLATFORM, Actor, State
from platform_assets.base.errors import ArtefactError, PlatformError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from platform_assets.approval.audit import Finding
    from platform_assets.approval.ledger import Ledger
    from platform_assets.approval.requests import Request
    from platform_assets.models.artefact_store import ArtefactStore
    from platform_assets.models.registry import ModelRegistry

_WAYS_OUT = {
    State.PENDING: "a person must approve it: `platform-assets decide approve {id}`, or on the page",
    State.REJECTED: "train a better version",
    State.WITHDRAWN: "`platform-assets decide request {model} {version}` asks again",
    State.EXPIRED: "`platform-assets decide request {model} {version}` asks again",
    State.SUPERSEDED: "decide about the newer version, or `platform-assets decide request {model} {version}`",
    State.FAILED: "`platform-assets decide request {model} {version}` asks again, with fresh evidence",
    State.ROLLED_BACK: "`platform-assets decide request {model} {version}` asks again",
}


class PromotionRefused(PlatformError):  # noqa: N818 - says what it is
    """A version is not made the champion; what would open it is told. Trying again does not help."""


class Promoter:
    """Promotes, rolls back, and keeps the registry to what the ledger says.

    Parameters
    ----------
    ledger
        Where decisions are.
    registry
        What shows them.
    artefacts
        Where the models' files are.
    lock
        Makes a lock of a name, which one process holds at a time and loses when it ends.
    """

    def __init__(
        self,
        ledger: Ledger,
        registry: ModelRegistry,
        artefacts: ArtefactStore,
        lock: Callable[[str], AbstractContextManager[Any]],
    ) -> None:
        self._ledger = ledger
        self._registry = registry
        self._artefacts = artefacts
        self._lock = lock
        self._reconciler = Reconciler(ledger, registry, artefacts)

    def promote(self, number: int, actor: Actor | None = None) -> Promotion:
        """Make an approved version the champion, or complete what a killed process began.

        Everything is read anew. An approval that cannot be followed any more becomes FAILED, with the reason.

        Parameters
        ----------
        number
            The request.
        actor
            Who launched it; by default the platform.

        Raises
        ------
        PromotionRefused
            It is not approved, or not any more: expired, another champion than the approver saw, or a model
            file that was altered or lost.
        RegistryError
            The registry does not answer. Before the ledger has the promotion, nothing has happened; after that,
            the next call completes it.
        LedgerError, ArtefactError
            The ledger, or the store of the models' files, does not answer.
        """
        actor = actor or Actor(PLATFORM)
        with self._alone(self._ledger.request(number).model):
            request = self._ledger.request(number)
            if request.state is State.APPROVED:
                self._record_promotion(request, actor)
            elif request.state is not State.PROMOTED:
                raise PromotionRefused(self._refusal(request))
            self._reconciler.project(request.model)
        event = next(one for one in self._ledger.history(number) if one.kind == "promote")
        return Promotion(request.id, request.model, request.version, request.digest, request.threshold, event)

    def demand_approved(self, number: int) -> None:
        """Refuse a request that no person approved, and tell what would open it; looks only.

        Raises
        ------
        PromotionRefused
            It is neither approved nor promoted.
        LedgerError
            There is no such request, or the ledger does not answer.
        """
        request = self._ledger.request(number)
        if request.state not in (State.APPROVED, State.PROMOTED):
            raise PromotionRefused(self._refusal(request))

    def rollback(self, model: str, actor: Actor, reason: str, *, delivery: str | None = None) -> Promotion:
        """Make the previous champion the champion again; the champion that there is then.

        Parameters
        ----------
        model
            The model.
        actor
            Who does it.
        reason
            Why.
        delivery
            Any text that is the same when the same rollback is sent again; it is then done once.

        Raises
        ------
        PromotionRefused
            The previous champion's file was altered or lost.
        DecisionRefused, LedgerError
            This person may not, there is no previous champion, or the ledger does not answer.
        RegistryError
            The registry does not answer; see `promote`.
        """
        with self._alone(model):
            # What is rolled back need not be whole: it is not brought to the registry first.
            self._registry.versions(model)
            done = [event for event in self._ledger.changes(model) if delivery and event.delivery == delivery]
            previous = self._ledger.previous_champion(model)
            if previous and not done and (why := self._unusable(previous.digest)):
                raise PromotionRefused(f"{model} cannot go back to version {previous.version}: {why}")
            self._ledger.rolled_back(model, actor, reason, delivery=delivery)
            self._reconciler.project(model)
            champion = self._ledger.champion(model)
        assert champion is not None  # noqa: S101 - a rollback leaves one
        return champion

    def reconcile(self, model: str) -> list[str]:
        """Make the registry show what the ledger says; what was done, a line each.

        Raises
        ------
        RegistryError, LedgerError, ArtefactError
            One of them does not answer, or a lost version cannot be made again.
        """
        with self._alone(model):
            return self._reconciler.reconcile(model)

    def drifted(self, model: str) -> list[str]:
        """In what the registry does not show what the ledger says; looks only.

        Raises
        ------
        RegistryError, LedgerError
            One of them does not answer.
        """
        return self._reconciler.drifted(model)

    def altered(self, model: str) -> list[str]:
        """Return what was altered in a model's artefacts and registered versions; see `registry_audit.altered`."""
        return altered(model, self._ledger, self._registry, self._artefacts)

    def models(self) -> list[str]:
        """The models that the ledger or the registry knows."""
        return sorted({*self._ledger.models(), *self._registry.names()})

    def audit(self) -> list[Finding]:
        """What somebody altered in the ledger, held against the ends of it that the registry's versions carry."""
        return self._ledger.audit(self._reconciler.heads())

    @contextmanager
    def _alone(self, model: str) -> Iterator[None]:
        with self._lock(f"promote {model}"):
            yield

    def _record_promotion(self, request: Request, actor: Actor) -> None:
        if why := self._unfollowable(request):
            self._ledger.failed(request.id, why)
            raise PromotionRefused(self._refusal(self._ledger.request(request.id)))
        # Whether the registry answers, before anything depends on it.
        self._registry.versions(request.model)
        try:
            self._ledger.promoted(request.id, actor, {"version": request.version, "digest": request.digest})
        except LedgerError:
            # It may have expired since; an answer that was lost is read by whoever comes next.
            if why := self._ledger.stale(request.id):
                self._ledger.failed(request.id, why)
                raise PromotionRefused(self._refusal(self._ledger.request(request.id))) from None
            raise

    def _unfollowable(self, request: Request) -> str | None:
        """Why an approval cannot be followed any more; None if it can."""
        history = self._ledger.history(request.id)
        if not request.passed and not any(event.override for event in history if event.kind == "approve"):
            return "it did not pass the gate, and nobody overrode that"
        rows = {f"request {request.id}", *(f"event {event.sequence}" for event in history)}
        if altered := [f"{one.row}: {one.told}" for one in self._ledger.audit() if one.row in rows]:
            return f"the ledger was tampered with: {'; '.join(altered)}"
        return self._ledger.stale(request.id) or self._unusable(request.digest)

    def _unusable(self, digest: str) -> str | None:
        """What is wrong with a model's file; None if it can serve."""
        # Raises where the store does not answer, which is no fault of the file.
        if not self._artefacts.exists(digest):
            return f"the model file {digest}.skops is not there; restore it from a copy"
        try:
            self._artefacts.load(digest)
        except ArtefactError as error:
            return str(error)
        return None

    def _refusal(self, request: Request) -> str:
        last = self._ledger.history(request.id)[-1]
        way_out = _WAYS_OUT[request.state].format(id=request.id, model=request.model, version=request.version)
        return f"{request.called} is not promoted: it is {request.state}, {last.told}; {way_out}"
