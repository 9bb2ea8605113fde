"""The commands `decide`, `rollback`, `audit`, `keys` and `export` with a real ledger."""

from __future__ import annotations

import getpass
import json
import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from dagster_dg_cli.cli.launch import launch_command
from pydantic import SecretStr

from platform_assets.approval.defs import run_config
from platform_assets.approval.requests import Actor, State
from platform_assets.database.policies import write_rules
from platform_assets.models.memory_registry import MemoryRegistry
from platform_assets.models.registry import CHAMPION
from platform_assets.services import Services
from platform_assets.serving.bundles import open_bundle
from platform_assets.settings import Settings
from platform_assets.web.api_keys import Keys
from platform_assets_tests.approval.evidence_proposals import evidence
from platform_assets_tests.approval.promotions import Works
from platform_assets_tests.approval.proposals import ANNA, MODEL, owner_at, register
from platform_assets_tests.approval.proposals import proposal as bare
from platform_assets_tests.command_line import AS_NO_USER, NO_USER, Done, needs_root, platform_assets
from platform_assets_tests.postgres import as_owner, owner_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from platform_assets.approval.ledger import Ledger
    from platform_assets.approval.ledger_events import Event
    from platform_assets.approval.requests import Request

ROOT = Path(__file__).parents[2]
ASK = ("--reason", "better in the north")


@dataclass
class Desk:
    """The database and the services of one test, and a method that runs commands with them."""

    url: str
    home: Path
    services: Services
    lake: str

    @property
    def ledger(self) -> Ledger:
        return self.services.ledger

    @property
    def keys(self) -> Keys:
        assert isinstance(self.services.keys, Keys)
        return self.services.keys

    def do(self, *arguments: str, key: str = "", **variables: str) -> Done:
        everything: dict[str, str | Path | float] = {
            "PLATFORM_HOME": self.home,
            "PLATFORM_DATABASE_URL": self.url,
            "PLATFORM_MIGRATION_DATABASE_URL": owner_of(self.url),
            "PLATFORM_LAKE_URI": self.lake,
            "PLATFORM_API_KEY": key,
            **variables,
        }
        return platform_assets(*arguments, **everything)

    def ask(self, version: int = 1, *, passed: bool = True, **others: Any) -> Request:
        return self.ledger.open_request(bare(version, **{"evidence": evidence(passed=passed), **others}))

    def last(self, number: int) -> Event:
        return self.ledger.history(number)[-1]

    def works(self) -> Works:
        services = self.services
        return Works(services.ledger, services.registry, self.home / "lake", services._lock, services.artefacts)


def opened(url: str, home: Path, lake: str) -> Desk:
    owner = SecretStr(owner_of(url))
    settings = Settings(home=home, database_url=SecretStr(url), migration_database_url=owner, lake_uri=lake)
    with owner_at(url) as connection:
        register(connection, ANNA)
    return Desk(url, home, Services(settings), lake)


@pytest.fixture
def desk(database_url: str, tmp_path: Path) -> Iterator[Desk]:
    desk = opened(database_url, tmp_path, "memory://")
    yield desk
    desk.services.close()


@pytest.fixture
def mlflow_desk(database_url: str, tmp_path: Path) -> Iterator[Desk]:
    """Like `desk`, but with the models in MLflow and the lake in a folder."""
    desk = opened(database_url, tmp_path, "")
    yield desk
    desk.services.close()


def refused(done: Done, said: str) -> None:
    """Check that the command failed with an error message and without a traceback."""
    assert (done.code, done.out) == (1, "")
    assert re.search(said, done.err), done.err
    assert "Traceback" not in done.err


# decide list, show


@pytest.mark.requirement("PRO-4")
def test_list_shows_open_requests(desk: Desk) -> None:
    assert desk.do("decide", "list").out == "there are no open requests\n"
    assert desk.do("decide", "list", "--all").out == "there are no requests\n"
    desk.ask(1)
    desk.ask(2, passed=False)
    desk.ask(1, model="demand_model", launched_by=None)
    done = desk.do("decide", "list")
    assert (done.code, done.err) == (0, "")
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in done.out.splitlines() if line.startswith("│")]
    assert [row[:6] for row in rows] == [
        ["3", "demand_model", "1", "PENDING", "passed", "unknown"],
        ["2", MODEL, "2", "PENDING", "FAILED", "schedule:train_credit_risk_model_nightly"],
    ]
    assert MODEL not in desk.do("decide", "list", "--model", "demand_model").out
    everything = desk.do("decide", "list", "--all").out
    assert "SUPERSEDED" in everything


