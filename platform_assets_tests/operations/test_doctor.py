"""`doctor` on real servers and stores."""

import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from platform_assets.domains import declared_sources
from platform_assets.domains.credit_risk.settings import CreditRiskSettings
from platform_assets.domains.sentence_relevance.settings import SentenceRelevanceSettings
from platform_assets.models import sentence_encoder
from platform_assets.operations import doctor
from platform_assets.operations.doctor import Finding, examine
from platform_assets.services import Services
from platform_assets.settings import Settings, load_settings
from platform_assets_tests.approval.promotions import Works
from platform_assets_tests.approval.proposals import prepared
from platform_assets_tests.openid_provider import CLIENT, openid_provider
from platform_assets_tests.ports import reserve_port
from platform_assets_tests.serving_thread import serving


@contextmanager
def web_server(status: int) -> Iterator[str]:
    """Respond to `/health` with the given status, and to every other path with 404."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == "/health" else 404)
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    server = HTTPServer(("127.0.0.1", 0), Handler)
    with serving(server):
        yield f"127.0.0.1:{server.server_port}"


def found(look: doctor.Look, home: Path, **settings: Any) -> Finding:
    """Return the single finding of one of `doctor`'s examinations."""
    services = Services(Settings(home=home, **settings))
    try:
        (finding,) = doctor._safely("thing", look, services)
    finally:
        services.close()
    return finding


@pytest.mark.requirement("PLT-8")
def test_doctor_reports_whether_mlflow_is_healthy(tmp_path: Path) -> None:
    with web_server(200) as address:
        uri = f"http://me:hunter2@{address}/"
        shown = f"http://{address}/"
        assert found(doctor._mlflow, tmp_path, mlflow_tracking_uri=uri) == Finding("mlflow", "ok", shown)
    with web_server(503) as address:
        finding = found(doctor._mlflow, tmp_path, mlflow_tracking_uri=f"http://{address}")
    assert (finding.state, finding.found) == ("broken", f"http://{address} fails its health check with HTTP 503")
    assert "PLATFORM_MLFLOW_TRACKING_URI" in finding.fix


@pytest.mark.parametrize(
    ("uri", "state", "said"),
    [
        ("http://127.0.0.1:{port}", "broken", "http://127.0.0.1:{port} does not respond: ConnectionError"),
        ("http://[x", "broken", "http://[x does not respond: InvalidURL"),
        ("postgresql://me:hunter2@db/x", "ok", "postgresql://db/x, not checked, because it is not a web address"),
    ],
)
@pytest.mark.requirement("PLT-8")
def test_an_unreachable_mlflow_is_reported(tmp_path: Path, uri: str, state: str, said: str) -> None:
    port = reserve_port()
    finding = found(doctor._mlflow, tmp_path, mlflow_tracking_uri=uri.format(port=port))
    assert (finding.state, finding.found) == (state, said.format(port=port))


def test_a_missing_mlflow_database_is_reported(tmp_path: Path, database_url: str) -> None:
    finding = found(doctor._mlflow, tmp_path, database_url=database_url)
    assert finding == Finding("mlflow", "ok", "in the platform's database")
    services = Services(Settings(home=tmp_path, database_url=database_url))  # type: ignore[arg-type]
    mlflow = services.database.name("mlflow")
    with services.database.maintenance() as connection:
        connection.execute(f'drop database "{mlflow}" with (force)'.encode())
    (finding,) = doctor._safely("mlflow", doctor._mlflow, services)
    services.database.close()
    assert (finding.state, finding.found.split(";")[0]) == (
        "broken",
        f"the database {mlflow} on 127.0.0.1 does not exist",
    )


@pytest.mark.requirement("PRO-5")
def test_doctor_warns_if_the_database_role_owns_the_ledger(tmp_path: Path, database_url: str, owner_url: str) -> None:
    limited, owner = (found(doctor._database, tmp_path, database_url=url) for url in (database_url, owner_url))
    assert (limited.state, owner.state) == ("ok", "warning")
    assert "so only triggers protect it" in owner.found
    assert "PLATFORM_MIGRATION_DATABASE_URL" in owner.fix


