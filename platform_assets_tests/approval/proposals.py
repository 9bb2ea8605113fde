"""Proposals, people and ledgers for approval tests."""

from __future__ import annotations

import contextlib
import hashlib
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import psycopg

from platform_assets.approval.ledger import Ledger
from platform_assets.approval.policy import ApprovalPolicy
from platform_assets.approval.requests import Actor, Proposal
from platform_assets_tests.postgres import owner_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from platform_assets.approval.refusals import Verb
    from platform_assets.approval.requests import Request
    from platform_assets.database.connections import Database

MODEL = "credit_risk_model"
PASSED = {"verdict": {"passed": True, "reasons": []}, "metrics": {"roc_auc": {"value": 0.8}}}
FAILED = {"verdict": {"passed": False, "reasons": [{"name": "recall", "passed": False, "told": "too low"}]}}
PLOTS = {"roc.png": b"\x89PNG roc", "scores.png": b"\x89PNG scores"}


_SCOPES: dict[str, list[str]] = {}
"""Scopes of each person's key, by secret."""


def person(name: str, *scopes: str) -> Actor:
    """Return a person with a key, by default with the scope `approve`. `register` adds the key to a database."""
    wanted = sorted(scopes or ("approve",))
    secret = f"pa_test_{hashlib.sha256(repr((name, wanted)).encode()).hexdigest()}"
    _SCOPES[secret] = wanted
    return Actor(name, secret)


ANNA, BERT, CARLA = person("anna"), person("bert"), person("carla")
SOMEBODY = Actor("anna")
"""A person without a key who claims to be Anna."""


def register(owner: psycopg.Connection[Any], *people: Actor) -> None:
    """Add the keys of people to a database; keys that exist are left unchanged."""
    for one in people:
        digest = hashlib.sha256(one.secret.encode()).hexdigest()
        arguments = [f"test-{digest[:16]}", one.name, _SCOPES[one.secret], digest]
        owner.execute("select platform.add_key(%s, %s, %s::text[], %s, null)", arguments)


@contextlib.contextmanager
def owner_at(url: str) -> Iterator[psycopg.Connection[Any]]:
    """Yield a connection to a database of the shared server, as the owner of its tables."""
    with psycopg.connect(owner_of(url), autocommit=True) as owner:
        yield owner


class PreparedLedger(Ledger):
    """A ledger that adds the key of each person in a test before the person's first action."""

    def __init__(
        self,
        connect: Callable[[], AbstractContextManager[psycopg.Connection[Any]]],
        owner: Callable[[], AbstractContextManager[psycopg.Connection[Any]]],
        **options: Any,
    ) -> None:
        super().__init__(connect, owner=owner, **options)
        self._lend_owner = owner
        self._known: set[str] = set()

    def open_request(self, proposal: Proposal) -> Request:
        self._prepare(proposal.requested_by)
        return super().open_request(proposal)

    def decide(self, number: int, decision: Verb, actor: Actor, reason: str, **others: Any) -> Request:
        self._prepare(actor)
        return super().decide(number, decision, actor, reason, **others)

    def rolled_back(self, model: str, actor: Actor, reason: str, **others: Any) -> Any:
        self._prepare(actor)
        return super().rolled_back(model, actor, reason, **others)

    def _prepare(self, actor: Actor | None) -> None:
        if actor and actor.secret in _SCOPES and actor.secret not in self._known:
            with self._lend_owner() as owner:
                register(owner, actor)
            self._known.add(actor.secret)


def prepared(database: Database, **options: Any) -> PreparedLedger:
    """Return the ledger of a database of the shared server, with pooled connections."""
    url = url_of(database)
    return PreparedLedger(database.pooled, lambda: owner_at(url), **options)


def url_of(database: Database) -> str:
    """Return the URL of a database in the form of PLATFORM_DATABASE_URL."""
    return database.url("platform").set(drivername="postgresql").render_as_string(hide_password=False)


def proposal(version: int = 1, **others: Any) -> Proposal:
    """Return a proposal that passed the gate; keyword arguments replace its fields or those of its policy."""
    policy = {name: others.pop(name) for name in list(others) if name in ApprovalPolicy.__dataclass_fields__}
    fields: dict[str, Any] = {
        "model": MODEL,
        "version": version,
        "digest": f"{version:064x}",
        "threshold": 0.1 + 0.2,
        "launched_by": "schedule:train_credit_risk_model_nightly",
        "requested_by": None,
        "policy": ApprovalPolicy(**{"lifetime": timedelta(days=7), **policy}),
        "evidence": PASSED,
        "plots": PLOTS,
        "champion": None,
    }
    found = {**fields, **others}
    if isinstance(found["requested_by"], str):
        found["requested_by"] = person(found["requested_by"])
    return Proposal(**found)


@contextlib.contextmanager
def ledger_at(url: str, **options: Any) -> Iterator[Ledger]:
    """Yield the ledger of a database of the shared server, on a single connection."""
    with psycopg.connect(url) as connection:
        yield PreparedLedger(lambda: contextlib.nullcontext(connection), lambda: owner_at(url), **options)


def promote(ledger: Ledger, version: int, by: Actor = ANNA, **others: Any) -> int:
    """Request, approve and promote a version; return the number of the request."""
    champion = ledger.champion(others.get("model", MODEL))
    seen = (champion.version, champion.digest) if champion else None
    request = ledger.open_request(proposal(version, champion=seen, **others))
    ledger.decide(request.id, "approve", by, "better")
    ledger.promoted(request.id)
    return request.id
