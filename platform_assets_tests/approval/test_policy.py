"""Refusal of approval policies that cannot be satisfied."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from platform_assets.approval.policy import ApprovalPolicy


@pytest.mark.parametrize(
    "fields",
    [
        {"approvals": 0},
        {"lifetime": timedelta(seconds=-1)},
        {"approvers": "anna"},
        {"approvers": ("anna", "anna"), "approvals": 2},
    ],
)
def test_a_policy_that_cannot_be_satisfied_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="approv"):
        ApprovalPolicy(**fields)
