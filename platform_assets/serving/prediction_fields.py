"""Response fields of every prediction: threshold, model version and approval request."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, TypedDict

from pydantic import Field

if TYPE_CHECKING:
    from platform_assets.serving.predictor import Predicted

ApprovalId = Annotated[int, Field(description="Approval request of that version.")]


class CommonFields(TypedDict):
    """Values of the common fields."""

    threshold: float
    model_version: str
    approval_id: int


def version_of_all(items: str) -> Any:
    """Describe the field `model_version`; `items` is the plural of what a request lists, such as "clients"."""
    return Field(description=f"Version of the model, the same for all {items} of a request.")


def common_fields(predicted: Predicted) -> CommonFields:
    """Return the fields that all predictions of a request share."""
    live = predicted.live
    return {"threshold": live.threshold, "model_version": str(live.version), "approval_id": live.approval_id}
