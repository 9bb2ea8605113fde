"""Erasure of a person: no file or table names them afterwards, and no load or restore brings their data back."""

from __future__ import annotations

import re
from contextlib import closing
from typing import TYPE_CHECKING, Any, get_args

import dagster as dg
import psycopg
import pyarrow.parquet as pq
import pytest
from pydantic import SecretStr

from platform_assets.base.errors import TrainingError
from platform_assets.database.connections import Purpose
from platform_assets.definitions import resources
from platform_assets.domains.credit_risk import defs
from platform_assets.domains.credit_risk.demo import generate
from platform_assets.domains.credit_risk.model import MODEL
from platform_assets.domains.credit_risk.settings import CreditRiskSettings
from platform_assets.models.registry import ERASED_TAG
from platform_assets.operations import erasure
from platform_assets.operations.backup import make_backup
from platform_assets.operations.erasure import ErasureError, erase
from platform_assets.operations.restore import restore_backup
from platform_assets.services import Services
from platform_assets.settings import Settings
from platform_assets_tests.contracts.registrations import registration
from platform_assets_tests.instances import empty_instance
from platform_assets_tests.operations.test_backup import elsewhere  # noqa: F401 - a fixture

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PERSON = "9876543"
TABLES = ("credit_risk/loans", "credit_risk/loan_features")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A file with loans of many clients. One person has three: a valid row, an invalid row, and an unreadable line."""
    path = generate(tmp_path / "loans.csv", 400)
    lines = path.read_text().splitlines()
    header = lines[0].split(",")
    loan, client, amount = (header.index(name) for name in ("loan_id", "id", "loan_amount"))
    good = next(line.split(",") for line in lines[20:] if line.count(",") == len(header) - 1)
    for number in range(3):
        row = list(good)
        row[loan], row[client] = str(8_000_000 + number), PERSON
        if number == 1:
            row[amount] = "-1"
        lines.append(",".join(row) if number < 2 else f"torn,{PERSON}")
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture
def services(tmp_path: Path, source: Path, database_url: str, owner_url: str) -> Iterator[Services]:
    urls: dict[str, Any] = {"database_url": database_url, "migration_database_url": SecretStr(owner_url)}
    settings = Settings(home=tmp_path / "home", max_bad_rows=1, **urls)
    with closing(Services(settings, (CreditRiskSettings(credit_loans_uri=str(source)),))) as services:
        yield services


def load(services: Services) -> dict[str, Any]:
    """Materialise the tables. Return the materialisation metadata of `credit_risk/loans`."""
    assets = [defs.loans, defs.loan_features, defs.client_features]
    with empty_instance() as instance:
        result = dg.materialize(assets, resources=resources(lambda: services), instance=instance)
    [made] = result.asset_materializations_for_node("credit_risk__loans")
    return {name: value.value for name, value in made.metadata.items()}


def places_of(services: Services, subject: str) -> list[str]:
    """Return every file and table that contains the id in any form, except PostgreSQL's own files."""
    files = (path for path in services.settings.home.rglob("*") if path.is_file())
    found = [str(path) for path in files if subject.encode() in path.read_bytes() or subject in _values(path)]
    for purpose in get_args(Purpose):
        with closing(services.database.connect(purpose)) as connection:
            tables = connection.execute(
                "select c.oid::regclass::text from pg_class c join pg_namespace n on n.oid = relnamespace"
                " where relkind = 'r' and nspname !~ '^pg_' and nspname <> 'information_schema'"
                " and has_table_privilege(c.oid, 'select')"
            ).fetchall()
            for (table,) in tables:
                query = f"select count(*) from {table} as one where strpos(one::text, %s) > 0"
                if connection.execute(query.encode(), [subject]).fetchone() != (0,):
                    found.append(table)
    return found


def _values(path: Path) -> str:
    return str(pq.read_table(path).to_pylist()) if path.suffix == ".parquet" else ""