@pytest.mark.requirement("PRO-6")
def test_expired_request_is_not_listed(desk: Desk) -> None:
    request = desk.ask(lifetime=timedelta(0))
    assert desk.do("decide", "list").out == "there are no open requests\n"
    assert desk.ledger.request(request.id).state is State.EXPIRED


@pytest.mark.requirement("PRO-4", "PRO-5")
def test_show_prints_the_evidence_and_history(desk: Desk) -> None:
    desk.ask(passed=False, champion=(7, "f" * 64))
    desk.ledger.decide(1, "reject", ANNA, "worse [in the north]")
    done = desk.do("decide", "show", "1")
    assert (done.code, done.err) == (0, "")
    lines = done.out.splitlines()
    assert lines[0].startswith(f"request 1 ({MODEL} version 1): REJECTED; expires 20")
    assert lines[1] == "launched by schedule:train_credit_risk_model_nightly; champion at the time: version 7"
    assert lines[2] == "code 0.1.0+1a2b3c4d5e6f; data somewhere/readings version 3"
    assert "gate: FAILED" in lines
    assert "  + ROC AUC is 0.77 (required: at least 0.7)." in lines
    assert "  - Recall is 0.8 (0.77 to 0.83)." in lines
    assert "  roc_auc: 0.77 (0.75 to 0.79); difference from champion 0.02 (0.01 to 0.03)" in lines
    assert "  precision: undefined; difference from champion undefined" in lines
    assert lines[-1].startswith("  rejected by anna at 20")
    assert lines[-1].endswith(": worse [in the north]")


@pytest.mark.requirement("PRO-4")
@pytest.mark.parametrize("command", [("show",), ("approve", *ASK), ("reject", *ASK), ("withdraw", *ASK)])
def test_missing_request_is_reported(desk: Desk, command: tuple[str, ...]) -> None:
    name, *options = command
    refused(
        desk.do("decide", name, "7", *options),
        "NoSuchRequest: there is no request 7; `platform-assets decide list",
    )


# decide approve, reject, withdraw


@pytest.mark.requirement("PRO-4", "PRO-5")
@pytest.mark.parametrize(
    ("command", "state"),
    [("approve", State.APPROVED), ("reject", State.REJECTED), ("withdraw", State.WITHDRAWN)],
)
def test_decision_is_recorded_with_the_owner_of_the_key(desk: Desk, command: str, state: State) -> None:
    secret = desk.keys.add("anna-laptop", "Anna Müller", ["approve"])
    desk.ask()
    done = desk.do("decide", command, "1", *ASK, key=secret)
    told, *then = done.out.splitlines()
    assert (done.code, told, done.err) == (0, f"request 1 ({MODEL} version 1) is {state}", "")
    assert bool(then) == (state == State.APPROVED)
    event = desk.last(1)
    assert (event.state, event.actor, event.authenticated) == (state, "Anna Müller", True)
    assert event.reason == "better in the north"
    assert secret not in desk.do("decide", "show", "1", key=secret).printed


@pytest.mark.requirement("PRO-4")
def test_show_reports_unreadable_evidence(desk: Desk) -> None:
    desk.ask(evidence={"verdict": {"passed": True}, "metrics": {"roc_auc": 5}})
    done = desk.do("decide", "show", "1")
    told = f"request 1 ({MODEL} version 1): PENDING; the evidence cannot be read; reject or withdraw the request"
    assert (done.code, done.out.splitlines()[0], done.err) == (0, told, "")


@pytest.mark.requirement("PRO-3", "PRO-4")
def test_approve_prints_the_promotion_command(desk: Desk) -> None:
    desk.ask()
    told = desk.do("decide", "approve", "1", *ASK).out.splitlines()[-1]
    program, *arguments = shlex.split(told)
    assert (program, arguments[0]) == (".venv/bin/dg", "launch")
    options = launch_command.make_context("launch", arguments[1:]).params
    assert options["job"] == "promote_model"
    expected = run_config(1).to_config_dict()  # type: ignore[no-untyped-call]
    assert json.loads(options["config_json"]) == {"ops": expected["ops"]}
    for page in (ROOT / "docs" / "tour.md", ROOT / "docs" / "approval.md"):
        assert told.partition("'")[0] in page.read_text()


