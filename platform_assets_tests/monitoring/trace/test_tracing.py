"""Traces over HTTP and on the command line, from predictions of real assets to the lines of their source files."""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import json
from collections import Counter
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import dagster as dg
import pytest
from psycopg.types.json import Jsonb
from pydantic import SecretStr, TypeAdapter

from platform_assets import domains
from platform_assets.app import application
from platform_assets.base.errors import NotFound, TableError
from platform_assets.definitions import resources
from platform_assets.domains.credit_risk.defs import client_features, loan_features, loans
from platform_assets.domains.credit_risk.demo import generate
from platform_assets.domains.credit_risk.model import MODEL
from platform_assets.domains.credit_risk.schemas import CLIENT_FEATURES, LOAN_FEATURES, LOANS
from platform_assets.domains.credit_risk.settings import CreditRiskSettings
from platform_assets.models.memory_registry import MemoryRegistry
from platform_assets.monitoring.trace.answers import find_answers, tables_named_by_answers
from platform_assets.monitoring.trace.declarations import AnswerTable, TracedAnswers
from platform_assets.monitoring.trace.example import EXAMPLE
from platform_assets.monitoring.trace.page import written
from platform_assets.monitoring.trace.results import Trace, trace_as_json
from platform_assets.services import Services
from platform_assets.settings import Settings
from platform_assets_tests.approval.proposals import SOMEBODY, proposal
from platform_assets_tests.command_line import platform_assets
from platform_assets_tests.contracts.registrations import registration
from platform_assets_tests.instances import empty_instance
from platform_assets_tests.postgres import empty_databases, owner_of, wait_until
from platform_assets_tests.service import api, keys_of, wait_until_live
from platform_assets_tests.serving import credit
from platform_assets_tests.test_app import problem

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import psycopg
    from starlette.testclient import TestClient

    from platform_assets.database.connections import Database

ROWS = 400
pytestmark = pytest.mark.requirement("MON-4")


@dataclasses.dataclass
class Shop:
    """A service with the tables of `credit_risk` and a champion, and HTTP clients with API keys."""

    services: Services
    source: Path
    runs: list[str]
    program: TestClient
    auditor: TestClient
    artefact: str

    def materialise(self) -> str:
        """Load the loans and compute the features. Return the id of the run."""
        with empty_instance() as instance:
            result = dg.materialize(
                [loans, loan_features, client_features],
                resources=resources(lambda: self.services),
                instance=instance,
            )
        assert result.success
        self.runs.append(result.run_id)
        return result.run_id

    def client(self) -> Any:
        """Return the id of a client with several loans."""
        return Counter(self.services.tables.read(LOANS.name)["id"].tolist()).most_common(1)[0][0]

    def version(self, name: str) -> int:
        """Return the number of a table's newest version."""
        version = self.services.tables.current(name)
        assert version
        return version.version

    def predict(self, *clients: int, named: str | None = None) -> str:
        """Request predictions, wait until they are logged, and return the id of the request."""
        before = self.services.prediction_log.written
        headers = {"X-Request-ID": named} if named else {}
        response = self.program.post("/predictions/credit-risk", json={"client_ids": clients}, headers=headers)
        assert response.status_code == 200, response.text
        wait_until(lambda: self.services.prediction_log.written >= before + len(clients), "the predictions were logged")
        return response.headers["X-Request-ID"]

    def trace(self, request: str, **query: Any) -> dict[str, Any]:
        """Trace over HTTP."""
        response = self.auditor.get(f"/trace/{request}", params=query)
        assert response.status_code == 200, response.text
        found: dict[str, Any] = response.json()
        return found

    def sql(self, query: str, *values: Any) -> None:
        with self.services.database.pooled() as connection, connection.transaction():
            connection.execute(query.encode(), values)


