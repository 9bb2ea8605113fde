"""The fields that all predictions share: their values, and how they are described."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel

from platform_assets.serving.prediction_fields import ApprovalId, common_fields, version_of_all
from platform_assets.serving.predictor import Predicted


class Prediction(BaseModel):
    threshold: float
    model_version: Annotated[str, version_of_all("things")]
    approval_id: ApprovalId


def test_they_are_those_of_the_live_version() -> None:
    live: Any = SimpleNamespace(threshold=0.25, version=3, approval_id=7)
    predicted = Predicted(live, np.array([0.1]), np.array([False]))
    assert common_fields(predicted) == {"threshold": 0.25, "model_version": "3", "approval_id": 7}
    assert Prediction(**common_fields(predicted)).model_version == "3"


def test_they_are_described() -> None:
    described = Prediction.model_json_schema()["properties"]
    assert described["model_version"]["description"] == ("Version of the model, the same for all things of a request.")
    assert described["approval_id"]["description"] == "The request by which a person approved that version."