@pytest.mark.requirement("PRO-5")
def test_decision_without_a_key_is_recorded_as_unverified(desk: Desk) -> None:
    desk.ask()
    assert desk.do("decide", "approve", "1", *ASK).code == 0
    event = desk.last(1)
    assert (event.actor, event.authenticated) == (f"unverified: {getpass.getuser()} on the command line", False)
    told = f"approved by {getpass.getuser()} on the command line (identity not verified) at "
    assert told in desk.do("decide", "show", "1").out


@pytest.mark.requirement("PRO-5")
@pytest.mark.parametrize("command", ["approve", "reject", "withdraw"])
def test_decision_without_a_key_is_refused_if_identity_is_required(desk: Desk, command: str) -> None:
    desk.ask()
    with owner_at(desk.url) as owner:
        write_rules(owner, identity_required=True)
    done = desk.do("decide", command, "1", *ASK, PLATFORM_APPROVALS_REQUIRE_IDENTITY="on")
    refused(done, "DecisionRefused: .*PLATFORM_APPROVALS_REQUIRE_IDENTITY is on; set PLATFORM_API_KEY to a key")
    assert desk.last(1).kind == "request"
    secret = desk.keys.add("anna", "anna", ["approve"])
    variables = {"PLATFORM_APPROVALS_REQUIRE_IDENTITY": "on"}
    assert desk.do("decide", command, "1", *ASK, key=secret, **variables).code == 0


@pytest.mark.requirement("PRO-5")
@pytest.mark.parametrize(
    ("scopes", "revoked", "said"),
    [
        (["approve"], True, "KeysError: PLATFORM_API_KEY is unknown or revoked"),
        (["read", "predict"], False, "the key of anna lacks the scope `approve`; .*keys add NAME --scope approve"),
    ],
)
def test_revoked_key_or_key_without_the_scope_is_refused(
    desk: Desk, scopes: list[str], revoked: bool, said: str
) -> None:
    secret = desk.keys.add("anna", "anna", scopes)
    if revoked:
        assert desk.do("keys", "revoke", "anna").out == "the key anna is revoked\n"
    desk.ask()
    for command in ("approve", "reject"):
        done = desk.do("decide", command, "1", *ASK, key=secret)
        refused(done, said)
        assert secret not in done.printed
    refused(desk.do("rollback", MODEL, *ASK, key=secret), said)
    assert desk.last(1).kind == "request"


def test_unknown_key_is_refused_and_not_printed(desk: Desk) -> None:
    desk.ask()
    done = desk.do("decide", "approve", "1", *ASK, key="pa_forged")
    refused(done, "PLATFORM_API_KEY is unknown or revoked")
    assert "pa_forged" not in done.printed


@pytest.mark.requirement("PRO-5")
@pytest.mark.parametrize("command", ["approve", "reject", "withdraw"])
def test_second_decision_is_refused_with_a_message_about_the_first(desk: Desk, command: str) -> None:
    desk.ask()
    desk.ledger.decide(1, "reject", ANNA, "worse [/in] the north")
    head = desk.ledger.head()
    done = desk.do("decide", command, "1", *ASK)
    assert (done.code, done.err) == (3, "")
    assert done.out.startswith(f"request 1 ({MODEL} version 1) is closed: rejected by anna at 20")
    assert done.out.endswith("UTC: worse [/in] the north\n")
    assert desk.ledger.head() == head


@pytest.mark.requirement("PRO-6")
def test_decision_on_an_expired_request_is_refused(desk: Desk) -> None:
    desk.ask(lifetime=timedelta(0))
    done = desk.do("decide", "approve", "1", *ASK)
    assert done.code == 3
    assert "is closed: expired by platform" in done.out


@pytest.mark.requirement("PRO-5")
def test_reason_is_required(desk: Desk) -> None:
    desk.ask()
    assert desk.do("decide", "approve", "1").code == 2
    refused(desk.do("decide", "approve", "1", "--reason", " "), "give a reason")


