"""The evidence that is frozen with a request: what an approver needs to know about a version."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

from platform_assets.base.json_values import as_json

if TYPE_CHECKING:
    from collections.abc import Mapping

    Metrics = Mapping[str, Mapping[str, float | None]]
    """Values with intervals by name, as `Estimate.as_dict` returns them."""


@dataclass(frozen=True)
class Evidence:
    """Results of a training, or of a new evaluation of a version.

    Attributes
    ----------
    metrics
        Of the version, on the test set.
    difference
        Challenger minus champion on the same examples; None without another champion.
    subgroups
        Metrics by column and value.
    verdict
        Result of the quality gate: `passed`, and its `reasons`.
    threshold
        Score from which a row counts as positive.
    tables, table_digests
        Version and digest of each table that it was trained on.
    git_commit, lock_digest
        Commit of the code and digest of uv.lock; None if unknown.
    champion
        `version` and `digest` of the champion that it was compared with; None without one.
    demo
        Whether it was trained on sample data.
    card
        The model card, as Markdown.
    runs
        Identifiers of the runs that it comes from, `dagster` and `mlflow`, as far as they are known.
    fingerprint, registered, record
        What a version deleted from the registry is restored from.
    """

    metrics: Metrics
    difference: Metrics | None
    subgroups: Mapping[str, Mapping[str, Metrics]]
    verdict: Mapping[str, Any]
    threshold: float
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
