"""The evidence that is frozen with a request: all that a person who decides has to know of a version."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from platform_assets.base.json_values import as_json

if TYPE_CHECKING:
    from collections.abc import Mapping

    Metrics = Mapping[str, Mapping[str, float | None]]
    """By name, a value with its interval, as `Estimate.as_dict` gives it."""


@dataclass(frozen=True)
class Evidence:
    """What a training, or a version judged again, shows.

    Attributes
    ----------
    metrics
        Of the version, on the holdout.
    difference
        Challenger minus champion on the same examples; None where there is no other champion.
    subgroups
        The metrics by column and value.
    verdict
        Of the quality gate: `passed`, and its `reasons`.
    threshold
        Score from which a row counts as positive.
    tables, table_digests
        The tables that it was trained on: name to version and to digest.
    git_commit, lock_digest
        The code and the libraries; None where nobody knows.
    champion
        `version` and `digest` of the champion that it was compared with; None without one.
    demo
        Whether it was trained on sample data.
    card
        The model's card, as Markdown.
    fingerprint, registered, record
        Of what a version that the registry lost is made again.
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

    def as_json(self) -> dict[str, Any]:
        """Return it as it is frozen: JSON, with null for what is no number."""
        evidence: dict[str, Any] = as_json({field.name: getattr(self, field.name) for field in fields(self)})
        return evidence
