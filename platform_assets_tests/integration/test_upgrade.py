"""A home that the version before made, under today's code. `upgrade_from.txt` names that version's commit.

Its code comes out of the project's own history, and runs on the libraries that are installed. What is done with either
code, and what is looked at, is in `upgrade_part.py`; here is what has to hold.
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
    pytest.mark.release,
    pytest.mark.slow,
    # A minute and a half on two cores of their own, and the first test waits for all of it; on a busy machine several.
    pytest.mark.timeout(900),
    pytest.mark.requirement("PLT-14"),
]

COMMIT = Path(__file__).with_name("upgrade_from.txt").read_text().strip()
ROWS = "3200"
"""About the fewest from which both models can be trained, and that of sentences passes its gate."""


@dataclass(frozen=True)
class Story:
    """What was found in each part of it.

    Attributes
    ----------
    before
        By the code of the version before, at the end of all that it did.
    after
        By today's, from the migration to the first run.
    once_more
        By today's, after a second run.
    """

    before: Facts
    after: Facts
    once_more: Facts

    def facts(self, name: str) -> tuple[Any, Any, Any]:
        """One of the facts: before, once migrated, and at the end."""
        return self.before["facts"][name], self.after["facts"][name], self.once_more["facts"][name]


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Story:
    """All of it, once."""
    folder = tmp_path_factory.mktemp("upgrade")
    check_out(COMMIT, folder / "checkout")
    before = played(upgrade_part.before, folder, folder / "checkout")
    after = played(upgrade_part.after, folder, ROOT)
    return Story(before, after, played(upgrade_part.once_more, folder, ROOT))


def check_out(commit: str, target: Path) -> None:
    """Write the files of a commit into a folder; nothing of that stays in the history."""
    git = ["git", "-C", str(ROOT), "archive", "--format=tar", commit]
    archive = subprocess.run(git, check=False, capture_output=True)
    if archive.returncode:
        pytest.fail(
            f"the commit {commit}, from which upgrade_from.txt says people upgrade, is not in this history "
            f"({archive.stderr.decode().strip()}); fetch the whole history: git fetch --unshallow",
            pytrace=False,
        )
    target.mkdir()
    subprocess.run(["tar", "-x", "-C", target], input=archive.stdout, check=True)


def played(part: Callable[[Path], Facts], folder: Path, checkout: Path) -> Facts:
    """Play a part on the code of a checkout, in a process that leaves nothing running; what it found."""
    home = folder / "home"
    variables = {"PYTHONPATH": str(checkout), "PLATFORM_HOME": str(home), "PLATFORM_DEMO_ROWS": ROWS}
    # Without -P, our `platform.py` beside it would stand for Python's own.
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
    # Its watcher is of the same code.
    wait_until_stopped(home)
    found: Facts = json.loads((folder / f"{part.__name__}.json").read_text())
    assert found["checkout"] == str(checkout)
    return found


def among(older: Mapping[str, Any], newer: Mapping[str, Any]) -> dict[str, Any]:
    """Of what there is now, what there was before."""
    return {name: newer[name] for name in older if name in newer}


def failures(found: Any, place: str = "") -> Iterator[str]:
    """What could not be had, and why."""
    if not isinstance(found, dict):
        return
    if FAILED in found:
        yield f"{place}: {found[FAILED]}"
    for name, one in found.items():
        yield from failures(one, f"{place} {name}".strip())


def test_the_home_is_worth_an_upgrade(story: Story) -> None:
    made = story.before["made"]
    assert made["models"] == {CREDIT: [1], SENTENCES: [2, 1]}
    assert made["tables"]["sentence_relevance/sentences"] == [1, 0]
    assert made["requests"] == {"4": "PENDING", "3": "PENDING", "2": "REJECTED", "1": "PROMOTED"}
    assert made["champions"][SENTENCES]["registry"][0] == 1


def test_everything_can_be_read(story: Story) -> None:
    # Else the same failure, before and after, would pass for the same fact.
    assert "\n".join(failures(story.before)) == ""
    assert "\n".join(failures(story.after)) == ""
    assert "\n".join(failures(story.once_more)) == ""


def test_every_version_of_a_table_holds_the_rows_that_it_held(story: Story) -> None:
    before, migrated, at_the_end = story.facts("tables")
    assert migrated == before
    assert {name: among(before[name], at_the_end[name]) for name in before} == before
    before, migrated, _ = story.facts("online")
    assert migrated == before


def test_every_version_of_a_model_is_kept_and_scores_as_it_did(story: Story) -> None:
    before, migrated, at_the_end = story.facts("models")
    assert migrated == before
    for model in MODELS:
        for number, version in before[model]["versions"].items():
            now = at_the_end[model]["versions"][number]
            # A promotion marks the version with more of them.
            tags = among(version["tags"], now["tags"])
            assert {**now, "tags": tags} == version


def test_every_decision_is_kept_and_the_chain_goes_on(story: Story) -> None:
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


def test_the_champion_stays_until_a_person_decides(story: Story) -> None:
    before, after = story.before["made"]["champions"], story.after
    assert {model: after["facts"]["models"][model]["champion"] for model in MODELS} == before
    assert after["decided"]["champions"][CREDIT] == before[CREDIT]
    for made in (after["made"], story.once_more["made"]):
        assert made["champions"] == after["decided"]["champions"]


def test_what_waited_can_be_decided_about_and_followed(story: Story) -> None:
    refused, approved, decided = (story.after[step] for step in ("refused", "approved", "decided"))
    assert (refused["code"], "or was revoked" in refused["printed"]) == (1, True), refused
    assert approved["code"] == 0, approved["printed"]
    assert story.after["promoted"] == 2
    digest = story.before["facts"]["models"][SENTENCES]["versions"]["2"]["digest"]
    assert decided["champions"][SENTENCES] == {"ledger": [2, digest, 3], "registry": [2, digest], "drift": []}
    assert decided["requests"] == story.before["made"]["requests"] | {"3": "PROMOTED"}


def test_keys_open_what_they_opened_and_a_revoked_one_nothing(story: Story) -> None:
    for kept in story.facts("keys"):
        assert kept == story.before["facts"]["keys"]
    for holders in story.facts("holders"):
        assert holders == {LIVE_KEY: ["anna", "approve"], LOST_KEY: None}


def test_the_history_of_runs_is_kept(story: Story) -> None:
    before, migrated, at_the_end = story.facts("runs")
    assert [run[:2] for run in before.values()] == [["__ASSET_JOB", "SUCCESS"], ["train_" + SENTENCES, "SUCCESS"]]
    assert migrated == before
    assert among(before, at_the_end) == before
    assert len(at_the_end) == len(before) + 2
    before, migrated, at_the_end = story.facts("materialisations")
    assert migrated == before
    for asset, of_asset in before.items():
        assert at_the_end[asset][-len(of_asset) :] == of_asset


def test_nothing_is_trained_twice(story: Story) -> None:
    before, after, once_more = (part["made"] for part in (story.before, story.after, story.once_more))
    for run in (story.after["run"], story.once_more["run"]):
        assert run["code"] == 0, run["printed"]
    assert once_more == after
    for model in MODELS:
        known = before["models"][model]
        assert after["models"][model][-len(known) :] == known
        # Once, where the code of a training is not what it was.
        assert len(after["models"][model]) - len(known) <= 1
    is_superseded = after["models"][CREDIT] != before["models"][CREDIT]
    assert after["requests"]["4"] == ("SUPERSEDED" if is_superseded else "PENDING")


def test_a_commit_that_is_not_in_the_history_is_told(tmp_path: Path) -> None:
    with pytest.raises(pytest.fail.Exception, match="fetch the whole history: git fetch --unshallow"):
        check_out("0" * 40, tmp_path)