@pytest.mark.requirement("PRO-5", "PRO-9")
def test_doctor_reports_a_missing_artefact_of_a_champion_as_broken(tmp_path: Path, database_url: str) -> None:
    settings = Settings(home=tmp_path, database_url=database_url, lake_uri=str(tmp_path / "lake"))  # type: ignore[arg-type]
    services = Services(settings)
    works = Works(prepared(services.database), services.registry, tmp_path / "lake", services.database.lock)
    version = works.crown()
    (finding,) = doctor._models(services)
    assert finding == Finding("models", "ok", "1 registered; artefacts and versions are unchanged since approval")
    works.file(version).unlink()
    (finding,) = doctor._models(services)
    services.close()
    assert finding.state == "broken"
    assert f"{version.digest}.skops" in finding.found
    assert "platform-assets audit" in finding.fix


@pytest.mark.requirement("PLT-8", "ARX-5")
@pytest.mark.parametrize(
    ("given", "contact", "state", "said"),
    [
        ("demo", "", "ok", "a local server with sample papers"),
        ("live", "", "broken", "PLATFORM_ARXIV_CONTACT is not set, but requests to arxiv.org must name a contact"),
        ("live", "me@example.org", "ok", "export.arxiv.org (not contacted)"),
    ],
)
def test_doctor_reports_a_missing_contact_for_arxiv(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str, contact: str, state: str, said: str
) -> None:
    monkeypatch.setenv("PLATFORM_ARXIV_CONTACT", contact)
    services = Services(Settings(home=tmp_path, sources=given))  # type: ignore[arg-type]
    [finding] = [finding for finding in doctor._apis(services) if finding.thing == "arXiv"]
    assert finding.state == state
    assert finding.found.startswith(said)


@pytest.mark.requirement("ESI-1", "PLT-8")
@pytest.mark.parametrize(
    ("given", "token", "state", "said"),
    [
        ("demo", "", "ok", "a local server with sample data"),
        ("live", "", "broken", "PLATFORM_ESIOS_TOKEN is not set, but api.esios.ree.es requires a token"),
        ("live", "hunter2-hunter2", "ok", "api.esios.ree.es, with a token (not contacted)"),
    ],
)
def test_doctor_reports_a_missing_token_for_esios(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str, token: str, state: str, said: str
) -> None:
    monkeypatch.setenv("PLATFORM_ESIOS_TOKEN", token)
    services = Services(Settings(home=tmp_path, sources=given))  # type: ignore[arg-type]
    [finding] = [finding for finding in doctor._apis(services) if finding.thing == "ESIOS"]
    assert finding.state == state
    assert finding.found.startswith(said)


@pytest.mark.requirement("PLT-8")
def test_doctor_warns_if_every_user_can_open_the_home(tmp_path: Path) -> None:
    home = tmp_path / "my home"
    home.mkdir(mode=0o755)
    (home / "something else").touch()
    finding = found(doctor._home, home)
    assert (finding.state, finding.fix) == ("warning", f"run: chmod 700 '{home}'")
    home.chmod(0o750)
    assert found(doctor._home, home).state == "ok"


@pytest.mark.parametrize(
    ("uri", "state", "said"),
    [
        ("", "ok", "lake"),
        ("memory://", "warning", "in memory: the tables are lost when the process that writes them ends"),
    ],
)
def test_doctor_warns_if_the_lake_is_in_memory(tmp_path: Path, uri: str, state: str, said: str) -> None:
    finding = found(doctor._lake, tmp_path, lake_uri=uri)
    assert (finding.state, finding.found.removeprefix(f"{tmp_path}/")) == (state, said)


@pytest.mark.requirement("PLT-7")
def test_doctor_reports_a_damaged_table_with_the_fix(tmp_path: Path) -> None:
    services = Services(Settings(home=tmp_path))
    for name in ("shop/sales", "shop/prices"):
        with services.engine.stage(pd.DataFrame({"number": [1]})) as staged:
            services.tables.publish(name, staged)
    [file] = (tmp_path / "lake" / "shop" / "sales").glob("*.parquet")
    file.unlink()
    _, damage = doctor._lake(services)
    assert (damage.thing, damage.state) == ("shop/sales", "broken")
    assert f"{file} is missing. Materialise the asset again" in damage.found
    services.close()


