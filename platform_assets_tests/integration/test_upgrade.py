"""The current code upgrades a `PLATFORM_HOME` that the previous version created, and keeps its contents.

`upgrade_from.txt` contains the commit of the previous version. Its code comes from the project's git history and runs
with the installed libraries. `upgrade_part.py` contains the steps that run on either version, and this module contains
the assertions.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from platform_assets_tests.integration import upgrade_part
from platform_assets_tests.integration.upgrade_part import CREDIT, FAILED, LIVE_KEY, LOST_KEY, MODELS, SENTENCES
from platform_assets_tests.postgres import wait_until_stopped
from platform_assets_tests.requirements import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from platform_assets_tests.integration.upgrade_part import Facts

pytestmark = [
    pytest.mark.nightly,
    pytest.mark.slow,
    pytest.mark.requirement("PLT-14"),
]

COMMIT = Path(__file__).with_name("upgrade_from.txt").read_text().strip()
ROWS = "3200"
"""Number of demo rows. With fewer rows, a model cannot be trained, or the sentence model fails its quality gate."""


@dataclass(frozen=True)
class Story:
    """Results of the test's three parts. The key `facts` of each contains everything that an upgrade must keep.

    Attributes
    ----------
    before
        Results of the part that runs the previous code.
    after
        Results of the part that runs the current code. Its facts were read right after the migration.
    once_more
        Results of the part that runs the current code again, in another process.
    """

    before: Facts
    after: Facts
    once_more: Facts

    def facts(self, name: str) -> tuple[Any, Any, Any]:
        """Return one kind of fact, read three times: before the upgrade, after the migration, and at the end."""
        return self.before["facts"][name], self.after["facts"][name], self.once_more["facts"][name]


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Story:
    """Run all three parts. All tests share the results."""
    folder = tmp_path_factory.mktemp("upgrade")
    check_out(COMMIT, folder / "checkout")
    before = played(upgrade_part.before, folder, folder / "checkout")
    after = played(upgrade_part.after, folder, ROOT)
    return Story(before, after, played(upgrade_part.once_more, folder, ROOT))


def check_out(commit: str, target: Path) -> None:
    """Export the files of a commit into a folder, without changing the repository."""
    git = ["git", "-C", str(ROOT), "archive", "--format=tar", commit]
    archive = subprocess.run(git, check=False, capture_output=True)
    if archive.returncode:
        pytest.fail(
            f"the commit {commit} in upgrade_from.txt is not in this repository "
            f"({archive.stderr.decode().strip()}); fetch the whole history: git fetch --unshallow",
            pytrace=False,
        )
    target.mkdir()
    subprocess.run(["tar", "-x", "-C", target], input=archive.stdout, check=True)


def played(part: Callable[[Path], Facts], folder: Path, checkout: Path) -> Facts:
    """Run a part in another process with the code of a checkout, and return its results."""
    home = folder / "home"
    variables = {"PYTHONPATH": str(checkout), "PLATFORM_HOME": str(home), "PLATFORM_DEMO_ROWS": ROWS}
    # Pass -P, because otherwise `platform.py` in this folder would shadow Python's module.
    program = [sys.executable, "-P", upgrade_part.__file__, part.__name__, str(folder)]
    done = subprocess.run(
        program,
        cwd=folder,
        env=os.environ | variables,
        check=False,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert done.returncode == 0, f"{part.__doc__}\n{done.stdout}"
    # Wait until the database's watcher process has ended, because the next part must start one from its own code.
    wait_until_stopped(home)
    found: Facts = json.loads((folder / f"{part.__name__}.json").read_text())
    assert found["checkout"] == str(checkout)
    return found


def among(older: Mapping[str, Any], newer: Mapping[str, Any]) -> dict[str, Any]:
    """Return the entries of `newer` whose keys are also in `older`."""
    return {name: newer[name] for name in older if name in newer}


def failures(found: Any, place: str = "") -> Iterator[str]:
    """Yield the facts that could not be read, with the reason."""
    if not isinstance(found, dict):
        return
    if FAILED in found:
        yield f"{place}: {found[FAILED]}"
    for name, one in found.items():
        yield from failures(one, f"{place} {name}".strip())


def test_the_previous_code_created_models_tables_and_requests(story: Story) -> None:
    made = story.before["made"]
    assert made["models"] == {CREDIT: [1], SENTENCES: [2, 1]}
    assert made["tables"]["sentence_relevance/sentences"] == [1, 0]
    assert made["requests"] == {"4": "PENDING", "3": "PENDING", "2": "REJECTED", "1": "PROMOTED"}
    assert made["champions"][SENTENCES]["registry"][0] == 1


def test_all_facts_can_be_read_before_and_after_the_upgrade(story: Story) -> None:
    # Check this separately: the other tests would pass if reading a fact gave the same error before and after.
    assert "\n".join(failures(story.before)) == ""
    assert "\n".join(failures(story.after)) == ""
    assert "\n".join(failures(story.once_more)) == ""


def test_all_table_versions_keep_their_rows(story: Story) -> None:
    before, migrated, at_the_end = story.facts("tables")
    assert migrated == before
    assert {name: among(before[name], at_the_end[name]) for name in before} == before
    before, migrated, _ = story.facts("online")
    assert before
    assert migrated == before


def test_all_model_versions_keep_their_scores(story: Story) -> None:
    before, migrated, at_the_end = story.facts("models")
    assert migrated == before
    for model in MODELS:
        for number, version in before[model]["versions"].items():
            now = at_the_end[model]["versions"][number]
            # Ignore new tags, because a promotion adds tags.
            tags = among(version["tags"], now["tags"])
            assert {**now, "tags": tags} == version


def test_all_decisions_are_kept_and_the_hash_chain_continues(story: Story) -> None:
    before, migrated, at_the_end = story.facts("requests")
    assert migrated == before
    for number, request in before.items():
        now = at_the_end[number]
        assert now["history"][: len(request["history"])] == request["history"]
        assert {**now, "state": request["state"], "history": request["history"]} == request
    head, head_then, _ = story.facts("head")
    assert head_then == head
    assert head in [event["head"] for request in at_the_end.values() for event in request["history"]]
    for audit in (story.after["audit"], story.once_more["audit"]):
        assert (audit["code"], audit["printed"][:20]) == (0, "nothing was altered;")


def test_only_a_decision_changes_a_champion(story: Story) -> None:
    before, after = story.before["made"]["champions"], story.after
    assert {model: after["facts"]["models"][model]["champion"] for model in MODELS} == before
    assert after["decided"]["champions"][CREDIT] == before[CREDIT]
    for made in (after["made"], story.once_more["made"]):
        assert made["champions"] == after["decided"]["champions"]


def test_a_pending_request_can_be_approved_and_promoted(story: Story) -> None:
    refused, approved, decided = (story.after[step] for step in ("refused", "approved", "decided"))
    assert (refused["code"], "unknown or revoked" in refused["printed"]) == (1, True), refused
    assert approved["code"] == 0, approved["printed"]
    assert story.after["promoted"] == 2
    digest = story.before["facts"]["models"][SENTENCES]["versions"]["2"]["digest"]
    assert decided["champions"][SENTENCES] == {"ledger": [2, digest, 3], "registry": [2, digest], "drift": []}
    assert decided["requests"] == story.before["made"]["requests"] | {"3": "PROMOTED"}


def test_keys_keep_their_scopes_and_revocations(story: Story) -> None:
    for kept in story.facts("keys"):
        assert kept == story.before["facts"]["keys"]
    for holders in story.facts("holders"):
        assert holders == {LIVE_KEY: ["anna", "approve"], LOST_KEY: None}


def test_the_run_history_is_kept(story: Story) -> None:
    before, migrated, at_the_end = story.facts("runs")
    assert [run[:2] for run in before.values()] == [["__ASSET_JOB", "SUCCESS"], ["train_" + SENTENCES, "SUCCESS"]]
    assert migrated == before
    assert among(before, at_the_end) == before
    assert len(at_the_end) == len(before) + 2
    before, migrated, at_the_end = story.facts("materialisations")
    assert before
    assert migrated == before
    for asset, of_asset in before.items():
        assert at_the_end[asset][-len(of_asset) :] == of_asset


def test_a_second_run_trains_no_new_version(story: Story) -> None:
    before, after, once_more = (part["made"] for part in (story.before, story.after, story.once_more))
    for run in (story.after["run"], story.once_more["run"]):
        assert run["code"] == 0, run["printed"]
    assert once_more == after
    for model in MODELS:
        known = before["models"][model]
        assert after["models"][model][-len(known) :] == known
        # Allow one new version, because the training code may have changed.
        assert len(after["models"][model]) - len(known) <= 1
    is_superseded = after["models"][CREDIT] != before["models"][CREDIT]
    assert after["requests"]["4"] == ("SUPERSEDED" if is_superseded else "PENDING")


def test_a_missing_commit_is_reported(tmp_path: Path) -> None:
    with pytest.raises(pytest.fail.Exception, match="fetch the whole history: git fetch --unshallow"):
        check_out("0" * 40, tmp_path)