@pytest.fixture(scope="module")
def shop(postgres_server: Database, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    with empty_databases(postgres_server) as url:
        home = tmp_path_factory.mktemp("home")
        owner, source = SecretStr(owner_of(url)), generate(home / "loans.csv", ROWS)
        settings = Settings(
            home=home,
            database_url=SecretStr(url),
            migration_database_url=owner,
            rate_limit="off",
            max_bad_rows=1,
        )
        services = Services(settings, (CreditRiskSettings(credit_loans_uri=str(source)),), domains.traced_answers)
        # Use a registry in memory, because MLflow would take seconds.
        vars(services)["registry"] = registry = MemoryRegistry()
        app, keys = application(services), keys_of(services)
        program, auditor = (
            api(app, keys.add(name, name, {scope})) for name, scope in (("shop", "predict"), ("auditor", "trace"))
        )
        shop = Shop(services, source, [], program, auditor, "")
        run = shop.materialise()
        model = credit.fitted(services)
        shop.artefact = services.artefacts.save(model)
        named: dict[str, Any] = {
            "tables": {LOANS.name: 0, LOAN_FEATURES.name: 0},
            "digest": shop.artefact,
            "model": model,
        }
        registry.register(registration(**named | {"name": MODEL.name}))
        evidence = credit.EVIDENCE | {"tables": named["tables"], "runs": {"dagster": run}}
        credit.crown(services, shop.artefact, 1, evidence=evidence)
        with program:
            wait_until_live(services, MODEL.name)
            yield shop
        services.close()


def sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def lines_of(source: Path, client: int) -> dict[int, dict[str, str]]:
    """Return a client's lines of a CSV file, keyed by line number."""
    with source.open(newline="") as file:
        rows = csv.DictReader(file)
        return dict((rows.line_num, row) for row in rows if row["id"] == str(client))  # noqa: C402 - the number changes


def test_a_prediction_is_traced_to_the_lines_of_its_source_file(shop: Shop) -> None:
    client = shop.client()
    request = shop.predict(client)
    found = shop.trace(request)
    [answer], [model] = found["answers"], found["models"]

    served = shop.services.tables.read(LOAN_FEATURES.name)
    assert answer["subject"] == str(client)
    assert answer["caller"] == "shop"
    assert answer["features"]["nb_previous_loans"] == (served["client_id"] == client).sum() - 1
    version, of_loans = shop.version(LOAN_FEATURES.name), shop.version(LOANS.name)
    assert answer["inputs"] == {LOAN_FEATURES.name: version}
    assert answer["read_from"] == f"{CLIENT_FEATURES.name}@{len(shop.runs)}"

    features, raw = answer["rows"]
    assert features["table"] == LOAN_FEATURES.name
    assert features["equal_to_served"] is True
    assert features["missing"] == raw["missing"] == []
    expected = lines_of(shop.source, client)
    lines = {row["line"]: row for row in raw["rows"]}
    # The demo data also contain duplicate and invalid lines for clients. These lines are not in the table.
    assert set(lines) <= set(expected)
    assert {row["values"]["loan_id"] for row in lines.values()} == set(served["loan_id"][served["client_id"] == client])
    for line, row in lines.items():
        assert row["text"]["loan_amount"] == expected[line]["loan_amount"]
        assert row["file_digest"] == sha256(shop.source)

    assert model["digest"] == shop.artefact
    assert [(one["kind"], one["reason"]) for one in model["decisions"]] == [
        ("request", None),
        ("approve", "better"),
        ("promote", None),
    ]
    assert (model["dagster_run"], model["git_commit"]) == (shop.runs[0], "abc123")
    assert model["missing"] == []
    tables = {(one["name"], one["version"]): one for one in found["tables"]}
    assert {tables[LOANS.name, of_loans]["run"], tables[LOAN_FEATURES.name, version]["run"]} == {shop.runs[-1]}
    assert tables[LOANS.name, of_loans]["source_digest"] == sha256(shop.source)
    assert str(shop.source) in tables[LOANS.name, of_loans]["source"]
    assert tables[LOAN_FEATURES.name, version]["inputs"] == {LOANS.name: [of_loans]}


def test_the_example_in_the_documentation_is_a_valid_trace() -> None:
    found = TypeAdapter(Trace).validate_python(EXAMPLE)
    assert json.loads(trace_as_json(found)) == EXAMPLE


def test_tracing_requires_the_scope_trace(shop: Shop) -> None:
    assert problem(shop.program.get("/trace/x"))["scopes_needed"] == ["trace"]
    refused = shop.auditor.post("/predictions/credit-risk", json={"client_id": 1})
    assert problem(refused)["type"] == "urn:platform-assets:scope-missing"


@pytest.mark.parametrize("request_id", ["unknown", "a:b", "%00", "'; drop table x; --"])
def test_the_error_for_an_unknown_id_says_which_id_to_give(shop: Shop, request_id: str) -> None:
    response = shop.auditor.get(f"/trace/{request_id}")
    assert response.status_code == 404
    assert "Give the X-Request-ID of a response" in problem(response)["detail"]


def test_an_answer_of_a_request_can_be_selected_by_number(shop: Shop) -> None:
    clients = [int(one) for one in shop.services.tables.read(LOAN_FEATURES.name)["client_id"].unique()[:12]]
    request = shop.predict(*clients)
    first = shop.trace(request)
    assert (first["total"], len(first["answers"]), len(first["models"])) == (12, 10, 1)
    [last] = shop.trace(request, answer=12)["answers"]
    assert last["subject"] == str(clients[11])
    with pytest.raises(NotFound, match="has 12 answers, so there is no answer 13; give a number from 1 to 12"):
        shop.services.tracer.trace(request, 13)
    page = "\n".join(written(shop.services.tracer.trace(request, 2)))
    assert "12 answers, 1 shown; use --answer N to show another answer" in page


@pytest.mark.requirement("PRO-4")
def test_a_trace_shows_the_score_of_the_shadow_next_to_each_answer(shop: Shop) -> None:
    services = shop.services
    clients = [int(one) for one in services.tables.read(LOAN_FEATURES.name)["client_id"].unique()[:2]]
    assert shop.trace(shop.predict(*clients))["answers"][0]["shadows"] == []
    champion = services.ledger.champion(MODEL.name)
    assert champion is not None
    digest = services.artefacts.save(credit.fitted(services, "boosting"))
    fields = {"model": MODEL.name, "digest": digest, "threshold": 0.4, "evidence": credit.EVIDENCE}
    number = services.ledger.open_request(proposal(2, champion=(1, champion.digest), **fields)).id
    services.shadow_ledger.start(MODEL.name, 2, 3, SOMEBODY)

    def is_loaded() -> bool:
        state = services.shadows.state().get(MODEL.name) if services.shadows else None
        return state is not None and state.model is not None

    def scores() -> list[Any]:
        with services.database.pooled() as connection:
            return connection.execute(b"select score from platform.shadow_predictions order by at, item").fetchall()

    wait_until(is_loaded, "the shadow was loaded")
    # Two requests can have the same id, because a client may choose the id.
    for _ in range(2):
        shop.predict(*clients, named="twice")
    wait_until(lambda: len(scores()) == 4, "the shadow's scores were stored")
    services.shadow_ledger.stop(number, SOMEBODY)
    found = shop.trace("twice")
    shown = [one for answer in found["answers"] for one in answer["shadows"]]
    assert [(one["score"],) for one in shown] == scores()
    assert [len(answer["shadows"]) for answer in found["answers"]] == [1] * 4
    assert len({one["score"] for one in shown}) == 2
    for answer, one in zip(found["answers"], shown, strict=True):
        assert (one["version"], one["approval_id"], one["threshold"]) == (2, number, 0.4)
        assert one["positive"] is (one["score"] >= 0.4)
        assert one["agrees"] is (one["positive"] == answer["answer"]["positive"])
    page = "\n".join(written(services.tracer.trace("twice", 2)))
    assert f'shadow of version 2, request {number}: {{"score": {shown[1]["score"]}' in page


def test_after_the_source_has_changed_an_older_answer_is_still_traced_to_the_versions_it_used(shop: Shop) -> None:
    client = shop.client()
    before, text = shop.predict(client), shop.source.read_text()
    old = shop.trace(before)["answers"][0]
    later = next(iter(lines_of(shop.source, client).values())) | {"loan_id": "999999", "loan_date": "2021-01-31"}
    shop.source.write_text(f"{text}{','.join(later.values())}\n")
    shop.materialise()
    [new] = shop.trace(shop.predict(client))["answers"]
    assert new["inputs"][LOAN_FEATURES.name] > old["inputs"][LOAN_FEATURES.name]
    assert new["features"]["nb_previous_loans"] == old["features"]["nb_previous_loans"] + 1
    assert new["rows"][0]["equal_to_served"] is True
    [again] = shop.trace(before)["answers"]
    assert again["features"] == old["features"]
    assert again["rows"][0]["equal_to_served"] is True
    assert [row["values"] for row in again["rows"][1]["rows"]] == [row["values"] for row in old["rows"][1]["rows"]]
    assert {row["line"] for row in again["rows"][1]["rows"]} == {None}
    assert "has changed (SHA-256 is now" in again["rows"][1]["missing"][0]


def test_versions_used_by_stored_answers_are_pinned_and_a_trace_reports_removed_versions(shop: Shop) -> None:
    request = shop.predict(shop.client())
    [version] = shop.trace(request)["answers"][0]["inputs"].values()
    raw = shop.trace(request)["answers"][0]["rows"][1]["version"]
    shop.source.write_text(shop.source.read_text().rpartition("\n")[0].rpartition("\n")[0] + "\n")
    shop.materialise()
    registry = vars(shop.services)["registry"]
    vars(shop.services)["registry"] = MemoryRegistry()
    pinned = shop.services.pinned_tables()
    vars(shop.services)["registry"] = registry
    assert version in pinned[LOAN_FEATURES.name]
    assert raw in pinned[LOANS.name]
    for name in (LOANS.name, LOAN_FEATURES.name):
        shop.services.tables.vacuum(name, timedelta(0), pinned[name])
    assert shop.trace(request)["answers"][0]["rows"][0]["equal_to_served"] is True
    for name in (LOANS.name, LOAN_FEATURES.name):
        shop.services.tables.vacuum(name, timedelta(0))
    with pytest.raises(TableError, match="removed after the retention period"):
        shop.services.tables.scan(LOANS.name, version=raw)
    gone = shop.trace(request)
    assert "removed after the retention period" in gone["answers"][0]["rows"][1]["missing"][0]
    [loans_then] = [one for one in gone["tables"] if (one["name"], one["version"]) == (LOANS.name, raw)]
    assert loans_then["source_digest"]
    assert "removed after the retention period" in loans_then["missing"]


def test_an_answer_without_recorded_versions_is_traced_as_far_as_possible(shop: Shop) -> None:
    shop.sql(
        "insert into platform.predictions (batch, place, at, model, version, approval_id, caller, request_id, subject,"
        " features, score, positive, threshold) values (gen_random_uuid(), 0, now(), %s, 99, 999, '', 'old', '1', %s,"
        " 0.5, true, 0.5)",
        MODEL.name,
        Jsonb({"age": 30}),
    )
    found = shop.trace("old")
    [answer], [model] = found["answers"], found["models"]
    assert [one["missing"] for one in answer["rows"]] == [
        [f"this answer was computed from {name}, but the version of this table was not recorded"]
        for name in (LOAN_FEATURES.name, LOANS.name)
    ]
    assert "there is no request 999" in model["missing"][0]
    assert "has no version 99" in model["missing"][1]
    page = "\n".join(written(shop.services.tracer.trace("old")))
    assert "missing: the model registry does not contain this version" in page
    assert "a program without a key" in page


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_the_command_prints_a_page_or_json(shop: Shop, options: tuple[str, ...]) -> None:
    request = shop.predict(shop.client())
    settings = shop.services.settings
    variables: dict[str, Any] = {
        "PLATFORM_HOME": settings.home,
        "PLATFORM_DATABASE_URL": settings.database_url.get_secret_value(),
        "PLATFORM_CREDIT_LOANS_URI": shop.source,
    }
    done = platform_assets("trace", request, *options, **variables)
    assert done.code == 0, done.printed
    if options:
        assert (
            json.loads(done.out)["answers"] == json.loads(trace_as_json(shop.services.tracer.trace(request)))["answers"]
        )
    else:
        assert "equal to the features as served" in done.out
        assert f"loans.csv (PLATFORM_CREDIT_LOANS_URI), SHA-256 {sha256(shop.source)}" in done.out
        assert "approved by" in done.out
    assert platform_assets("trace", "nobody", **variables).code == 1


def test_answers_in_a_table_that_a_domain_declares_can_be_traced(shop: Shop) -> None:
    stored = AnswerTable(
        name="pg_temp.forecasts", id=("zone", "day"), order=("hour",), inputs="inputs", features=("lag",), at="at"
    )
    declared = [TracedAnswers("demand_model", stored)]
    with shop.services.database.connect("platform") as connection:
        connection.execute(
            "create temp table forecasts as select 'es' as zone, date '2026-03-01' as day, hour, 7 as lag, 1.5 as mw,"
            " now() as at, 3 as model_version, 5 as approval_id,"
            " '{\"esios_demand/demand_forecast\": 4}'::jsonb as inputs"
            " from generate_series(0, 23) as hour"
        )

        @contextmanager
        def connect() -> Iterator[psycopg.Connection[Any]]:
            yield connection

        found, total = find_answers(connect, declared, "es:2026-03-01", None, 2)
        assert (total, [one.row["hour"] for one in found]) == (24, [0, 1])
        assert (found[0].model, found[0].features, found[0].answer) == (
            "demand_model",
            {"lag": 7},
            {"mw": found[0].row["mw"]},
        )
        assert find_answers(connect, declared, "es:no day", None, 2) == ([], 0)
        named = tables_named_by_answers(connect, declared, timedelta(days=1))
        assert named["esios_demand/demand_forecast"] == {4}
        connection.execute("update forecasts set at = at - interval '2 days'")
        assert "esios_demand/demand_forecast" not in tables_named_by_answers(connect, declared, timedelta(days=1))
