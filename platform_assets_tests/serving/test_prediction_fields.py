"""The fields that all predictions share: their values and descriptions."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel

from platform_assets.serving.prediction_fields import ApprovalId, common_fields, version_of_all
from platform_assets.serving.predictor import Predicted


class Prediction(BaseModel):
    threshold: float
    model_version: Annotated[str, version_of_all("rows")]
    approval_id: ApprovalId


def test_common_fields_have_the_values_of_the_live_version() -> None:
    live: Any = SimpleNamespace(threshold=0.25, version=3, approval_id=7)
    predicted = Predicted(live, np.array([0.1]))
    assert common_fields(predicted) == {"threshold": 0.25, "model_version": "3", "approval_id": 7}
    assert Prediction(**common_fields(predicted)).model_version == "3"


def test_common_fields_are_described_in_the_schema() -> None:
    described = Prediction.model_json_schema()["properties"]
    assert described["model_version"]["description"] == "Version of the model, the same for all rows of a request."
    assert described["approval_id"]["description"] == "Approval request of that version."
