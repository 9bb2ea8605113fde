"""The evidence that is frozen with a request: what an approver needs to know about a version."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

from platform_assets.base.json_values import as_json

if TYPE_CHECKING:
    from collections.abc import Mapping

    Metrics = Mapping[str, Mapping[str, float | None]]
    """Value and interval of each metric, by name, as `Estimate.as_dict` returns them."""

UNREADABLE = (LookupError, TypeError, ValueError, AttributeError, ArithmeticError)
"""Errors from reading malformed evidence or shadow reports. The ledger does not check their form completely."""


@dataclass(frozen=True)
class Evidence:
    """Results of a training run, or of a new evaluation of a version.

    Attributes
    ----------
    metrics
        Metrics of the version on the test set.
    difference
        Challenger minus champion on the same examples; None if there is no champion or this version is the champion.
    subgroups
        Metrics of subgroups, by column and value.
    verdict
        Result of the quality gate, with the fields `passed` and `reasons`.
    threshold
        Minimum score for a positive decision; None if the model makes no decisions.
    tables, table_digests
        Version and digest of each table that the version was trained on.
    git_commit, lock_digest
        Commit of the code and digest of uv.lock; None if unknown.
    champion
        `version` and `digest` of the champion that the version was compared with; None if there was no champion.
    demo
        Whether the version was trained on sample data.
    card
        The model card, as Markdown.
    runs
        Ids of the runs that produced the evidence, under `dagster` and `mlflow`; an unknown id is left out.
    fingerprint, registered, record
        Data for restoring the version if it is deleted from the registry.
    """

    metrics: Metrics
    difference: Metrics | None
    subgroups: Mapping[str, Mapping[str, Metrics]]
    verdict: Mapping[str, Any]
    threshold: float | None
    tables: Mapping[str, int]
    table_digests: Mapping[str, str]
    git_commit: str | None
    lock_digest: str | None
    champion: Mapping[str, Any] | None
    demo: bool
    card: str
    fingerprint: str
    registered: Mapping[str, Any]
    record: Mapping[str, Any]
    runs: Mapping[str, str] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Return the evidence as JSON, with null for NaN and infinities."""
        evidence: dict[str, Any] = as_json({field.name: getattr(self, field.name) for field in fields(self)})
        return evidence
