"""Defaults, accepted values and error messages of the environment variables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from platform_assets import domains
from platform_assets.landing.declared_sources import DeclaredSource, Sources
from platform_assets.landing.source_files import Source
from platform_assets.settings import (
    DomainSettings,
    Settings,
    SettingsError,
    SettingsGroup,
    load_settings,
    unknown_variables,
    variable,
)

PRODUCTION = {
    "PLATFORM_ENV": "production",
    "PLATFORM_SOURCES": "live",
    "PLATFORM_DATABASE_URL": "postgresql://me:pw123@db/x",
}


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def set_variables(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


def test_all_variables_have_defaults() -> None:
    domains.check_settings()
    settings = load_settings()
    assert (settings.env, settings.sources, settings.automation) == ("development", "demo", "off")
    assert (settings.home, settings.lake) == (Path(".platform").absolute(), str(Path(".platform/lake").absolute()))
    assert [one.variable for one in domains.declared_sources() if Sources(settings).given(one)] == []


@pytest.mark.parametrize("source", [pytest.param(one, id=one.variable) for one in domains.declared_sources()])
def test_a_source_is_set_by_its_variable(monkeypatch: pytest.MonkeyPatch, source: DeclaredSource) -> None:
    monkeypatch.setenv(source.variable, "file.csv")
    assert Sources(load_settings()).given(source) == Source(source.variable, "file.csv")


def test_the_name_of_a_secret_setting_must_show_that_it_is_secret() -> None:
    with pytest.raises(TypeError, match="PLATFORM_STOCKS_PIN in .* is a secret, but its name does not show it"):
        type("StocksSettings", (DomainSettings,), {"__annotations__": {"stocks_pin": SecretStr}, "stocks_pin": "x"})


@pytest.mark.parametrize(
    ("name", "value", "field", "expected"),
    [
        ("PLATFORM_ENV", "development", "env", "development"),
        ("PLATFORM_HOME", "/srv/platform", "home", Path("/srv/platform")),
        ("PLATFORM_HOME", "elsewhere", "home", Path("elsewhere").absolute),
        ("PLATFORM_HOME", "~/platform", "home", Path("~/platform").expanduser),
        ("PLATFORM_SOURCES", "live", "sources", "live"),
        ("PLATFORM_LAKE_URI", "s3://bucket/lake", "lake_uri", "s3://bucket/lake"),
        ("PLATFORM_AUTOMATION", "on", "automation", "on"),
        ("PLATFORM_AUTOMATION", "", "automation", "off"),
        ("PLATFORM_MAX_BAD_ROWS", "0", "max_bad_rows", 0.0),
        ("PLATFORM_MAX_BAD_ROWS", "1", "max_bad_rows", 1.0),
        ("PLATFORM_RETENTION_DAYS", "1", "retention_days", 1),
        ("PLATFORM_ENGINE_MEMORY", "512MiB", "engine_memory", "512MiB"),
        ("PLATFORM_ENGINE_MEMORY", "1.5 GB", "engine_memory", "1.5 GB"),
        ("PLATFORM_ENGINE_THREADS", "3", "engine_threads", 3),
        ("PLATFORM_DEMO_ROWS", "100", "demo_rows", 100),
        ("PLATFORM_RATE_LIMIT", "5/second", "rate_limit", "5/second"),
        ("PLATFORM_RATE_LIMIT", "off", "rate_limit", "off"),
        (
            "PLATFORM_LIMITS_URL",
            "rediss://me:p%2Fw@[::1]:6379/2",
            "limits_url",
            SecretStr("rediss://me:p%2Fw@[::1]:6379/2"),
        ),
        ("PLATFORM_LIMITS_URL", "redis://redis", "limits_url", SecretStr("redis://redis")),
        ("PLATFORM_SERVE_WORKERS", "4", "serve_workers", 4),
        ("PLATFORM_ARCHIVE_MAX_BYTES", "1", "archive_max_bytes", 1),
        ("PLATFORM_UNPACKED_MAX_BYTES", "1", "unpacked_max_bytes", 1),
        ("PLATFORM_DAGSTER_URL", "https://runs.example/dagster/", "dagster_url", "https://runs.example/dagster"),
        ("platform_sources", "live", "sources", "live"),
    ],
)
def test_a_variable_sets_its_field(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, field: str, expected: Any
) -> None:
    monkeypatch.setenv(name, value)
    # Call the expected value if it is a function, because the working folder is known only when the test runs.
    assert getattr(load_settings(), field) == (expected() if callable(expected) else expected)


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("PLATFORM_ENV", "staging", "'development' or 'production'"),
        ("PLATFORM_SOURCES", "Live", "'demo' or 'live'"),
        ("PLATFORM_AUTOMATION", "true", "'off' or 'on'"),
        ("PLATFORM_MAX_BAD_ROWS", "5", "less than or equal to 1"),
        ("PLATFORM_MAX_BAD_ROWS", "-0.1", "greater than or equal to 0"),
        ("PLATFORM_MAX_BAD_ROWS", "5%", "a valid number"),
        ("PLATFORM_RETENTION_DAYS", "0", "greater than or equal to 1"),
        ("PLATFORM_RETENTION_DAYS", "a week", "a valid integer"),
        ("PLATFORM_ENGINE_MEMORY", "2", "for example 2GB"),
        ("PLATFORM_ENGINE_MEMORY", "2GBx", "for example 2GB"),
        ("PLATFORM_ENGINE_THREADS", "0", "greater than or equal to 1"),
        ("PLATFORM_APPROVALS_REQUIRE_IDENTITY", "yes", "'off' or 'on'"),
        ("PLATFORM_DEMO_ROWS", "99", "greater than or equal to 100"),
        ("PLATFORM_RATE_LIMIT", "0/minute", "for example 600/minute, or off"),
        ("PLATFORM_RATE_LIMIT", "many", "for example 600/minute, or off"),
        ("PLATFORM_LIMITS_URL", "localhost:6379", "must be redis://host:port/database"),
        ("PLATFORM_LIMITS_URL", "redis://h:port", "must be redis://host:port/database"),
        ("PLATFORM_LIMITS_URL", "redis://h:99999", "must be redis://host:port/database"),
        ("PLATFORM_SERVE_WORKERS", "0", "greater than or equal to 1"),
        ("PLATFORM_HOME", "/data/a\\b", "must be a folder without \\\\ in its path"),
        ("PLATFORM_HOME", "/data/a\tb", "must be a folder without \\t in its path"),
        ("PLATFORM_ARCHIVE_MAX_BYTES", "0", "greater than or equal to 1"),
        ("PLATFORM_MLFLOW_URL", "mlflow.example:5000", "must be a URL without user name or query, for example https"),
        ("PLATFORM_SERVICE_URL", "https://me:pw@a.example", "must be a URL without user name or query, for example"),
        ("PLATFORM_DAGSTER_URL", "javascript:alert(1)", "must be a URL without user name or query, for example https"),
        ("PLATFORM_OIDC_ISSUER", "http://login.example.org", "must be the issuer's https address"),
        ("PLATFORM_OIDC_ISSUER", "http://localhost.evil.example", "must be the issuer's https address"),
        ("PLATFORM_OIDC_ISSUER", "https://login.example.org?a=b", "must be the issuer's https address"),
        ("PLATFORM_PROXY_USER_HEADER", "X-User: anna", "for example X-Forwarded-Email"),
        ("PLATFORM_PROXY_TRUSTED", "10.0.0.0/8, proxy", "for example 10.0.3.0/24"),
        ("PLATFORM_PROXY_TRUSTED", "10.0.0.1/8", "has host bits set"),
        ("PLATFORM_PREDICTIONS_DAYS", "365001", "less than or equal to 365000"),
        ("PLATFORM_ALERT_REOPEN_MINUTES", "inf", "less than or equal to"),
        ("PLATFORM_ALERT_ESCALATE_HOURS", "1e300", "less than or equal to"),
        ("PLATFORM_FALSE_ALARM_DAYS", "inf", "finite number"),
        ("PLATFORM_ALERT_WEBHOOK_URL", "hooks.example.org/x", "must be an http(s) URL"),
        ("PLATFORM_ALERT_WEBHOOK_URL", "https://hooks.example.org:port/x", "must be an http(s) URL"),
        ("PLATFORM_HEARTBEAT_URL", "ftp://ping.example.org/x", "must be an http(s) URL"),
        ("PLATFORM_OPENLINEAGE_URL", "localhost:5000", "must be the address of a server"),
        ("PLATFORM_ALERT_SMTP_URL", "smtp://localhost:99999", "must be smtp://host:port"),
        ("PLATFORM_GROUP_SCOPES", "staff", "must be GROUP=scope+scope"),
        ("PLATFORM_GROUP_SCOPES", "staff=read approve", "must be GROUP=scope+scope"),
    ],
)
def test_the_error_for_an_invalid_value_shows_the_allowed_values(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, allowed: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as caught:
        load_settings()
    (line,) = str(caught.value).splitlines()
    assert line.startswith(f"{name}: ")
    assert allowed in line


def test_one_error_lists_all_invalid_values(monkeypatch: pytest.MonkeyPatch) -> None:
    set_variables(monkeypatch, {"PLATFORM_SOURCES": "x", "PLATFORM_DEMO_ROWS": "x"})
    with pytest.raises(SettingsError) as caught:
        load_settings()
    assert [line.split(":")[0] for line in str(caught.value).splitlines()] == [
        "PLATFORM_SOURCES",
        "PLATFORM_DEMO_ROWS",
    ]


@pytest.mark.requirement("PLT-4")
@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"PLATFORM_DATABASE_URL": ""}, "production needs PLATFORM_DATABASE_URL"),
        ({"PLATFORM_SOURCES": "demo"}, "production needs PLATFORM_SOURCES=live"),
        ({"PLATFORM_SOURCES": ""}, "production needs PLATFORM_SOURCES=live"),
        ({"PLATFORM_LAKE_URI": "memory://"}, "production needs a persistent PLATFORM_LAKE_URI"),
    ],
)
def test_production_refuses_development_settings(
    monkeypatch: pytest.MonkeyPatch, change: dict[str, str], said: str
) -> None:
    set_variables(monkeypatch, PRODUCTION | change)
    with pytest.raises(SettingsError, match=f"^{said}"):
        load_settings()


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"PLATFORM_MIGRATION_DATABASE_URL": "postgresql://o@db/x"}, "needs PLATFORM_DATABASE_URL"),
        (
            {"PLATFORM_API_KEYS": "a:read:0", "PLATFORM_DATABASE_URL": "postgresql://me@db/x"},
            "PLATFORM_API_KEYS is for a service without a database",
        ),
        (
            {"PLATFORM_BUNDLE": "/service/bundle", "PLATFORM_DATABASE_URL": "postgresql://me@db/x"},
            "PLATFORM_BUNDLE serves one model without a database",
        ),
        (
            {"PLATFORM_EXECUTOR": "celery"},
            "PLATFORM_EXECUTOR=celery needs PLATFORM_CELERY_BROKER_URL and PLATFORM_DATABASE_URL",
        ),
        (
            {"PLATFORM_RUN_LAUNCHER": "k8s", "PLATFORM_DATABASE_URL": "postgresql://me@db/x"},
            "PLATFORM_RUN_LAUNCHER=k8s needs PLATFORM_KUBERNETES_CONFIG",
        ),
        (
            {
                "PLATFORM_EXECUTOR": "k8s",
                "PLATFORM_KUBERNETES_CONFIG": "file.yaml",
                "PLATFORM_DATABASE_URL": "postgresql://me@db/x",
            },
            "PLATFORM_EXECUTOR=k8s needs PLATFORM_RUN_LAUNCHER=k8s",
        ),
        ({"PLATFORM_EXECUTOR": "multiprocess", "PLATFORM_LAKE_URI": "memory://"}, "not memory://"),
        ({"PLATFORM_CELERY_BROKER_URL": "amqp://me:pw123@host"}, "must be redis://host:port/database"),
        ({"PLATFORM_OIDC_ISSUER": "https://a.example"}, "OIDC_CLIENT_ID and PLATFORM_SIGN_IN_KEY must be set as well"),
        ({"PLATFORM_OIDC_CLIENT_ID": "platform"}, "PLATFORM_OIDC_ISSUER must be set as well"),
        ({"PLATFORM_PROXY_USER_HEADER": "X-User"}, "PROXY_TRUSTED and PLATFORM_SIGN_IN_KEY must be set as well"),
        ({"PLATFORM_PROXY_GROUPS_HEADER": "X-Groups"}, "PLATFORM_PROXY_USER_HEADER must be set as well"),
        (
            PRODUCTION
            | {f"PLATFORM_OIDC_{name}": "https://a.example" for name in ("ISSUER", "CLIENT_ID")}
            | {"PLATFORM_SIGN_IN_KEY": "pa_x"},
            "PLATFORM_SERVICE_URL must be set as well",
        ),
        (
            {"PLATFORM_API_KEYS": "a:read:0", "PLATFORM_PROXY_USER_HEADER": "X-User", "PLATFORM_PROXY_TRUSTED": "::1"}
            | {"PLATFORM_SIGN_IN_KEY": "pa_x"},
            "sign-in without keys needs a service with a database",
        ),
    ],
)
def test_contradictory_settings_are_refused(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], said: str
) -> None:
    set_variables(monkeypatch, variables)
    with pytest.raises(SettingsError, match=said):
        load_settings()


@pytest.mark.requirement("PRO-5")
@pytest.mark.parametrize(
    ("variables", "required"),
    [
        ({}, False),
        ({"PLATFORM_APPROVALS_REQUIRE_IDENTITY": "on"}, True),
        (PRODUCTION, True),
        (PRODUCTION | {"PLATFORM_APPROVALS_REQUIRE_IDENTITY": "off"}, False),
    ],
)
def test_production_requires_identity_by_default(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], required: bool
) -> None:
    set_variables(monkeypatch, variables)
    assert load_settings().identity_required is required


@pytest.mark.requirement("PLT-4")
def test_production_settings_are_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    set_variables(monkeypatch, PRODUCTION)
    assert load_settings().env == "production"


@pytest.mark.requirement("PLT-4", "OPS-3")
def test_production_with_an_exported_model_needs_no_database(monkeypatch: pytest.MonkeyPatch) -> None:
    set_variables(monkeypatch, PRODUCTION | {"PLATFORM_DATABASE_URL": "", "PLATFORM_BUNDLE": "/service/bundle"})
    assert load_settings().bundle == Path("/service/bundle")


@pytest.mark.parametrize(("lake_uri", "expected"), [("", "/srv/p/lake"), ("memory://", "memory://")])
def test_the_lake_is_below_the_home_unless_it_is_set(
    monkeypatch: pytest.MonkeyPatch, lake_uri: str, expected: str
) -> None:
    set_variables(monkeypatch, {"PLATFORM_HOME": "/srv/p", "PLATFORM_LAKE_URI": lake_uri})
    assert load_settings().lake == expected


@pytest.mark.parametrize("blanks", [" ", "\n", "\r\n", "\t"])
def test_whitespace_around_a_value_is_ignored(monkeypatch: pytest.MonkeyPatch, blanks: str) -> None:
    monkeypatch.setenv("PLATFORM_ENV", f"{blanks}development{blanks}")
    monkeypatch.setenv("PLATFORM_LAKE_URI", f"s3://bucket/lake{blanks}")
    monkeypatch.setenv("PLATFORM_DATABASE_URL", f"{blanks}postgresql://me:secret-word@host/name{blanks}")
    monkeypatch.setenv("PLATFORM_SPARK_REMOTE", blanks)
    settings = load_settings()
    assert settings.lake == "s3://bucket/lake"
    assert settings.database_url.get_secret_value() == "postgresql://me:secret-word@host/name"
    assert settings.spark_remote == Settings.model_fields["spark_remote"].default
    monkeypatch.setenv("PLATFORM_OTHER_TOKEN", f"undeclared{blanks}")
    assert "undeclared" in settings.secrets()


def test_empty_settings_are_not_listed_as_secrets() -> None:
    assert load_settings().secrets() == []


@pytest.mark.requirement("PLT-8")
def test_secrets_are_hidden_in_representations_and_dumps(monkeypatch: pytest.MonkeyPatch) -> None:
    set_variables(monkeypatch, PRODUCTION | {"PLATFORM_ALERT_WEBHOOK_URL": "https://hooks.example.org/T0/pw123"})
    settings = load_settings()
    assert "pw123" not in f"{settings!r} {settings} {settings.model_dump_json()} {settings.model_dump()}"
    assert settings.secrets() == [PRODUCTION["PLATFORM_DATABASE_URL"], "https://hooks.example.org/T0/pw123"]


@pytest.mark.requirement("PLT-8")
@pytest.mark.parametrize("name", ["PLATFORM_MLFLOW_TRACKING_URI", "PLATFORM_LAKE_URI", "PLATFORM_CREDIT_LOANS_URI"])
@pytest.mark.parametrize(
    ("uri", "secrets"),
    [
        ("http://mlflow:5000", []),
        ("abfss://a-long-container@account.dfs.core.windows.net/lake", []),
        ("ftp://anonymous@host/x", []),
        ("postgresql://me:p%40w@db/x", ["me:p%40w", "me:p@w", "p%40w", "p@w"]),
        ("s3://key:se/cret@bucket/lake", ["key:se/cret", "se/cret"]),
        ("https://ghp_0123456789@host/x", ["ghp_0123456789"]),
        ("https://host/x?sv=2022-11-02&sig=abcdefghijk%3D", ["abcdefghijk%3D", "abcdefghijk="]),
    ],
)
def test_the_listed_secrets_include_the_credentials_in_a_uri(
    monkeypatch: pytest.MonkeyPatch, name: str, uri: str, secrets: list[str]
) -> None:
    monkeypatch.setenv(name, uri)
    assert load_settings().secrets() == secrets


@pytest.mark.requirement("PLT-8")
@pytest.mark.parametrize(
    ("variables", "secrets"),
    [
        ({"PLATFORM_STOCKS_TOKEN": "abc123secret"}, ["abc123secret"]),
        ({"PLATFORM_STOCKS_API_KEY": "abc123secret"}, ["abc123secret"]),
        ({"PLATFORM_STOCKS_WEBHOOK_URL": "https://hooks.example.org/T0"}, ["https://hooks.example.org/T0"]),
        ({"PLATFORM_STOCKS_URL": "mssql://sa:pw123@host/x"}, ["sa:pw123", "pw123"]),
        ({"PLATFORM_STOCKS_TOKEN": "off", "PLATFORM_MONKEY_BUSINESS": "abc123secret"}, []),
    ],
)
def test_the_listed_secrets_include_the_values_of_undeclared_secret_variables(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], secrets: list[str]
) -> None:
    set_variables(monkeypatch, variables)
    assert load_settings().secrets() == secrets


def test_the_password_of_the_tracking_server_is_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLATFORM_MLFLOW_TRACKING_URI", "postgresql://me:pw123@db/x")
    assert "pw123" not in f"{load_settings()!r}"


@pytest.mark.requirement("PLT-8")
@pytest.mark.parametrize("mistake", [{"PLATFORM_SOURCES": "pw123"}, {"PLATFORM_SOURCES": "demo"}])
def test_error_messages_do_not_contain_values(monkeypatch: pytest.MonkeyPatch, mistake: dict[str, str]) -> None:
    # No value may be shown, because a secret can be in the wrong variable by mistake.
    set_variables(monkeypatch, PRODUCTION | mistake)
    with pytest.raises(SettingsError) as caught:
        load_settings()
    assert "pw123" not in str(caught.value)
    # The error has no cause, because the traceback of a cause would show the values.
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("PLATFORM_SOURCE", "PLATFORM_SOURCES"),
        ("PLATFORM_CREDIT_LOAN_URI", "PLATFORM_CREDIT_LOANS_URI"),
        ("PLATFORM_XYZ_QQQQQQQQQQQQ", None),
    ],
)
def test_unknown_variables_are_returned_with_the_most_similar_known_name(
    monkeypatch: pytest.MonkeyPatch, name: str, nearest: str | None
) -> None:
    set_variables(monkeypatch, {"PLATFORM_SOURCES": "demo", "OTHER_SOURCE": "x", name: "x"})
    assert unknown_variables([Settings, *domains.settings_classes()]) == {name: nearest}


def test_every_field_has_a_description() -> None:
    kinds: list[type[SettingsGroup]] = [Settings, *domains.settings_classes()]
    undescribed = [
        variable(name) for kind in kinds for name, field in kind.model_fields.items() if not field.description
    ]
    assert undescribed == []


def test_settings_are_immutable() -> None:
    with pytest.raises(ValueError, match="frozen"):
        load_settings().sources = "live"
