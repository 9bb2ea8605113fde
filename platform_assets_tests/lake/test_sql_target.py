"""SQL targets: the URL, the five settings that can replace it, and the choice of the driver."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import make_url

from platform_assets.lake.sql_connection import _address
from platform_assets.lake.sql_drivers import with_driver
from platform_assets.lake.sql_target import SqlTargetError, parse_target, target_from_parts, target_of
from platform_assets.settings import Settings, SettingsError, load_settings

pytestmark = pytest.mark.requirement("ESI-3")
PASSWORD = "p@ss:/wörd?#%41;{}'\"\\ =&+"


def settings(**values: Any) -> Settings:
    return Settings(**{f"sql_target_{name}": value for name, value in values.items()})


def test_five_settings_can_replace_the_url_of_a_sql_server() -> None:
    target = target_of(settings(server="sql.example.com", database="energy", user="me", password=PASSWORD))
    assert target is not None
    url = target.url
    assert (url.drivername, url.host, url.port, url.database) == ("mssql", "sql.example.com", None, "energy")
    assert (url.username, url.password) == ("me", PASSWORD)
    assert make_url(url.render_as_string(hide_password=False)) == url
    assert target.place == "the SQL Server database energy on sql.example.com"
    assert PASSWORD not in repr(target)


@pytest.mark.parametrize(
    ("server", "expected"),
    [
        ("host", ("host", 1433)),
        ("host:1444", ("host", 1444)),
        ("host,1444", ("host", 1444)),
        ("tcp:host,1444", ("host", 1444)),
        ("[::1]:1444", ("::1", 1444)),
        ("::1", ("::1", 1433)),
        (r"host\instance", None),
    ],
)
def test_a_server_can_be_given_with_a_port_or_an_instance(server: str, expected: tuple[str, int] | None) -> None:
    target = target_from_parts("mssql", server, "energy", "me", "pw")
    assert _address(target) == expected


@pytest.mark.parametrize("server", ["host:port", "a,b", ""])
def test_a_malformed_server_is_refused(server: str) -> None:
    with pytest.raises(SqlTargetError, match="PLATFORM_SQL_TARGET_SERVER: .* is not a server; write host, host:port"):
        target_from_parts("mssql", server, "energy", "me", "pw")


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("not a url", "PLATFORM_SQL_TARGET_URL is not a URL; write dialect://user:password@server/database"),
        ("oracle://me:hunter2@host/x", "names the dialect 'oracle'; the loader supports mssql, postgresql, mariadb"),
        ("mssql+pymssql://me:hunter2@h/x", "names the driver 'pymssql'; for SQL Server, the loader supports pyodbc"),
        ("sqlite://", "PLATFORM_SQL_TARGET_URL does not name a database"),
    ],
)
def test_a_bad_url_is_refused(url: str, told: str) -> None:
    with pytest.raises(SqlTargetError) as raised:
        parse_target(url)
    assert told in str(raised.value)
    assert "hunter2" not in str(raised.value)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (
            {"SERVER": "host"},
            "PLATFORM_SQL_TARGET_DATABASE must be set as well, because PLATFORM_SQL_TARGET_SERVER is set",
        ),
        ({"PASSWORD": "hunter2"}, "PLATFORM_SQL_TARGET_SERVER and PLATFORM_SQL_TARGET_DATABASE must be set as well"),
        ({"DIALECT": "sqlite"}, "PLATFORM_SQL_TARGET_DATABASE must be set as well"),
        ({"URL": "sqlite:///x", "USER": "me"}, "PLATFORM_SQL_TARGET_URL already names the target; unset it, or unset"),
    ],
)
def test_incomplete_or_conflicting_settings_are_refused(
    monkeypatch: pytest.MonkeyPatch, given: dict[str, str], told: str
) -> None:
    for name, value in given.items():
        monkeypatch.setenv(f"PLATFORM_SQL_TARGET_{name}", value)
    with pytest.raises(SettingsError) as raised:
        load_settings()
    assert told in str(raised.value)
    assert "hunter2" not in str(raised.value)


def test_without_settings_there_is_no_target() -> None:
    assert target_of(Settings()) is None


@pytest.mark.requirement("PLT-8")
def test_the_password_is_masked_as_a_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLATFORM_SQL_TARGET_URL", "mssql://me:hunter2%40x@host/energy")
    secrets = load_settings().secrets()
    monkeypatch.delenv("PLATFORM_SQL_TARGET_URL")
    for name, value in {"SERVER": "host", "DATABASE": "x", "USER": "me", "PASSWORD": "hunter2@x"}.items():
        monkeypatch.setenv(f"PLATFORM_SQL_TARGET_{name}", value)
    from platform_assets.base.logs import redact

    for known in (secrets, load_settings().secrets()):
        assert "hunter2" not in redact("login with hunter2@x failed, or with hunter2%40x", known)


@pytest.mark.parametrize(
    ("url", "drivername", "query"),
    [
        ("postgresql://me@h/x", "postgresql+psycopg", {}),
        ("postgres://me@h/x", "postgresql+psycopg", {}),
        ("mariadb://me@h/x", "mysql+pymysql", {}),
        ("mysql+pyodbc://me@h:3307/x?driver=y", "mysql+pyodbc", {"driver": "y", "port": "3307"}),
        ("sqlite:///x", "sqlite+pysqlite", {}),
        ("mssql+pyodbc://me@h/x?driver=FreeTDS", "mssql+pyodbc", {"driver": "FreeTDS"}),
        ("mssql+mssqlpython://me@h/x", "mssql+mssqlpython", {}),
    ],
)
def test_the_driver_is_chosen_from_the_url(url: str, drivername: str, query: dict[str, str]) -> None:
    for module in ("pymysql", "pyodbc", "mssql_python"):
        pytest.importorskip(module, reason=f"needs {module}: pip install {module}")
    chosen = with_driver(parse_target(url)).url
    assert (chosen.drivername, dict(chosen.query)) == (drivername, query)


def test_sql_server_uses_the_odbc_driver_in_the_python_package() -> None:
    pytest.importorskip("pyodbc", reason="needs pyodbc: pip install pyodbc")
    pytest.importorskip("mssql_python_odbc", reason="needs mssql-python: pip install mssql-python")
    driver = str(with_driver(parse_target("mssql://me:pw@h/x")).url.query["driver"])
    # Microsoft's driver, if installed on the system, is preferred to the driver in the Python package.
    assert "libmsodbcsql" in driver or driver.startswith("ODBC Driver")
