"""The request body of a decision over HTTP, and its validation."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from platform_assets.approval.pages import DECISIONS, MAX_REASON
from platform_assets.base.printable_text import PRINTABLE, PRINTABLE_LINES, VISIBLE, is_visible, unprintable

_REASON = f"^{PRINTABLE_LINES}*{VISIBLE}{PRINTABLE_LINES}*$"


class Decision(BaseModel):
    """A decision about a request."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"decision": "reject", "reason": "Recall in the north fell by 10 %."}]},
    )

    decision: Annotated[Literal["approve", "reject", "withdraw"], Field(description="The decision.")]
    reason: Annotated[
        str,
        Field(
            description="Reason, recorded permanently.",
            # Only for the OpenAPI schema: `_told` checks these limits, because its messages are clearer.
            json_schema_extra={"minLength": 1, "maxLength": MAX_REASON, "pattern": _REASON},
        ),
    ]
    override: Annotated[
        bool, Field(description="Approve despite a failed quality gate, if the model's policy allows you to.")
    ] = False
    delivery: Annotated[
        str | None,
        Field(
            max_length=100,
            description="Idempotency key: a decision that is sent twice with the same key is recorded once.",
            # Only for the OpenAPI schema: `_is_storable` checks the pattern, because its message is clearer.
            json_schema_extra={"pattern": f"^{PRINTABLE}*$"},
        ),
    ] = None
    seen_report: Annotated[
        int | None,
        Field(
            ge=1,
            le=2**63 - 1,
            description="Event number of the newest shadow report that you saw; recorded with the decision.",
        ),
    ] = None

    @field_validator("decision", mode="before")
    @classmethod
    def _chosen(cls, decision: object) -> object:
        if not isinstance(decision, str) or decision not in DECISIONS:
            raise ValueError(f"Choose one of {', '.join(DECISIONS)}.")
        return decision

    @field_validator("reason")
    @classmethod
    def _told(cls, reason: str) -> str:
        if not is_visible(reason):
            raise ValueError("Give a reason.")
        if len(reason) > MAX_REASON:
            raise ValueError(f"The reason has {len(reason):,} characters; {MAX_REASON:,} are allowed. Shorten it.")
        return _storable(reason.replace("\r\n", "\n").strip())

    @field_validator("delivery")
    @classmethod
    def _is_storable(cls, delivery: str | None) -> str | None:
        return delivery and _storable(delivery, lines=False)


def _storable(text: str, *, lines: bool = True) -> str:
    """Return the text; refuse control and invisible characters. With `lines`, line breaks and tabs are allowed."""
    if odd := unprintable(text, lines=lines):
        raise ValueError(f"The text contains control or invisible characters ({', '.join(odd)}); remove them.")
    return text
