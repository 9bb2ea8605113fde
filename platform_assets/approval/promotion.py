"""From a training to a champion: the request with its evidence, promotion, rollback, and the registry as a mirror.

The ledger decides and the registry shows it: a promotion is first one entry in the ledger, then tags and the alias
`champion` in the registry, then a mark in the ledger that the registry has it. Whoever is killed between any two of
these leaves the rest to the next promotion, rollback or `reconcile`; each step does nothing where it was done.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from platform_assets.approval.ledger_errors import LedgerError
from platform_assets.approval.requests import PLATFORM, Actor, Proposal, State
from platform_assets.base.errors import ArtefactError, PlatformError, RegistryError
from platform_assets.base.json_values import as_json
from platform_assets.models.registry import CHALLENGER, CHAMPION, Registration

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from platform_assets.approval.audit import Finding
    from platform_assets.approval.ledger import Ledger
    from platform_assets.approval.ledger_events import Event, Promotion
    from platform_assets.approval.requests import Request
    from platform_assets.models.artefacts import ArtefactStore
    from platform_assets.models.registry import ModelRegistry, ModelVersion
    from platform_assets.training.model_spec import ModelSpec
    from platform_assets.training.trainer import Training

APPROVAL_TAG = "approval"
"""Tag of a version: the request by which it became champion."""
HEAD_TAG = "ledger_head"
"""Tag of a version: the ledger's newest event when the alias was moved, so that a cut ledger is found."""
RESTORED_TAG = "restored_from"
"""Tag of a version that was made again of a lost one: the number of that one."""
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


def evidence_of(training: Training) -> dict[str, Any]:
    """What a person who decides has to know of a version, frozen: JSON, with null for what is no number.

    Parameters
    ----------
    training
        A model's training, or a version judged again.

    Returns
    -------
    `metrics`, `difference` and `subgroups` with intervals; `verdict`; `threshold`; `tables` and `table_digests`;
    `git_commit` and `lock_digest`; `champion`; `demo`; `card`; and of what a lost version is made again:
    `fingerprint`, `registered` and `record`.
    """
    version, found, champion = training.version, training.assessment, training.champion
    evidence: dict[str, Any] = {
        "metrics": {name: one.as_dict() for name, one in found.estimates.items()},
        "difference": {name: one.as_dict() for name, one in (found.difference or {}).items()} or None,
        "subgroups": {
            column: {value: {name: one.as_dict() for name, one in each.items()} for value, each in values.items()}
            for column, values in found.subgroups.items()
        },
        "verdict": found.verdict.as_dict(),
        "threshold": found.threshold,
        "tables": dict(version.tables),
        "table_digests": dict(version.table_digests),
        "git_commit": version.tags.get("git_commit"),
        "lock_digest": version.tags.get("lock_digest"),
        "champion": {"version": champion.version, "digest": champion.digest} if champion else None,
        "demo": training.demo,
        "card": training.record["card"],
        "fingerprint": version.fingerprint,
        "registered": {
            "metrics": dict(version.metrics),
            "parameters": dict(version.parameters),
            "tags": dict(version.tags),
        },
        "record": dict(training.record),
    }
    cleaned: dict[str, Any] = as_json(evidence)
    return cleaned


def request_approval(
    ledger: Ledger, spec: ModelSpec, training: Training, requested_by: str | None = None
) -> Request | None:
    """Ask for a decision about what came of a training.

    A training that found its version known asks only if nobody ever did, so that what was rejected is not
    asked for again every night.

    Parameters
    ----------
    ledger
        Where to ask.
    spec, training
        The model, and its training, or the version judged again.
    requested_by
        The person who asks for it again, whatever became of earlier requests; None for the training itself.

    Returns
    -------
    The request, also one that was open before; None where there is nothing to decide: the version is the champion, or
    was decided about.
    """
    version = training.version
    champion = ledger.champion(spec.name)
    if champion and champion.digest == version.digest:
        return None
    if requested_by is None:
        earlier = [one for one in ledger.requests(spec.name) if one.digest == version.digest]
        if earlier:
            return next((one for one in earlier if one.state in (State.PENDING, State.APPROVED)), None)
    seen = training.champion
    return ledger.open_request(
        Proposal(
            model=spec.name,
            version=version.version,
            digest=version.digest,
            threshold=version.threshold,
            launched_by=version.tags.get("launched_by"),
            requested_by=requested_by,
            policy=spec.approval,
            evidence=evidence_of(training),
            plots=training.assessment.plots,
            champion=(seen.version, seen.digest) if seen else None,
        )
    )


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
            self._show(request.model)
        event = next(one for one in self._ledger.history(number) if one.kind == "promote")
        return _promotion(request, event)

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
            self._show(model)
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
            drift = self.drifted(model)
            if self._ledger.champion(model) is not None:
                self._show(model)
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

    def models(self) -> list[str]:
        """The models that the ledger or the registry knows."""
        return sorted({*self._ledger.models(), *self._registry.names()})

    def audit(self) -> list[Finding]:
        """What somebody altered in the ledger, held against the ends of it that the registry's versions carry."""
        heads = {
            f"{version.name} version {version.version}": version.tags[HEAD_TAG]
            for name in self._registry.names()
            for version in self._registry.versions(name)
            if HEAD_TAG in version.tags
        }
        return self._ledger.audit(heads)

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

    def _show(self, model: str) -> None:
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


def _promotion(request: Request, event: Event) -> Promotion:
    from platform_assets.approval.ledger_events import Promotion

    return Promotion(request.id, request.model, request.version, request.digest, request.threshold, event)
