"""A small sentence relevance model for tests of the service, fitted on a few sentences."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from platform_assets.domains.sentence_relevance.model import MODEL, logistic_regression
from platform_assets.models.fitted_model import FittedModel, library_versions
from platform_assets_tests.approval.proposals import SOMEBODY, promote
from platform_assets_tests.serving.credit import EVIDENCE

if TYPE_CHECKING:
    from platform_assets.services import Services

THRESHOLD = 0.5
TAUGHT = {
    1: ("forest fire near homes", "hundreds evacuated near fire", "flood killed hundreds", "people killed in fire"),
    0: ("i love this song", "party party lol", "what a lovely day at the party", "this song is lol i love it"),
}


def fitted() -> FittedModel:
    """Return a model that is fitted on `TAUGHT`."""
    rows = pd.DataFrame({"text": [text for texts in TAUGHT.values() for text in texts] * 5}, dtype="str")
    labels = [label for label, texts in TAUGHT.items() for _ in texts] * 5
    estimator = logistic_regression(1).fit(rows, labels)
    return FittedModel(estimator, ("text",), rows, estimator.predict_proba(rows)[:, 1], library_versions())


def crown(services: Services, model: FittedModel, version: int) -> int:
    """Approve a model and make it the champion; return the number of the approval request."""
    return promote(
        services.ledger,
        version,
        SOMEBODY,
        digest=services.artefacts.save(model),
        model=MODEL.name,
        threshold=THRESHOLD,
        evidence=EVIDENCE,
    )
