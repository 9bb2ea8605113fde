"""Requests and people for everything that decides."""

from __future__ import annotations

import contextlib
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import psycopg

from platform_assets.approval.ledger import Ledger
from platform_assets.approval.policy import ApprovalPolicy
from platform_assets.approval.requests import Actor, Proposal

if TYPE_CHECKING:
    from collections.abc import Iterator

MODEL = "credit_risk_model"
PASSED = {"verdict": {"passed": True, "reasons": []}, "metrics": {"roc_auc": {"value": 0.8}}}
FAILED = {"verdict": {"passed": False, "reasons": [{"name": "recall", "passed": False, "told": "too low"}]}}
PLOTS = {"roc.png": b"\x89PNG roc", "scores.png": b"\x89PNG scores"}


def person(name: str, *scopes: str) -> Actor:
    """Somebody who showed a key; by default it is one to approve with."""
    return Actor(name, authenticated=True, scopes=frozenset(scopes or ("approve",)))


ANNA, BERT, CARLA = person("anna"), person("bert"), person("carla")
SOMEBODY = Actor("anna")
"""Who says of herself that she is Anna."""


def proposal(version: int = 1, **others: Any) -> Proposal:
    """A version that passed the gate; others replace its fields, or those of its policy."""
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
    return Proposal(**{**fields, **others})


@contextlib.contextmanager
def ledger_at(url: str, **options: Any) -> Iterator[Ledger]:
    """The ledger of a database, on one connection."""
    with psycopg.connect(url) as connection:
        yield Ledger(lambda: contextlib.nullcontext(connection), **options)


def promote(ledger: Ledger, version: int, **others: Any) -> int:
    """Bring a version all the way to champion; the number of its request."""
    champion = ledger.champion(others.get("model", MODEL))
    seen = (champion.version, champion.digest) if champion else None
    request = ledger.open_request(proposal(version, champion=seen, **others))
    ledger.decide(request.id, "approve", ANNA, "better")
    ledger.promoted(request.id, ANNA)
    return request.id