@pytest.mark.requirement("PRO-2", "PRO-5")
def test_only_a_permitted_person_can_override_a_failed_gate(desk: Desk) -> None:
    anna, bert = (desk.keys.add(name, name, ["approve"]) for name in ("anna", "bert"))
    desk.ask(passed=False, may_override=("bert",))
    refused(
        desk.do("decide", "approve", "1", *ASK, key=bert), "did not pass the gate; bert may approve it with an override"
    )
    refused(desk.do("decide", "approve", "1", *ASK, "--override", key=anna), "anna may not override")
    assert desk.do("decide", "approve", "1", *ASK, "--override", key=bert).code == 0
    assert desk.last(1).override
    assert "approved by bert at " in desk.do("decide", "show", "1").out
    assert ", overriding a failed gate: better in the north" in desk.do("decide", "show", "1").out


@pytest.mark.requirement("PRO-6")
def test_four_eyes_policy_lets_the_requester_withdraw_but_not_approve(desk: Desk) -> None:
    secret = desk.keys.add("anna", "anna", ["approve"])
    desk.ask(requested_by=Actor("anna", secret), four_eyes=True)
    refused(
        desk.do("decide", "approve", "1", *ASK, key=secret), "the policy is four-eyes; another person must approve it"
    )
    assert desk.do("decide", "withdraw", "1", *ASK, key=secret).code == 0


# decide request


@pytest.mark.requirement("PRO-6")
def test_a_repeated_request_has_new_evidence(mlflow_desk: Desk, tmp_path: Path) -> None:
    desk = mlflow_desk
    secret = desk.keys.add("anna", "anna", ["approve"])
    refused(desk.do("decide", "request", "no_model", "1"), "there is no model 'no_model'; choose one of credit_risk")
    publish_loans(desk.services, tmp_path / "first.csv", 3_000)
    trained = train(desk.services)
    refused(desk.do("decide", "request", MODEL, "9"), "RegistryError: .*9")
    done = desk.do("decide", "request", MODEL, "1", key=secret)
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith(f"request 1 ({MODEL} version 1): PENDING")
    request = desk.ledger.request(1)
    assert (request.requested_by, request.digest, request.champion) == ("anna", trained, None)
    assert desk.do("decide", "reject", "1", *ASK, key=secret).code == 0

    publish_loans(desk.services, tmp_path / "second.csv", 4_000)
    assert desk.do("decide", "request", MODEL, "1", key=secret).code == 0
    again = desk.ledger.request(2)
    assert (again.state, again.digest) == (State.PENDING, trained)
    rows = [one.evidence["metrics"]["rows"]["value"] for one in (request, again)]
    assert rows[1] > rows[0]

    desk.do("decide", "withdraw", "2", *ASK, key=secret)
    # Open the request with evidence of a passed gate, because a model trained on so few demo loans may fail the gate.
    desk.ask(1, digest=trained)
    desk.ledger.decide(3, "approve", ANNA, "good")
    desk.services.promoter.promote(3)
    done = desk.do("decide", "request", MODEL, "1", key=secret)
    assert (done.code, done.out) == (0, f"{MODEL} version 1 is already the champion; no request was opened\n")


@pytest.mark.requirement("PRO-5", "PRO-6")
def test_request_without_a_key_is_refused_if_identity_is_required(desk: Desk) -> None:
    done = desk.do("decide", "request", MODEL, "1", PLATFORM_APPROVALS_REQUIRE_IDENTITY="on")
    refused(done, "PLATFORM_APPROVALS_REQUIRE_IDENTITY is on: .*set PLATFORM_API_KEY to your own key")


def publish_loans(services: Services, file: Path, rows: int) -> None:
    """Publish loans and their features as the domain's assets do."""
    from platform_assets.domains.credit_risk.features import loan_features
    from platform_assets.domains.credit_risk.schemas import LOAN_FEATURES, LOANS
    from platform_assets_tests.domains.credit_risk.test_model import good_loans

    loans = services.engine.as_expression(good_loans(file, rows))
    for table, content in ((LOANS, loans), (LOAN_FEATURES, loan_features(loans))):
        with services.engine.stage(content) as staged:
            services.tables.publish(table.name, staged, metadata={"demo": True})


