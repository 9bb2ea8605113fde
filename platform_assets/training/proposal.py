"""Approval requests of training runs: the version and its evidence."""

from __future__ import annotations

from typing import TYPE_CHECKING

from platform_assets.approval.evidence import Evidence
from platform_assets.approval.requests import Proposal

if TYPE_CHECKING:
    from platform_assets.approval.requests import Actor
    from platform_assets.training.model_spec import ModelSpec
    from platform_assets.training.training_results import Training


def proposal_of(
    spec: ModelSpec, training: Training, requested_by: Actor | None = None, dagster_run: str = ""
) -> Proposal:
    """Return the proposal for an approval request.

    Parameters
    ----------
    spec
        Declaration of the model.
    training
        Training or re-evaluation of the version.
    requested_by
        Person who requests approval; None if the training itself requests it.
    dagster_run
        Id of the Dagster run that trained the version; empty if there was none.
    """
    version, seen = training.version, training.champion
    return Proposal(
        model=spec.name,
        version=version.version,
        digest=version.digest,
        threshold=version.threshold,
        launched_by=version.tags.get("launched_by"),
        requested_by=requested_by,
        policy=spec.approval,
        evidence=evidence_of(training, dagster_run).as_json(),
        plots=training.plots,
        champion=(seen.version, seen.digest) if seen else None,
    )


def evidence_of(training: Training, dagster_run: str = "") -> Evidence:
    """Return the evidence from a training run or re-evaluation."""
    version, found, champion = training.version, training.assessment, training.champion
    return Evidence(
        metrics={name: one.as_dict() for name, one in found.estimates.items()},
        difference={name: one.as_dict() for name, one in (found.difference or {}).items()} or None,
        subgroups={
            column: {value: {name: one.as_dict() for name, one in each.items()} for value, each in values.items()}
            for column, values in found.subgroups.items()
        },
        verdict=found.verdict.as_dict(),
        threshold=found.judged.threshold,
        tables=dict(version.tables),
        table_digests=dict(version.table_digests),
        git_commit=version.tags.get("git_commit"),
        lock_digest=version.tags.get("lock_digest"),
        champion={"version": champion.version, "digest": champion.digest} if champion else None,
        demo=training.demo,
        card=training.record["card"],
        fingerprint=version.fingerprint,
        registered={
            "metrics": dict(version.metrics),
            "parameters": dict(version.parameters),
            "tags": dict(version.tags),
        },
        record=dict(training.record),
        runs={name: run for name, run in (("dagster", dagster_run), ("mlflow", version.run_id)) if run},
    )