@pytest.mark.requirement("PLT-8")
@pytest.mark.parametrize(
    ("url", "told"),
    [("", "go to the log only"), ("https://hooks.example.org/services/hunter2", "go to the log and to the webhook")],
)
def test_doctor_reports_where_alerts_go(tmp_path: Path, url: str, told: str) -> None:
    finding = found(doctor._alerts, tmp_path, alert_webhook_url=url)
    assert finding.state == "ok"
    assert finding.found.startswith(told)
    assert "hunter2" not in f"{finding}"


def test_doctor_reports_whether_all_processes_share_the_rate_limits(tmp_path: Path, redis_server: str) -> None:
    assert "each process" in found(doctor._rate_limits, tmp_path).found
    together = found(doctor._rate_limits, tmp_path, limits_url=redis_server)
    assert (together.state, together.found) == ("ok", "Redis counts the requests of all processes")
    away = found(doctor._rate_limits, tmp_path, limits_url=f"redis://:hunter2@127.0.0.1:{reserve_port()}/0")
    assert away.state == "warning"
    assert away.found.startswith("Redis does not respond: ")
    assert "hunter2" not in f"{away}"


def test_doctor_stops_early_if_the_home_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    findings = examine(Services(Settings(home=tmp_path / "file")))
    assert [(finding.thing, finding.state) for finding in findings] == [("environment", "ok"), ("home", "broken")]


@pytest.mark.requirement("PLT-8")
def test_doctor_reports_a_broken_sign_in(tmp_path: Path, database_url: str, owner_url: str) -> None:
    settings: dict[str, Any] = {"home": tmp_path, "database_url": database_url, "migration_database_url": owner_url}
    settings |= {"sign_in_key": "pa_unknown", "proxy_user_header": "X-User", "proxy_trusted": "0.0.0.0/0"}
    with openid_provider() as provider:
        settings |= {"oidc_issuer": provider.issuer, "oidc_client_id": CLIENT, "group_scopes": "staff=read"}

        def states(**changes: Any) -> list[tuple[str, str]]:
            services = Services(Settings(**settings | changes))
            findings = [*doctor._sign_in(services)]
            services.close()
            return [(finding.state, finding.found) for finding in findings]

        (key, lacks), (issuer, reachable), (proxy, admits) = states()
        assert (key, issuer, proxy) == ("broken", "ok", "broken")
        assert "unknown, revoked, or lacks" in lacks
        assert "/sign-in/callback" in reachable
        assert "contains all addresses" in admits
        services = Services(Settings(**settings))
        keys = services.keys_in_database()
        settings["sign_in_key"] = keys.add("sign-in", "service", {"identify"})
        assert states()[0] == ("warning", "no enrolled person has the scope `approve`")
        keys.enrol("anna@example.com", "anna", {"approve"})
        services.close()
        assert states()[0] == ("warning", "PLATFORM_GROUP_SCOPES gives no group the scope `approve`")
        good = {"group_scopes": "", "proxy_trusted": "10.0.0.1", "service_url": "http://models.example"}
        assert [state for state, _ in states(**good)] == ["ok", "warning", "ok"]
    assert "does not answer" in states()[1][1]
    assert found(doctor._sign_in, tmp_path).state == "ok"