def train(services: Services) -> str:
    """Train version 1 of the domain's model with a single, fast candidate; return the digest of the model file."""
    from platform_assets.domains.credit_risk.model import MODEL as SPEC

    quick = replace(SPEC, candidates=(replace(SPEC.candidates[0], grid={}),), resamples=50)
    return services.trainer.train(quick, "user", lambda _: None).version.digest


# rollback, audit


@pytest.mark.requirement("PRO-7")
@pytest.mark.parametrize("command", [("rollback", "credit_risk", *ASK), ("decide", "list", "--model", "credit_risk")])
def test_the_error_for_an_unknown_model_lists_the_known_models(desk: Desk, command: tuple[str, ...]) -> None:
    refused(desk.do(*command), f"there is no model .credit_risk.; choose one of .*{MODEL}")


@pytest.mark.requirement("PRO-7")
def test_rollback_without_a_previous_champion_is_refused(desk: Desk) -> None:
    done = desk.do("rollback", MODEL, *ASK)
    refused(done, f"{MODEL} cannot be rolled back: there is no champion yet; approve a version first")


@pytest.mark.requirement("PRO-5", "PRO-7")
def test_rollback_restores_the_previous_champion_and_audit_finds_a_moved_alias(mlflow_desk: Desk) -> None:
    desk, works = mlflow_desk, mlflow_desk.works()
    secret = desk.keys.add("carla", "carla", ["approve"])
    works.crown("first")
    refused(desk.do("rollback", MODEL, *ASK, key=secret), "version 1 is the only champion so far")
    works.crown("second")
    assert desk.do("audit").code == 0
    done = desk.do("rollback", MODEL, "--reason", "it flags everybody", key=secret)
    assert (done.code, done.out, done.err) == (0, f"{MODEL} version 1 is the champion again\n", "")
    champion = works.registry.by_alias(MODEL, CHAMPION)
    assert champion is not None
    assert champion.version == 1
    event = desk.ledger.changes(MODEL)[-1]
    assert (event.kind, event.actor, event.authenticated, event.reason) == (
        "roll_back",
        "carla",
        True,
        "it flags everybody",
    )
    done = desk.do("audit")
    assert (done.code, done.out) == (0, f"nothing was altered; newest event: {event.head}\n")
    works.registry.set_alias(MODEL, CHAMPION, 2)
    done = desk.do("audit")
    assert (done.code, done.err) == (1, "")
    assert done.out == f"{MODEL}: the alias `champion` points to version 2, but the champion is version 1, request 1\n"


# export


