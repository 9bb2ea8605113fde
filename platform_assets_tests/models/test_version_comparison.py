from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from platform_assets.models.registry import as_version
from platform_assets.models.version_comparison import artefact_problem, differences
from platform_assets_tests.contracts.registrations import NAME, registration

if TYPE_CHECKING:
    from pathlib import Path

    from platform_assets.models.artefact_store import ArtefactStore

VERSION = as_version(registration(), 1, datetime(2021, 3, 1, tzinfo=UTC), "run")
EVIDENCE: dict[str, Any] = {
    "tables": dict(VERSION.tables),
    "table_digests": dict(VERSION.table_digests),
    "metrics": {"roc_auc": {"value": 0.8, "low": 0.7, "high": 0.9}},
    "fingerprint": VERSION.fingerprint,
    "registered": {
        "metrics": dict(VERSION.metrics),
        "parameters": dict(VERSION.parameters),
        "tags": dict(VERSION.tags),
    },
}

pytestmark = pytest.mark.requirement("PRO-5", "PRO-9")


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, []),
        ({"tags": {**VERSION.tags, "approval": "7"}}, []),
        ({"fingerprint": f"{VERSION.fingerprint}:{VERSION.digest}"}, []),
        ({"threshold": 0.5}, [f"threshold 0.5, but the approval request recorded {0.1 + 0.2}"]),
        ({"digest": "e" * 64}, ["digest 'eeee"]),
        ({"fingerprint": "print-2"}, ["fingerprint 'print-2', but the approval request recorded 'print-1'"]),
        ({"tables": {"credit_risk/loans": 3}}, ["tables.credit_risk/loan_features None, but the approval request re"]),
        ({"metrics": {**VERSION.metrics, "roc_auc": 0.99}}, ["metrics.roc_auc 0.99, but"]),
        ({"metrics": {**VERSION.metrics, "new": 1.0}}, ["metrics.new 1.0, but the approval request recorded None"]),
        ({"parameters": {**VERSION.parameters, "trees": 6}}, ["parameters.trees 6, but"]),
        (
            {"tags": {"git_commit": "forged", "empty": ""}},
            ["tag git_commit 'forged', but the approval request recorded 'abc123'", "tag launched_by None, but"],
        ),
    ],
)
def test_each_difference_from_the_approval_request_is_reported(fields: dict[str, Any], expected: list[str]) -> None:
    found = differences(replace(VERSION, **fields), VERSION.digest, VERSION.threshold, EVIDENCE)
    assert len(found) == len(expected)
    for line, start in zip(found, expected, strict=True):
        assert line.startswith(f"{NAME} version 1: the registry has {start}")


def test_keys_missing_from_old_evidence_are_not_compared() -> None:
    assert differences(replace(VERSION, metrics={}, tags={}), VERSION.digest, VERSION.threshold, {}) == []


def test_a_damaged_or_deleted_artefact_is_reported(local: ArtefactStore, folder: Path) -> None:
    digest = local.add(b"model" * 100)
    assert artefact_problem(local, digest) is None
    (folder / f"{digest}.skops").write_bytes(b"nodel" + b"model" * 99)
    assert "was altered" in str(artefact_problem(local, digest))
    (folder / f"{digest}.skops").unlink()
    assert "restore the file" in str(artefact_problem(local, digest))
