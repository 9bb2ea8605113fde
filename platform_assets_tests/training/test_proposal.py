"""Approval requests from training runs, and their evidence."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pandas as pd
import pytest
from sqlalchemy import make_url

from platform_assets.approval.policy import ApprovalPolicy
from platform_assets.approval.requests import State, request_approval
from platform_assets.database.connections import Database
from platform_assets.models.memory_registry import MemoryRegistry
from platform_assets.training.proposal import evidence_of, proposal_of
from platform_assets_tests.approval.promotions import Works
from platform_assets_tests.approval.proposals import ANNA, BERT, prepared
from platform_assets_tests.training.bench import Bench
from platform_assets_tests.training.breakage_model import ONE_CANDIDATE, readings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    database = Database(make_url(database_url))
    yield database
    database.close()


@pytest.fixture
def works(database: Database, tmp_path: Path) -> Works:
    return Works(prepared(database), MemoryRegistry(), tmp_path, database.lock)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path / "bench")
    bench.publish(readings())
    yield bench
    bench.engine.close()


@pytest.mark.requirement("PRO-2", "PRO-5")
def test_the_request_contains_the_evidence_of_the_training_run(bench: Bench, works: Works) -> None:
    training = bench.train()
    request = request_approval(works.ledger, proposal_of(ONE_CANDIDATE, training))
    assert request is not None
    assert (request.version, request.digest, request.state) == (1, training.version.digest, State.PENDING)
    assert (request.launched_by, request.requested_by, request.champion) == ("user", None, None)
    assert request.policy == ONE_CANDIDATE.approval == ApprovalPolicy()
    evidence = request.evidence
    assert evidence == evidence_of(training).as_json()
    assert evidence["metrics"]["roc_auc"] == training.assessment.estimates["roc_auc"].as_dict()
    assert evidence["verdict"] == training.assessment.verdict.as_dict()
    assert evidence["difference"] is None
    assert set(evidence["subgroups"]["site"]) == {"north", "south"}
    assert evidence["table_digests"] == training.version.table_digests
    assert evidence["git_commit"] == training.version.tags.get("git_commit")
    assert "Which device will break?" in evidence["card"]
    assert works.ledger.plots(request.id) == training.assessment.plots
    assert request_approval(works.ledger, proposal_of(ONE_CANDIDATE, bench.train())) == request


@pytest.mark.requirement("PRO-2", "PRO-6")
def test_after_a_decision_only_a_person_can_request_approval_again(bench: Bench, works: Works) -> None:
    first = request_approval(works.ledger, proposal_of(ONE_CANDIDATE, bench.train()))
    assert first is not None
    works.ledger.decide(first.id, "reject", ANNA, "worse in the north")
    assert request_approval(works.ledger, proposal_of(ONE_CANDIDATE, bench.train())) is None
    judged = bench.trainer.judge(ONE_CANDIDATE, 1)
    again = request_approval(works.ledger, proposal_of(ONE_CANDIDATE, judged, BERT))
    assert again is not None
    assert (again.id > first.id, again.requested_by, again.evidence["metrics"]) == (
        True,
        "bert",
        first.evidence["metrics"],
    )


@pytest.mark.requirement("PRO-2")
def test_the_request_names_the_champion_that_the_version_was_compared_with(
    bench: Bench, works: Works, database: Database, tmp_path: Path
) -> None:
    promoter = Works(works.ledger, bench.registry, tmp_path / "bench", database.lock).promoter
    first = bench.train()
    request = request_approval(works.ledger, proposal_of(ONE_CANDIDATE, first))
    assert request is not None
    works.ledger.decide(request.id, "approve", ANNA, "good")
    promoter.promote(request.id)
    assert request_approval(works.ledger, proposal_of(ONE_CANDIDATE, bench.train(), ANNA)) is None
    bench.publish(pd.concat([readings(), readings(300, first=10_000)]))
    second = request_approval(works.ledger, proposal_of(ONE_CANDIDATE, bench.train()))
    assert second is not None
    assert second.champion == (1, first.version.digest)
    assert second.evidence["champion"] == {"version": 1, "digest": first.version.digest}
    assert second.evidence["difference"]["roc_auc"]["low"] is not None
    works.ledger.decide(second.id, "approve", ANNA, "good")
    assert promoter.promote(second.id).version == 2


def test_nan_and_invalid_characters_are_replaced_in_the_evidence(bench: Bench, works: Works) -> None:
    training = bench.train()
    training.record["leaderboard"][0]["mean"] = math.nan
    training.record["leaderboard"][0]["candidate"] = "a\0b\ud800"
    request = request_approval(works.ledger, proposal_of(ONE_CANDIDATE, training))
    assert request is not None
    first = request.evidence["record"]["leaderboard"][0]
    assert (first["mean"], first["candidate"]) == (None, "a\N{REPLACEMENT CHARACTER}b?")
