from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from platform_assets.base.errors import DatabaseError
from platform_assets.database.opening import open_database
from platform_assets_tests.ports import reserve_port

if TYPE_CHECKING:
    from platform_assets.database.connections import Database


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        (
            "delete from platform.alembic_version; insert into platform.alembic_version values ('0002')",
            "is at revision 0002, but this code needs",
        ),
        ("drop schema platform cascade", "has no revision, but this code needs"),
        ("drop database {mlflow}", "is on a server that lacks the database {mlflow}"),
    ],
)
def test_an_external_database_is_refused_until_it_is_migrated(external: Database, statement: str, message: str) -> None:
    names = {"mlflow": external.name("mlflow")}
    with external.connect("platform") as connection:
        connection.execute(statement.format(**names).encode())
    url = external.url("platform").render_as_string(hide_password=False)
    with pytest.raises(DatabaseError) as error:
        open_database(url, Path("unused"))
    assert message.format(**names) in str(error.value)
    assert str(error.value).endswith("run `platform-assets migrate`")


@pytest.mark.requirement("PLT-8")
@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("hunter2", "its value is not a URL"),
        ("postgresql://user:hunter2@host:port/name", "its value is not a URL"),
        ("mysql://user:hunter2@host/name", "its value starts with mysql://"),
        ("postgresql://user:hunter2@host", "its value does not name a database"),
    ],
)
def test_the_error_for_a_malformed_url_does_not_show_the_url(url: str, message: str) -> None:
    with pytest.raises(DatabaseError) as error:
        open_database(url, Path("unused"))
    assert message in str(error.value)
    assert "hunter2" not in str(error.value)


@pytest.mark.requirement("PLT-8")
def test_the_error_for_an_unreachable_server_shows_no_password() -> None:
    with pytest.raises(DatabaseError, match=r"cannot open the database name on 127\.0\.0\.1") as error:
        open_database(f"postgresql://user:hunter2@127.0.0.1:{reserve_port()}/name", Path("unused"))
    assert "hunter2" not in str(error.value)
    assert "PLATFORM_DATABASE_URL" in str(error.value)


def test_the_error_for_a_missing_database_names_the_command_migrate(external: Database) -> None:
    url = external.url("platform").set(database="never_made").render_as_string(hide_password=False)
    with pytest.raises(DatabaseError, match="^the database never_made on 127.0.0.1 does not exist; run `platform"):
        open_database(url, Path("unused"))
