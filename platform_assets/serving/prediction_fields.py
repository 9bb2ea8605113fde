"""Common response fields of predictions: model version, approval request and, for decisions, the threshold."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, TypedDict

from pydantic import Field

from platform_assets.base.errors import ArtefactError

if TYPE_CHECKING:
    from platform_assets.serving.live_models import LiveModel
    from platform_assets.serving.predictor import Predicted

ApprovalId = Annotated[int, Field(description="Approval request of that version.")]


class VersionFields(TypedDict):
    """Values of the fields that name the version."""

    model_version: str
    approval_id: int


class CommonFields(VersionFields):
    """Values of the common fields of decisions."""

    threshold: float


def version_of_all(items: str) -> Any:
    """Describe the field `model_version`; `items` is the plural noun for the items of a request, such as "clients"."""
    return Field(description=f"Version of the model, the same for all {items} of a request.")


def version_fields(live: LiveModel) -> VersionFields:
    """Return the fields that name the version."""
    return {"model_version": str(live.version), "approval_id": live.approval_id}


def common_fields(predicted: Predicted) -> CommonFields:
    """Return the fields that all decisions of a request share.

    Raises
    ------
    ArtefactError
        The model makes no decisions.
    """
    live = predicted.live
    if live.threshold is None:
        raise ArtefactError(f"version {live.version} of {live.name} has no threshold, so it makes no decisions")
    return {"threshold": live.threshold, **version_fields(live)}
