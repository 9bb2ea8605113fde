"""Fields that every prediction has, in any domain: threshold, version and approval. A domain adds its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, TypedDict

from pydantic import Field

if TYPE_CHECKING:
    from platform_assets.serving.predictor import Predicted

ApprovalId = Annotated[int, Field(description="The request by which a person approved that version.")]


class CommonFields(TypedDict):
    """Values of the fields that say which version answered."""

    threshold: float
    model_version: str
    approval_id: int


def version_of_all(items: str) -> Any:
    """Describe the field `model_version`, given what a request may list ("clients")."""
    return Field(description=f"The version that answered; one for all {items} of a request.")


def common_fields(predicted: Predicted) -> CommonFields:
    """Return the fields that all answers to a request share."""
    live = predicted.live
    return {"threshold": live.threshold, "model_version": str(live.version), "approval_id": live.approval_id}