@pytest.mark.requirement("REL-3")
def test_export_records_the_approver(mlflow_desk: Desk, tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    refused(
        mlflow_desk.do("export", MODEL, str(folder)),
        f"{MODEL} has no champion to export; train the model, approve its request",
    )
    services = mlflow_desk.services
    works = Works(services.ledger, MemoryRegistry(), tmp_path, services._lock, services.artefacts)
    version = works.train()
    request = works.ask(version, evidence=evidence(demo=True))
    services.ledger.decide(request.id, "approve", ANNA, "better")
    works.promoter.promote(request.id)
    done = mlflow_desk.do("export", MODEL, str(folder))
    assert (done.code, done.err) == (0, "")
    assert f"{MODEL} version 1, trained on sample data, digest {version.digest}\n" in done.out
    assert re.search(rf"request {request.id}, approved by anna at \S+ UTC: better\n", done.out)
    assert f"PLATFORM_BUNDLE={folder} platform-assets serve" in done.out
    assert open_bundle(folder).version == 1
    without = {"PLATFORM_DATABASE_URL": "", "PLATFORM_MIGRATION_DATABASE_URL": ""}
    refused(
        mlflow_desk.do("decide", "list", PLATFORM_BUNDLE=str(folder), **without),
        "PLATFORM_BUNDLE is for `platform-assets serve`",
    )


@pytest.mark.requirement("PRO-5")
def test_audit_names_the_altered_row(desk: Desk, owner_url: str) -> None:
    assert desk.do("audit").out == "nothing was altered; newest event: none\n"
    desk.ask()
    desk.ledger.decide(1, "reject", ANNA, "worse")
    done = desk.do("audit")
    assert (done.code, done.out) == (0, f"nothing was altered; newest event: {desk.ledger.head()}\n")
    as_owner(
        owner_url,
        "alter table platform.approval_events disable trigger all;"
        "update platform.approval_events set actor = 'bert' where sequence = 2;"
        "alter table platform.approval_events enable trigger all",
    )
    done = desk.do("audit")
    assert (done.code, done.out, done.err) == (
        1,
        (
            "event 2: altered after it was written\n"
            "event 2: was decided with a key of anna, but records bert as the person who decided\n"
        ),
        "",
    )


# keys


@pytest.mark.requirement("PRO-5", "PLT-8")
def test_the_secret_of_a_key_is_printed_only_when_the_key_is_created(desk: Desk) -> None:
    scopes = ("--scope", "approve", "--scope", "read")
    done = desk.do("keys", "add", "anna-laptop", *scopes, "--owner", "Anna [/b] [red]Müller")
    assert (done.code, done.err) == (0, "")
    secret = done.out.strip()
    assert done.out == f"{secret}\n"
    key = desk.keys.check(secret)
    assert key is not None
    assert (key.name, key.owner, key.scopes) == ("anna-laptop", "Anna [/b] [red]Müller", frozenset({"approve", "read"}))
    desk.do("keys", "add", "program", "--scope", "predict")
    desk.do("keys", "revoke", "program")
    listed = desk.do("keys", "list")
    assert (listed.code, listed.err) == (0, "")
    rows = [
        [cell.strip() for cell in line.split("│")[1:-1]] for line in listed.out.splitlines() if line.startswith("│")
    ]
    # Ignore the key that the fixture created.
    rows = [row for row in rows if not row[0].startswith("test-")]
    assert [row[:3] for row in rows] == [
        ["anna-laptop", "Anna [/b] [red]Müller", "approve, read"],
        ["program", "program", "predict"],
    ]
    assert [bool(row[4]) for row in rows] == [False, True]
    assert secret not in listed.printed
    assert secret.removeprefix("pa_") not in listed.printed


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("add", "anna", "--scope", "rule"), "choose from read, predict, label, trace, approve"),
        (("add", "anna smith", "--scope", "read"), "'anna smith' is not a valid name"),
        (("add", "known", "--scope", "read"), "there is already a key 'known'; choose another name"),
        (("revoke", "nobody"), "there is no key 'nobody'; `platform-assets keys list`"),
    ],
)
def test_invalid_key_arguments_are_refused(desk: Desk, arguments: tuple[str, ...], said: str) -> None:
    desk.keys.add("known", "known", ["read"])
    refused(desk.do("keys", *arguments), said)


@needs_root
def test_user_without_a_passwd_entry_is_named_by_the_user_id() -> None:
    code = "from platform_assets.approval.commands import user_name; print(user_name())"
    variables = {name: value for name, value in os.environ.items() if name not in {"LOGNAME", "USER", "USERNAME"}}
    command = [*AS_NO_USER, sys.executable, "-c", code]
    done = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == (f"user {NO_USER}\n", "")


@pytest.mark.requirement("PRO-4")
def test_people_are_enrolled_listed_and_revoked(desk: Desk) -> None:
    secret = desk.keys.add("anna-laptop", "anna", ["approve"])
    scopes = ("--scope", "read", "--scope", "approve")
    done = desk.do("people", "add", "anna+models@example.com", "--owner", "anna", *scopes)
    assert done.out == "anna+models@example.com can sign in; the name in the ledger is anna\n"
    # Adding a person again replaces the scopes.
    desk.do("people", "add", "Anna+Models@example.com", "--owner", "anna", "--scope", "read")
    (person,) = (key for key in desk.keys.list() if key.is_person and not key.revoked_at)
    assert (person.name, person.owner, sorted(person.scopes)) == ("Anna+Models@example.com", "anna", ["read"])
    assert "anna-laptop" not in desk.do("people", "list").out
    assert "example.com" not in desk.do("keys", "list").out
    refused = desk.do("people", "add", "anna-laptop", "--scope", "read")
    assert (refused.code, "there is already a key 'anna-laptop'" in refused.err) == (1, True)
    assert desk.do("people", "revoke", person.name).out == f"the access of {person.name} is revoked\n"
    assert not [key for key in desk.keys.list() if key.is_person and not key.revoked_at]
    assert desk.keys.check(secret) is not None
