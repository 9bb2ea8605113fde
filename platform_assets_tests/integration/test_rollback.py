"""The previous release works after the database was migrated by the current code and by a simulated later release.

`rollback_to.txt` contains the commit of the previous release. Its code comes from the project's git history and runs
with the installed libraries. If the history is missing, as in a wheel or a shallow clone, the test is skipped.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import requests
from pydantic import SecretStr
from sqlalchemy import make_url

from platform_assets.database.connections import Database
from platform_assets.database.migrate import migrate
from platform_assets.database.revisions import DOMAINS, find_branches
from platform_assets.services import Services
from platform_assets.settings import Settings
from platform_assets_tests.approval.evidence_proposals import proposal
from platform_assets_tests.command_line import PROGRAM
from platform_assets_tests.database.test_migrate import write_migration
from platform_assets_tests.integration.test_upgrade import check_out
from platform_assets_tests.postgres import wait_until
from platform_assets_tests.requirements import ROOT
from platform_assets_tests.service import keys_of
from platform_assets_tests.serving import sentences
from platform_assets_tests.serving.test_serve import serving

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

COMMIT = Path(__file__).with_name("rollback_to.txt").read_text().strip()
SENTENCE = "forest fire near homes"


def is_in_history(commit: str) -> bool:
    done = subprocess.run(
        ["git", "-C", str(ROOT), "cat-file", "-e", f"{commit}^{{commit}}"], check=False, capture_output=True
    )
    return done.returncode == 0


@pytest.fixture
def later(tmp_path: Path) -> Path:
    """Migrations of a simulated later release, which adds a domain with one table."""
    for branch in find_branches()[1:]:
        shutil.copytree(DOMAINS / branch.label / "migrations", tmp_path / "later" / branch.label / "migrations")
    write_migration(tmp_path / "later", "later_0001_things", "create schema later; create table later.things (id int)")
    return tmp_path / "later"


@pytest.fixture
def opened() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def run(*command: str, variables: Mapping[str, str]) -> str:
    done = subprocess.run(
        command,
        env=os.environ | variables,
        check=False,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.mark.release
@pytest.mark.slow
@pytest.mark.skipif(
    not is_in_history(COMMIT), reason=f"needs the commit {COMMIT} in the git history: git fetch --unshallow"
)
@pytest.mark.requirement("OPS-5", "PLT-14")
def test_the_previous_release_migrates_serves_and_decides_on_the_newer_database(
    database_url: str,
    owner_url: str,
    later: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    opened: ExitStack,
) -> None:
    home = tmp_path / "home"
    settings = Settings(home=home, database_url=SecretStr(database_url), migration_database_url=SecretStr(owner_url))
    with (
        closing(Database(make_url(database_url))) as database,
        closing(Database(make_url(owner_url))) as owner,
    ):
        migrate(database, owner, later)
    services = opened.enter_context(closing(Services(settings)))
    key = keys_of(services).add("anna-laptop", "anna", {"read", "predict", "approve"})
    sentences.crown(services, sentences.fitted(), 1)
    pending = services.ledger.open_request(proposal()).id

    check_out(COMMIT, tmp_path / "previous")
    previous = {"PYTHONPATH": str(tmp_path / "previous")}
    where = "import platform_assets; print(platform_assets.__file__)"
    assert run(sys.executable, "-P", "-c", where, variables=previous).startswith(previous["PYTHONPATH"])
    urls = {"PLATFORM_DATABASE_URL": database_url, "PLATFORM_MIGRATION_DATABASE_URL": owner_url}
    done = run(PROGRAM, "migrate", variables=previous | urls | {"PLATFORM_HOME": str(home)})
    assert "later_0001" in done
    assert "of other code, which this code can use" in done

    monkeypatch.setenv("PYTHONPATH", previous["PYTHONPATH"])
    headers = {"Authorization": f"Bearer {key}", "X-Request-ID": "rolled-back"}
    with serving(tmp_path, database_url) as served:
        wait_until(lambda: served.answers("/health/ready"), "the previous release was ready")
        answer = requests.post(
            f"{served.address}/predictions/sentence-relevance", json={"sentence": SENTENCE}, headers=headers, timeout=60
        )
        assert answer.status_code == 200, answer.text
        decision = {"decision": "approve", "reason": "Its recall is high."}
        decided = requests.post(
            f"{served.address}/approvals/{pending}/decision", json=decision, headers=headers, timeout=60
        )
        assert decided.status_code == 200, decided.text
        served.process.send_signal(signal.SIGTERM)
        assert served.process.wait(60) == 0
    assert [line for line in served.log() if line["level"] in {"WARNING", "ERROR"}] == []

    # The current code reads what the previous release wrote.
    assert services.ledger.request(pending).state == "APPROVED"
    assert services.ledger.audit() == []
    with services.database.connect("platform") as connection:
        logged = connection.execute(
            "select model, positive from platform.predictions where request_id = 'rolled-back'"
        ).fetchall()
    assert logged == [("sentence_relevance_model", answer.json()["relevant"])]


def test_a_commit_outside_the_git_history_is_detected() -> None:
    assert not is_in_history("0" * 40)
