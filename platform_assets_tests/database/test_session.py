"""The platform's session settings override environment variables and the server's defaults."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import psycopg2
import pytest
from sqlalchemy import create_engine, make_url, text

from platform_assets.database.connections import Database
from platform_assets.database.opening import open_database
from platform_assets.database.session import with_session_settings

if TYPE_CHECKING:
    from pathlib import Path

SETTINGS = ("client_encoding", "DateStyle", "IntervalStyle", "TimeZone", "extra_float_digits", "search_path")
EXPECTED = ["UTF8", "ISO, MDY", "postgres", "UTC", "1", "public"]
SHELL = {
    "PGCLIENTENCODING": "LATIN1",
    "PGDATABASE": "other",
    "PGDATESTYLE": "German",
    "PGGSSENCMODE": "require",
    "PGHOST": "db.example.org",
    "PGHOSTADDR": "192.0.2.1",
    "PGOPTIONS": "-c default_transaction_read_only=on",
    "PGREQUIREAUTH": "none",
    "PGSERVICE": "nowhere",
    "PGSSLMODE": "verify-full",
    "PGTARGETSESSIONATTRS": "standby",
    "PGTZ": "Asia/Tokyo",
}
QUERY_EMBEDDED = """
import sys
from pathlib import Path
import psycopg2
from sqlalchemy import create_engine, text
from platform_assets.database.opening import open_database

database = open_database("", Path(sys.argv[1]))
with database.connect("platform") as connection:
    connection.execute("insert into platform.online_tables values ('Zoë', '', 0) on conflict do nothing")
    print(connection.execute("select to_char(timestamptz '2021-03-01 00:30+00', 'DD HH24'), current_user").fetchone())
with create_engine(database.psycopg2_url("dagster")).connect() as connection:
    print(connection.execute(text("show timezone")).scalar())
"""


def settings_of(database: Database) -> dict[str, list[str]]:
    """Return the session settings for each way in which the platform, Dagster and MLflow connect."""
    found = {}
    with database.connect("dagster") as connection:
        found["psycopg 3"] = [connection.execute(f"show {name}".encode()).fetchone()[0] for name in SETTINGS]  # type: ignore[index]
    for name, url in (("engine", database.url("dagster")), ("psycopg 2 engine", database.psycopg2_url("dagster"))):
        engine = create_engine(url)
        with engine.connect() as alchemy:
            found[name] = [str(alchemy.execute(text(f"show {setting}")).scalar()) for setting in SETTINGS]
        engine.dispose()
    with contextlib.closing(psycopg2.connect(database.psycopg2_url("dagster").replace("+psycopg2", ""))) as plain:
        cursor = plain.cursor()
        found["psycopg 2"] = []
        for setting in SETTINGS:
            cursor.execute(f"show {setting}")
            found["psycopg 2"].append(cursor.fetchone()[0])  # type: ignore[index]
    return found


@pytest.mark.requirement("PLT-12")
def test_session_settings_override_database_defaults_and_environment_variables(
    database_url: str, owner_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = Database(make_url(owner_url)).name("dagster")
    with Database(make_url(owner_url)).maintenance() as connection:
        for setting in (
            "client_encoding = 'LATIN1'",
            "DateStyle = 'German'",
            "IntervalStyle = 'iso_8601'",
            "TimeZone = 'Asia/Tokyo'",
            "extra_float_digits = -5",
            "search_path = pg_catalog",
        ):
            connection.execute(f'alter database "{name}" set {setting}'.encode())
    for variable in ("PGCLIENTENCODING", "PGDATESTYLE", "PGOPTIONS", "PGTZ"):
        monkeypatch.setenv(variable, SHELL[variable])
    with contextlib.closing(open_database(database_url, tmp_path)) as database:
        found = settings_of(database)
    assert found == dict.fromkeys(("psycopg 3", "engine", "psycopg 2 engine", "psycopg 2"), EXPECTED)


@pytest.mark.requirement("PLT-3", "PLT-12")
def test_libpq_variables_do_not_affect_the_embedded_database(embedded_home: Path) -> None:
    command = [sys.executable, "-c", QUERY_EMBEDDED, str(embedded_home)]
    done = subprocess.run(command, env=os.environ | SHELL, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("('01 00', 'platform_app')\nUTC\n", "")


def test_session_settings_are_added_once_to_the_options_of_a_url() -> None:
    url = make_url("postgresql://host/name?options=-c%20search_path%3Dmine%20-c%20TimeZone%3DAsia/Tokyo")
    once = with_session_settings(url)
    assert with_session_settings(once) == once
    options = str(once.query["options"])
    # Check the order, because PostgreSQL uses the last value of a setting.
    assert options.index("search_path=public") < options.index("search_path=mine")
    assert options.index("TimeZone=Asia/Tokyo") < options.index("TimeZone=UTC")
