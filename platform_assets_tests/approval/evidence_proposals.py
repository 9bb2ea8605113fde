"""Proposals with evidence like that of a training run."""

from __future__ import annotations

import uuid
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from platform_assets.approval.policy import ApprovalPolicy
from platform_assets.approval.requests import Actor, Proposal

if TYPE_CHECKING:
    from collections.abc import Mapping

MODEL = "breakage_model"
SCRIPT = "<script>alert('x')</script>"
# The smallest PNG that a browser accepts: one grey pixel.
PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108000000003a7e9b55"
    "0000000a49444154789c6368000000820081773c9c4d0000000049454e44ae426082"
)


def estimate(value: float | None, low: float | None = None, high: float | None = None) -> dict[str, float | None]:
    """Return a value with its interval, in the format of the evidence."""
    return {"value": value, "low": low, "high": high}


def evidence(*, passed: bool = True, **changes: Any) -> Mapping[str, Any]:
    """Return evidence in which some metrics are clearly better, clearly worse, or not clearly different."""
    metrics = {
        "roc_auc": estimate(0.77, 0.75, 0.79),
        "brier": estimate(0.093, 0.089, 0.097),
        "recall": estimate(0.8, 0.77, 0.83),
        "precision": estimate(None),
        "rows": estimate(1200.0, 1200.0, 1200.0),
    }
    return {
        "metrics": metrics,
        "difference": {
            "roc_auc": estimate(0.02, 0.01, 0.03),
            "brier": estimate(0.004, 0.001, 0.007),
            "recall": estimate(-0.01, -0.04, 0.02),
            "precision": estimate(None),
            "rows": estimate(0.0, 0.0, 0.0),
        },
        "verdict": {
            "passed": passed,
            "reasons": [
                {
                    "name": "roc_auc_is_at_least_0.7",
                    "passed": True,
                    "told": "ROC AUC is 0.77 (required: at least 0.7).",
                },
                {"name": "recall_is_at_least_0.75", "passed": passed, "told": "Recall is 0.8 (0.77 to 0.83)."},
            ],
        },
        "subgroups": {"site": {"north": metrics, "south": metrics}},
        "tables": {"somewhere/readings": 3},
        "table_digests": {"somewhere/readings": "duckdb2:00ff"},
        "git_commit": "0.1.0+1a2b3c4d5e6f",
        "lock_digest": "77aa",
        "demo": True,
        "record": {"candidate": "forest", "split": {"training_rows": 3600, "holdout_rows": 1200}},
        "card": "**Purpose**\n\nWhich device will break?\n\n**Limits**\n\n- Only devices with a thermometer.",
        **changes,
    }


PROPOSAL = Proposal(
    model=MODEL,
    version=1,
    digest="sha256:" + "ab" * 32,
    threshold=0.13,
    launched_by="schedule:train_breakage_model",
    requested_by=Actor("schedule:train_breakage_model"),
    policy=ApprovalPolicy(),
    evidence=evidence(),
    plots={"of_ours.png": PNG, "scores.png": PNG, "roc.png": PNG},
)


def proposal(version: int = 1, **changes: Any) -> Proposal:
    """Return a proposal for a version, with the digest of that version. Its model is new unless `changes` names one."""
    named = {"model": f"model_{uuid.uuid4().hex[:8]}"} | changes
    return replace(PROPOSAL, version=version, digest=digest(version), **named)


def digest(version: int) -> str:
    """Return the digest of a version."""
    return f"sha256:{version:064x}"


OVER = ApprovalPolicy(lifetime=timedelta(0))
"""A policy whose requests expire at once."""