@pytest.mark.requirement("PLT-8")
def test_doctor_examines_all_parts_and_shows_no_secret(
    tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Set these variables, because Dagster's storage reads them and would otherwise start an embedded server.
    monkeypatch.setenv("PLATFORM_HOME", str(tmp_path))
    monkeypatch.setenv("PLATFORM_DATABASE_URL", database_url)
    settings: dict[str, Any] = {
        "database_url": database_url,
        "lake_uri": f"file://{tmp_path}/lake?sig=hunter2",
        "mlflow_tracking_uri": f"http://me:hunter2@127.0.0.1:{reserve_port()}",
    }
    loans = CreditRiskSettings(credit_loans_uri=f"ftp://me:hunter2@127.0.0.1:{reserve_port()}/x.csv?sig=hunter2")
    services = Services(Settings(home=tmp_path, **settings), (loans,))
    findings = examine(services)
    services.close()
    things = [
        "environment",
        "home",
        "database",
        "history",
        "engine",
        "executor",
        "lake",
        "mlflow",
        "models",
        "backup",
        "alerts",
    ]
    things += ["messages", "sign-in", "rate limits"]
    sources = [source.variable for source in declared_sources()]
    assert {"PLATFORM_CREDIT_LOANS_URI", "PLATFORM_SENTENCES_ARCHIVE_URI"} <= {*sources}
    things += [*sources, "arXiv", "ESIOS", "PLATFORM_SENTENCES_ENCODER_URI", "SQL target"]
    assert [finding.thing for finding in findings] == things
    assert "hunter2" not in f"{findings}"


@pytest.mark.requirement("REL-2")
def test_doctor_reports_whether_the_sentence_encoder_can_be_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "encoder"

    def finding() -> Finding:
        settings = SentenceRelevanceSettings(sentences_encoder_uri=str(folder))
        (found,) = doctor._encoders(Services(Settings(home=tmp_path), (settings,)))
        return found

    assert finding().state == "broken"
    assert "model.onnx" in finding().found
    folder.mkdir()
    (folder / "model.onnx").touch()
    (folder / "tokenizer.json").touch()
    monkeypatch.setattr(sentence_encoder, "find_spec", lambda _: None)
    assert finding().state == "warning"
    assert "the extra `encoder` is not installed (missing: onnxruntime, tokenizers)" in finding().found
    monkeypatch.setattr(sentence_encoder, "find_spec", lambda _: "there")
    assert finding() == Finding("PLATFORM_SENTENCES_ENCODER_URI", "ok", "is set and reachable")
    assert found(doctor._encoders, tmp_path).found == "not set: no sentence encoder"


@pytest.mark.requirement("PLT-9")
def test_doctor_says_why_spark_cannot_be_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert found(doctor._engine, tmp_path).state == "ok"
    monkeypatch.setattr(doctor, "why_not", lambda address: f"nothing answers at {address}; start it")
    finding = found(doctor._engine, tmp_path, engine="spark", spark_remote="sc://spark:15002")
    assert finding == Finding(
        "engine", "broken", "Spark at sc://spark:15002: nothing answers at sc://spark:15002", "start it"
    )
    monkeypatch.setattr(doctor, "why_not", lambda _: None)
    assert found(doctor._engine, tmp_path, engine="spark").state == "ok"


@pytest.mark.requirement("ESI-3", "PLT-8")
@pytest.mark.parametrize(
    ("settings", "state", "told"),
    [
        ({}, "ok", "the platform's own database, because no PLATFORM_SQL_TARGET_ setting is set"),
        ({"sql_target_url": "sqlite:///there.db"}, "ok", "the SQLite file there.db is reachable"),
        ({"sql_target_url": "sqlite:///missing.db"}, "broken", "there is no SQLite file missing.db"),
        (
            {"sql_target_url": "mssql+pyodbc://me:hunter2@127.0.0.1/x"},
            "broken",
            "the driver pyodbc for SQL Server is not",
        ),
    ],
)
def test_doctor_reports_whether_the_sql_target_can_be_used(
    tmp_path: Path,
    database_url: str,
    monkeypatch: pytest.MonkeyPatch,
    settings: dict[str, str],
    state: str,
    told: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there.db").touch()
    monkeypatch.setitem(sys.modules, "pyodbc", None)
    finding = found(doctor._sql_target, tmp_path, database_url=database_url, **settings)
    assert finding.state == state
    assert told in finding.found
    assert "hunter2" not in str(finding)


@pytest.mark.requirement("PLT-9")
def test_doctor_reports_whether_the_executor_can_be_used(
    tmp_path: Path, database_url: str, redis_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("dagster_celery", reason="needs the extra celery: make test EXTRAS=celery")
    monkeypatch.setenv("PLATFORM_HOME", str(tmp_path))
    monkeypatch.setenv("PLATFORM_DATABASE_URL", database_url)
    monkeypatch.setenv("PLATFORM_EXECUTOR", "celery")
    for broker, expected in ((redis_server, ["warning", "ok"]), (f"redis://127.0.0.1:{reserve_port()}", ["broken"])):
        monkeypatch.setenv("PLATFORM_CELERY_BROKER_URL", broker)
        with closing(Services(load_settings())) as services:
            findings = [*doctor._safely("executor", doctor._executor, services)]
        assert [finding.state for finding in findings] == expected, findings
        if broker == redis_server:
            assert findings[0].fix == "start a worker with `platform-assets worker steps`"
            assert findings[1].found == "steps: celery; runs: local (DefaultRunLauncher)"
        else:
            assert "PLATFORM_CELERY_BROKER_URL: Redis does not respond" in findings[0].found
