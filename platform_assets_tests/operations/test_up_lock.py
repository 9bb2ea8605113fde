from __future__ import annotations

import os
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import make_url

from platform_assets.base.errors import PlatformError
from platform_assets.database.connections import Database
from platform_assets.operations.supervisor import Server
from platform_assets.operations.up_lock import DatabaseClaim, only_one_up

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SERVERS = [Server("Dagster UI", ["ui"], port=3000), Server("Dagster daemon", ["daemon"])]


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    with closing(Database(make_url(database_url))) as database:
        yield database


@pytest.mark.requirement("PLT-12")
def test_a_second_up_command_with_another_home_but_the_same_database_is_refused(
    tmp_path: Path, database: Database
) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    with DatabaseClaim(database, one) as first:
        first.keep()
        with pytest.raises(PlatformError) as error, DatabaseClaim(database, other):
            pytest.fail("two of them run")
    told = str(error.value)
    assert told.startswith(f"`platform-assets up` is already running on the database {database.name('platform')}, as ")
    assert f"as process {os.getpid()} on " in told
    assert told.endswith("/one; stop it first, or use another database for this home")
    with DatabaseClaim(database, other):
        pass


@pytest.mark.requirement("PLT-12", "SRV-3")
def test_the_database_lock_is_taken_again_after_a_restart_unless_another_process_holds_it(
    tmp_path: Path, database: Database
) -> None:
    def end_connections() -> None:
        with closing(database.connect("platform")) as connection:
            connection.execute(
                "select pg_terminate_backend(pid) from pg_locks where locktype = 'advisory' and database ="
                " (select oid from pg_database where datname = current_database()) and pid <> pg_backend_pid()"
            )

    with DatabaseClaim(database, tmp_path) as first:
        end_connections()
        first.keep()
        with pytest.raises(PlatformError), DatabaseClaim(database, tmp_path):
            pytest.fail("two of them run")
        end_connections()
        with DatabaseClaim(database, tmp_path / "other"), pytest.raises(PlatformError, match="already running on"):
            first.keep()


@pytest.mark.requirement("PLT-12")
def test_the_error_of_a_second_up_command_with_the_same_home_names_the_first_process(tmp_path: Path) -> None:
    with only_one_up(tmp_path, SERVERS):
        with pytest.raises(PlatformError) as error, only_one_up(tmp_path, SERVERS):
            pytest.fail("two of them run")
        assert str(error.value) == (
            f"`platform-assets up` is already running on {tmp_path}, as process {os.getpid()}: Dagster UI "
            "http://127.0.0.1:3000; use its servers, or stop it first"
        )
        with only_one_up(tmp_path / "other", SERVERS):
            pass
    with only_one_up(tmp_path, SERVERS):
        pass