def plant(services: Services) -> None:
    """Add a prediction, its label, log lines, an event and an incident that name the person."""
    (services.settings.home / "logs").mkdir(exist_ok=True)
    (services.settings.home / "logs" / "service.log").write_text(f"GET /features/{PERSON} 200\nclient 19876543\n")
    with closing(services.database.connect("platform")) as connection:
        connection.execute(
            "insert into platform.predictions select gen_random_uuid(), 0, now(), model, 1, 1, 'shop', 'r', subject,"
            " '{}', 0.5, true, 0.5 from unnest(array['credit_risk_model', 'credit_risk_model', 'other_model'],"
            " array[%s, '12', '34']) as given(model, subject)",
            [PERSON],
        )
        connection.execute(
            "insert into platform.shadow_predictions select gen_random_uuid(), 0, now(), model, 2, 2, 'r', 0, subject,"
            " 0.5, 0.4, true from unnest(array['credit_risk_model', 'other_model'], array[%s, '34'])"
            " as given(model, subject)",
            [PERSON],
        )
        connection.execute(
            "insert into platform.labels (model, subject, at, label, observed_at, sender)"
            " values ('credit_risk_model', %s, now(), 1, now(), 's')",
            [PERSON],
        )
    services.incidents.open_incident("run_failed credit_risk/loans", f"the run failed at the client {PERSON}")
    with closing(services.database.connect("dagster")) as connection:
        connection.execute(
            "insert into event_logs (run_id, event, timestamp) values ('r', %s, now())", [f'{{"id": {PERSON}, "n": 1}}']
        )


@pytest.mark.requirement("PLT-10", "PLT-12", "PRO-6")
def test_no_file_or_table_contains_an_erased_persons_id_even_after_new_loads_and_a_restore(
    services: Services,
    elsewhere: Settings,  # noqa: F811 - the fixture
    source: Path,
    tmp_path: Path,
) -> None:
    load(services)
    first = {name: services.tables.current(name) for name in TABLES}
    made_of = {name: version.version for name, version in first.items() if version}
    digests = {name: version.digest for name, version in first.items() if version}
    fields = {"name": MODEL.name, "tables": made_of, "table_digests": digests}
    learned = services.registry.register(registration("print-1", **fields))
    services.registry.register(registration("print-2", name=MODEL.name, tables={TABLES[0]: 17}))
    plant(services)
    make_backup(services, tmp_path / "backup", lambda _: None)
    assert places_of(services, PERSON)

    done = erase(services, "client", f" {PERSON}")

    assert done.rows == {
        "credit_risk/loans": 1,
        "credit_risk/loans_quarantine": 2,
        "credit_risk/loan_features": 1,
        "credit_risk/client_features": 1,
        "platform.predictions": 1,
        "platform.shadow_predictions": 1,
        "platform.labels": 1,
        "dagster event_logs": 1,
        "platform.incidents": 1,
        "log files": 1,
    }
    assert (done.models, done.remains) == ([f"{MODEL.name} version {learned.version}"], [])
    assert [told.endswith("a restore repeats the erasure") for told in done.backups] == [True]
    # The longer number 19876543 contains the erased id, but is not changed.
    log = services.settings.home / "logs" / "service.log"
    assert log.read_text() == "GET /features/9999999 200\nclient 19876543\n"
    assert [one.title for one in services.incidents.list()] == ["the run failed at the client 9999999"]
    log.unlink()
    assert places_of(services, PERSON) == []
    assert services.promoter.erased(MODEL.name)
    assert ERASED_TAG not in services.registry.version(MODEL.name, 2).tags
    with pytest.raises(
        TrainingError, match=r"its training data included a person whose data were erased \(erasure 1 of"
    ):
        services.trainer.reproduce(MODEL, learned.version, lambda _: None)

    comes_not_back(services, source)

    told: list[tuple[str, bool]] = []
    restore_backup(elsewhere, tmp_path / "backup", lambda line: told.append((line, (elsewhere.home / "lake").exists())))
    # The lake is moved into the home only after the erasure was repeated, so that an interrupted restore does not bring
    # back the person's data.
    assert [done for line, done in told if line.startswith("erasure 1 was repeated")] == [False]
    with closing(Services(elsewhere)) as restored:
        assert places_of(restored, PERSON) == []
        assert restored.promoter.erased(MODEL.name)


