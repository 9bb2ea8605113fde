"""Tiny models with different scores, and an `Office` that promotes them."""

from __future__ import annotations

import dataclasses
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression

from platform_assets.models.artefact_store import ArtefactStore
from platform_assets.models.fitted_model import FittedModel, library_versions
from platform_assets_tests.approval.proposals import ANNA, prepared, proposal

if TYPE_CHECKING:
    from platform_assets.database.connections import Database

FEATURES = ("heat", "noise")
ROW = {"heat": 1.0, "noise": 0.5}
EVIDENCE = {
    "verdict": {"passed": True},
    "metrics": {"roc_auc": {"value": 0.8, "low": 0.7, "high": 0.9}, "precision": {"value": None}},
    "demo": True,
}


@cache
def model_of(slope: float) -> FittedModel:
    """Return a logistic regression whose scores rise with `heat`; each slope gives different scores."""
    rows = pd.DataFrame({"heat": np.linspace(-1, 1, 20), "noise": np.tile([0.0, 1.0], 10)})
    estimator = LogisticRegression().fit(rows, rows["heat"] > 0)
    estimator.coef_ = np.array([[slope, 0.5]])
    model = FittedModel(estimator, FEATURES, rows.head(5), np.zeros(5), library_versions())
    return dataclasses.replace(model, golden_scores=model.scores(model.golden_rows))


class Office:
    """Trains, approves and promotes versions of one model. Each version has its own digest and threshold.

    Attributes
    ----------
    ledger, artefacts
        The approval ledger, and the store of the model files.
    model
        Name of the model.
    """

    def __init__(self, database: Database, folder: Path, model: str) -> None:
        self.ledger = prepared(database)
        self.artefacts = ArtefactStore(str(folder))
        self.model = model
        self._versions = 0
        self.digests: dict[float, str] = {}

    def promote(self, slope: float, **others: Any) -> int:
        """Make a model with this slope the champion, as a new version. Return the number of its approval request."""
        if slope not in self.digests:
            self.digests[slope] = self.artefacts.save(model_of(slope))
        return self.promote_digest(self.digests[slope], **{"threshold": threshold_of(slope), **others})

    def promote_digest(self, digest: str, **others: Any) -> int:
        """Make the model with this digest the champion. Return the number of its approval request."""
        self._versions += 1
        champion = self.ledger.champion(self.model)
        fields = {"model": self.model, "digest": digest, "evidence": EVIDENCE, "plots": {}}
        seen = (champion.version, champion.digest) if champion else None
        request = self.ledger.open_request(proposal(self._versions, champion=seen, **{**fields, **others}))
        self.ledger.decide(request.id, "approve", ANNA, "better")
        self.ledger.promoted(request.id)
        return request.id

    def roll_back(self) -> None:
        """Make the previous champion the champion again."""
        self.ledger.rolled_back(self.model, ANNA, "it flags everybody")

    def file(self, slope: float) -> Path:
        """Return the path of a model's file."""
        return Path(self.artefacts._root) / f"{self.digests[slope]}.skops"


def threshold_of(slope: float) -> float:
    """Return the threshold of versions with this slope. Each slope has a different threshold."""
    return slope / 10
