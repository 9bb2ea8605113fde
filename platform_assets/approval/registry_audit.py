"""Audit of the model artifacts and the MLflow tags against the evidence in the approval requests.

`audit.py` checks the ledger itself, and `reconciliation.py` checks the alias `champion`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from platform_assets.approval.reconciliation import RESTORED_TAG
from platform_assets.approval.requests import OPEN, State
from platform_assets.models.version_comparison import artefact_problem, differences

if TYPE_CHECKING:
    from platform_assets.approval.ledger import Ledger
    from platform_assets.approval.requests import Request
    from platform_assets.models.artefact_store import ArtefactStore
    from platform_assets.models.registry import ModelRegistry

_APPROVED = {State.APPROVED, State.PROMOTED, State.ROLLED_BACK}
_NUMBER = re.compile("[0-9]{1,9}")


def altered(model: str, ledger: Ledger, registry: ModelRegistry, artefacts: ArtefactStore) -> list[str]:
    """Return the alterations of a model's artifacts and of the tags of its versions, one sentence for each.

    The artifacts of the champion, the previous champion and the open requests are compared with their digests. Each
    registered version is compared with its newest approved request, or with its newest request if none was approved.

    Raises
    ------
    RegistryError, LedgerError, ArtefactError
        The registry, the ledger or the artifact store does not respond.
    """
    requests = ledger.requests(model)
    newest: dict[int, Request] = {request.version: request for request in reversed(requests)}
    # Prefer approved requests, because the service's role can later open a request with different evidence.
    approved = {request.version: request for request in reversed(requests) if request.state in _APPROVED}
    found = [
        f"{model}: {problem}"
        for digest in _usable_digests(model, ledger, requests)
        if (problem := artefact_problem(artefacts, digest))
    ]
    found += registry.unreadable_versions(model).values()
    for version in registry.versions(model):
        # A restored version has a new number; its tag contains the number under which it was approved.
        number = version.tags.get(RESTORED_TAG, str(version.version))
        request = (newest | approved).get(int(number)) if _NUMBER.fullmatch(number) else None
        if request:
            found += differences(version, request.digest, request.threshold, request.evidence)
    return found


def _usable_digests(model: str, ledger: Ledger, requests: list[Request]) -> list[str]:
    champions = (ledger.champion(model), ledger.previous_champion(model))
    digests = [champion.digest for champion in champions if champion]
    return list(dict.fromkeys(digests + [request.digest for request in requests if request.state in OPEN]))