def comes_not_back(services: Services, source: Path) -> None:
    """Check that loads drop the person's rows, from the same file and from a file with a new loan of the person."""
    rows = {name: len(services.tables.read(name)) for name in TABLES}
    assert load(services)["rows_of_erased_persons_dropped"] == 3
    assert {name: len(services.tables.read(name)) for name in TABLES} == rows
    source.write_text(re.sub("^8000000,", "8000007,", source.read_text(), flags=re.MULTILINE))
    load(services)
    assert places_of(services, PERSON) == []


@pytest.mark.requirement("PLT-10")
def test_repeating_an_interrupted_erasure_lists_the_affected_models_and_completes_the_record(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    load(services)
    loans = services.tables.current(TABLES[0])
    assert loans
    services.registry.register(registration("print-1", name=MODEL.name, tables={TABLES[0]: loans.version}))
    with monkeypatch.context() as broken:
        broken.setattr(erasure, "_erase_predictions", _interrupted)
        with pytest.raises(KeyboardInterrupt):
            erase(services, "client", PERSON)
    assert ERASED_TAG in services.registry.version(MODEL.name, 1).tags
    plant(services)
    models = [f"{MODEL.name} version 1"]
    for _ in range(2):
        assert erase(services, "client", PERSON).models == models
    with closing(services.database.connect("platform")) as connection:
        [[record]] = connection.execute("select found from platform.erasures").fetchall()
    assert (record["models"], record["rows"]["platform.predictions"]) == (models, 1)


@pytest.mark.requirement("PLT-10")
def test_models_whose_training_data_were_removed_by_an_earlier_erasure_are_listed_as_possibly_affected(
    services: Services,
) -> None:
    load(services)
    loans = services.tables.current(TABLES[0])
    assert loans
    services.registry.register(registration("print-1", name=MODEL.name, tables={TABLES[0]: loans.version}))
    [other, *_] = (one for one in services.tables.read(TABLES[0])["id"].astype(str) if one != PERSON)
    models = [f"{MODEL.name} version 1"]
    first, second = erase(services, "client", PERSON), erase(services, "client", other)
    assert (first.models, first.possible_models) == (models, [])
    assert (second.models, second.possible_models) == ([], models)
    nobody = erase(services, "client", "424242")
    assert (nobody.rows, nobody.models, nobody.possible_models) == ({}, [], [])


def _interrupted(*_: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.requirement("PLT-10")
def test_a_second_erasure_finds_nothing_and_keeps_other_rows_and_permissions(services: Services) -> None:
    load(services)
    before = services.tables.current(TABLES[1])
    plant(services)
    erase(services, "client", PERSON)
    again = erase(services, "client", PERSON)
    assert (again.number, again.rows, again.remains) == (1, {}, [])
    after = services.tables.current(TABLES[1])
    assert before
    assert after
    loans = services.tables.current(TABLES[0])
    assert loans
    assert [*after.made_from.values()] == [{TABLES[0]: loans.version}]
    assert before.rows == after.rows + 1
    with closing(services.database.connect("platform")) as connection:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("delete from platform.labels")
        assert connection.execute("select count(*) from platform.predictions").fetchone() == (2,)
        [[record]] = connection.execute("select erasures::text from platform.erasures").fetchall()
    assert PERSON not in record


@pytest.mark.requirement("PLT-10")
@pytest.mark.parametrize(
    ("kind", "subject", "reason"),
    [
        ("customer", "1", "no domain declares the kind of person 'customer'; choose one of: client"),
        ("client", "anna", "the id of a client is a whole number, not 'anna'"),
        ("client", "", "the id of a client is a whole number"),
    ],
)
def test_an_unknown_person_is_refused_before_anything_changes(
    tmp_path: Path, kind: str, subject: str, reason: str
) -> None:
    with pytest.raises(ErasureError, match=reason):
        erase(Services(Settings(home=tmp_path)), kind, subject)
    assert list(tmp_path.iterdir()) == []
