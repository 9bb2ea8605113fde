"""End-to-end test of sentence relevance: train on an archive, predict, and repeat both with a newer archive."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Any

import pytest
import requests

from platform_assets.app import application
from platform_assets.approval.requests import State
from platform_assets.domains.sentence_relevance.demo import EVERYDAY, NEWS
from platform_assets.domains.sentence_relevance.model import MODEL
from platform_assets_tests import archives
from platform_assets_tests.integration.platform import Platform, platform_of
from platform_assets_tests.postgres import wait_until
from platform_assets_tests.service import served

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from platform_assets.approval.requests import Request

FIRST, SECOND = 900, 1_200
# Share of words that match the label. It is high enough to pass the quality gate with a small archive, and low enough
# that the scores can be calibrated.
HONESTY = 0.75
WORDS = 7
KINDS = (("Relevant", NEWS.split(), EVERYDAY.split()), ("Not Relevant", EVERYDAY.split(), NEWS.split()))
SECONDS = 120
SENTENCES = ["Residents evacuated as the wildfire spreads, officials say http://t.co/x", "lol love this song so much!!"]


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    return tmp_path / "db.sqlite.base64.tar.gz"


@pytest.fixture
def platform(database_url: str, archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Platform]:
    monkeypatch.setenv("PLATFORM_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PLATFORM_DATABASE_URL", database_url)
    monkeypatch.setenv("PLATFORM_SENTENCES_ARCHIVE_URI", str(archive))
    with platform_of(MODEL) as platform:
        yield platform


def pack(archive: Path, rows: int) -> None:
    """Write an archive with `rows` sentences. A larger archive begins with the sentences of a smaller one."""
    random = Random(20_261_120)
    texts = []
    for _ in range(rows):
        label, own, other = random.choice(KINDS)
        words = (random.choice(own if random.random() < HONESTY else other) for _ in range(WORDS))
        texts.append((" ".join(words), label))
    archives.archive(archive.parent, *texts, name=archive.name)


def asked(address: str) -> requests.Response:
    return requests.post(f"{address}/predictions/sentence-relevance", json={"sentences": SENTENCES}, timeout=SECONDS)


def answers(address: str, version: int) -> list[dict[str, Any]]:
    """Wait until the running service predicts with a given version, and return its predictions."""

    def is_live() -> bool:
        answer = asked(address)
        return answer.ok and {one["model_version"] for one in answer.json()["predictions"]} == {str(version)}

    wait_until(is_live, f"version {version} of the sentence relevance model was live")
    predictions: list[dict[str, Any]] = asked(address).json()["predictions"]
    return predictions


def trained_because_of_the_archive(platform: Platform) -> Request:
    """Run the training that the sensor requests for the archive; return its approval request."""
    sensor = f"{MODEL.domain}_archive_changed"
    [_] = platform.evaluate(sensor, sources=platform.services.sources, tables=platform.services.tables)
    request = platform.train()
    assert platform.evaluate(sensor, sources=platform.services.sources, tables=platform.services.tables) == ()
    return request


def promoted(platform: Platform, request: Request) -> None:
    done = platform.command("decide", "approve", str(request.id), "--reason", "Finds what matters.")
    assert done.code == 0, done.printed
    assert platform.follow_decisions() == [(str(request.id), ["load_request", "manual_approval", "promote"])]


@pytest.mark.slow
@pytest.mark.requirement("REL-2", "REL-3", "REL-4", "PRO-8")
def test_the_service_uses_a_version_trained_on_a_new_archive_once_it_is_approved(
    platform: Platform, archive: Path
) -> None:
    pack(archive, FIRST)
    with served(application(platform.services, host="127.0.0.1")) as address:
        nobody = asked(address)
        assert (nobody.status_code, nobody.json()["type"]) == (503, "urn:platform-assets:no-champion")

        first = trained_because_of_the_archive(platform)
        assert (first.version, first.state, first.passed) == (1, State.PENDING, True), first.evidence["verdict"]
        assert asked(address).status_code == 503
        promoted(platform, first)
        before = answers(address, first.version)
        assert [one["relevant"] for one in before] == [True, False]
        assert {one["approval_id"] for one in before} == {first.id}

        pack(archive, SECOND)
        second = trained_because_of_the_archive(platform)
        assert (second.version, second.champion) == (2, (first.version, first.digest))
        assert second.evidence["tables"] != first.evidence["tables"]
        assert answers(address, first.version) == before
        promoted(platform, second)
        after = answers(address, second.version)
        assert [one["relevant"] for one in after] == [True, False]
        assert [one["score"] for one in after] != [one["score"] for one in before]
    assert platform.registry_equals_ledger()
