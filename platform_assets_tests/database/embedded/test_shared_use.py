from __future__ import annotations

import contextlib
import os
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from platform_assets.base.errors import DatabaseError
from platform_assets.database.connections import embedded_database
from platform_assets.database.embedded.server import APP, OWNER, Server, ServerFolder, free_port
from platform_assets.database.embedded.shared_use import use_server
from platform_assets.database.opening import open_database
from platform_assets_tests.postgres import is_watched, processes_of, wait_until, wait_until_stopped

if TYPE_CHECKING:
    from collections.abc import Iterator

linux = pytest.mark.skipif(not Path("/proc/self").exists(), reason="reads /proc to see which processes are left")

USER = """
import sys
from pathlib import Path
from platform_assets.database.opening import open_database

database = open_database("", Path(sys.argv[1]))
with database.connect("platform") as connection:
    connection.execute("insert into platform.online_tables values (%s, '', 0) on conflict do nothing", [sys.argv[2]])
    print(connection.execute("select pg_postmaster_start_time()").fetchone()[0], flush=True)
sys.stdin.read()
"""
FORKING_USER = """
import os, sys, time
from pathlib import Path
from platform_assets.database.opening import open_database

database = open_database("", Path(sys.argv[1]))
if os.fork() == 0:
    print(os.getpid(), flush=True)
    time.sleep(600)
sys.stdin.read()
"""


@contextlib.contextmanager
def user(home: Path, *arguments: str, script: str = USER) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", script, str(home), *arguments]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def first_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def watcher_and_server(home: Path) -> tuple[int, int]:
    import json

    state = json.loads(ServerFolder(home / "postgres").address.read_text())
    return state["watcher"], state["server"]


def tables(home: Path) -> list[str]:
    with contextlib.closing(open_database("", home)) as database, database.connect("platform") as connection:
        return [row[0] for row in connection.execute("select name from platform.online_tables order by name")]


@linux
@pytest.mark.slow
@pytest.mark.requirement("PLT-3")
def test_six_cold_starts_at_once_share_one_server_that_goes_with_the_last_and_comes_again(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with contextlib.ExitStack() as stack:
        users = [stack.enter_context(user(home, f"user {number}")) for number in range(6)]
        server_starts = [first_line(process) for process in users]
        for process in users:
            process.kill()
    assert len(set(server_starts)) == 1
    assert server_starts[0]

    wait_until_stopped(home)
    assert not (home / "postgres" / "data" / "postmaster.pid").exists()
    assert not (home / "postgres" / "server.json").exists()

    assert tables(home) == [f"user {number}" for number in range(6)]
    wait_until_stopped(home)


@linux
@pytest.mark.requirement("PLT-3")
def test_users_killed_during_the_start_leave_nothing_behind(embedded_home: Path) -> None:
    with user(embedded_home, "early") as process:
        wait_until(lambda: processes_of(embedded_home), "the watcher was there")
        process.kill()
    wait_until_stopped(embedded_home)
    assert tables(embedded_home) == []


@linux
def test_a_start_while_the_last_server_shuts_down_waits_for_it(embedded_home: Path) -> None:
    with contextlib.closing(open_database("", embedded_home)):
        first = watcher_and_server(embedded_home)
    address = ServerFolder(embedded_home / "postgres").address
    wait_until(lambda: not address.exists(), "the shutdown had begun")
    with contextlib.closing(open_database("", embedded_home)):
        second = watcher_and_server(embedded_home)
    assert set(first).isdisjoint(second)


@linux
def test_a_killed_watcher_is_replaced_and_its_server_goes_on(embedded_home: Path) -> None:
    with contextlib.closing(open_database("", embedded_home)) as database, database.connect("platform") as connection:
        watcher, server = watcher_and_server(embedded_home)
        os.kill(watcher, signal.SIGKILL)
        wait_until(lambda: not is_watched(embedded_home), "it died")
        with contextlib.closing(open_database("", embedded_home)):
            new_watcher, same_server = watcher_and_server(embedded_home)
            assert new_watcher != watcher
            assert same_server == server
        assert connection.execute("select 1").fetchone() == (1,)
    wait_until_stopped(embedded_home)


@linux
def test_a_killed_server_comes_back_with_its_data(embedded_home: Path) -> None:
    with user(embedded_home, "kept") as process:
        first_line(process)
        for pid in watcher_and_server(embedded_home):
            os.kill(pid, signal.SIGKILL)
        process.kill()
    wait_until_stopped(embedded_home)
    assert (embedded_home / "postgres" / "data" / "postmaster.pid").exists()
    assert tables(embedded_home) == ["kept"]


@linux
def test_a_pid_file_whose_number_now_belongs_to_another_program_is_removed(embedded_home: Path) -> None:
    pid_file = embedded_home / "postgres" / "data" / "postmaster.pid"
    pid_file.write_text(f"{os.getpid()}\n{pid_file.parent}\n0\n5432\n\n127.0.0.1\n0 0\nready\n")
    assert tables(embedded_home) == []


@linux
def test_a_server_that_dies_under_its_users_takes_the_watcher_with_it(embedded_home: Path) -> None:
    with contextlib.closing(open_database("", embedded_home)):
        os.kill(watcher_and_server(embedded_home)[1], signal.SIGKILL)
        wait_until_stopped(embedded_home)
        assert tables(embedded_home) == []


@linux
def test_a_forked_child_does_not_keep_the_server_of_a_killed_process(embedded_home: Path) -> None:
    with user(embedded_home, script=FORKING_USER) as process:
        child = int(first_line(process))
        process.kill()
        # The child's command line names the home as well, without the folder of the server.
        wait_until_stopped(embedded_home)
        os.kill(child, signal.SIGKILL)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("PG_VERSION", "9\n", "are of PostgreSQL 9; found are only the programs of"),
        ("postgresql.conf", "nonsense = 1\n", 'unrecognized configuration parameter "nonsense"'),
    ],
)
def test_a_start_that_fails_says_so_at_once_with_the_reason(
    tmp_path: Path, file: str, content: str, message: str
) -> None:
    # Both are read before anything else of the data.
    data = tmp_path / "postgres" / "data"
    data.mkdir(parents=True)
    (data / file).write_text(content)
    # Whoever waits in vain for a server is told instead that it "was not ready after .. s".
    with pytest.raises(DatabaseError, match="did not start") as error:
        open_database("", tmp_path)
    assert message in str(error.value)
    assert "Traceback" not in str(error.value)


@pytest.fixture
def folder(tmp_path: Path) -> ServerFolder:
    path = tmp_path / "postgres"
    path.mkdir()
    (path / "server.log").touch()
    return ServerFolder(path)


def test_a_half_made_data_folder_is_made_again(folder: ServerFolder) -> None:
    (folder.path / "data.killed").mkdir()
    (folder.path / "data.killed" / "PG_VERSION").write_text("18\n")
    server = Server(folder)
    try:
        server.start()
        assert server.alive()
        assert not list(folder.path.glob("data.*"))
    finally:
        server.stop()
    assert not server.alive()


def test_a_port_that_was_taken_meanwhile_is_given_up(folder: ServerFolder) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken, free = other.getsockname()[1], free_port()
        # The log is where the server's messages go; the watcher's output is redirected there.
        ports = iter([taken, free])
        with folder.log.open("ab") as log, redirected_stderr(log.fileno()):
            server = Server(folder, ports=lambda: next(ports))
            try:
                server.start()
                assert server.port == free
            finally:
                server.stop()


@contextlib.contextmanager
def redirected_stderr(descriptor: int) -> Iterator[None]:
    saved = os.dup(2)
    os.dup2(descriptor, 2)
    try:
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)


@linux
@pytest.mark.requirement("PLT-3")
@pytest.mark.skipif(os.geteuid() != 0, reason="only root may not run PostgreSQL: run the tests as root")
def test_started_by_root_below_a_private_folder_the_server_runs_as_nobody_special(tmp_path: Path) -> None:
    private = tmp_path / "private"
    private.mkdir(mode=0o700)
    folder = ServerFolder(private / "postgres")
    folder.path.mkdir(mode=0o700)
    folder.log.touch()
    server = Server(folder)
    try:
        server.start()
        assert Path(f"/proc/{server.pid}").stat().st_uid != 0
        assert folder.data.stat().st_uid == Path(f"/proc/{server.pid}").stat().st_uid
        with embedded_database(server.port, OWNER, folder.password(OWNER)).maintenance() as connection:
            assert connection.execute("select 1").fetchone() == (1,)
    finally:
        server.stop()
    assert stat.S_IMODE(private.stat().st_mode) == 0o700


@pytest.mark.requirement("PLT-8")
@pytest.mark.parametrize(("role", "file"), [(OWNER, "password"), (APP, "password_of_platform_app")])
def test_a_password_is_its_owners_alone(running_home: Path, role: str, file: str) -> None:
    use = use_server(running_home / "postgres")
    try:
        folder = ServerFolder(running_home / "postgres")
        password = use.folder.password(role)
        assert stat.S_IMODE((folder.path / file).stat().st_mode) == 0o600
        assert (folder.path / file).read_text() == password
        assert password not in folder.log.read_text()
        assert not any(password in command for command in processes_of(running_home))
        with embedded_database(use.port, role, password).connect("platform") as connection:
            assert connection.info.user == role
        wrong = embedded_database(use.port, role, "wrong")
        with pytest.raises(DatabaseError, match="password authentication failed"):
            wrong.connect("platform")
    finally:
        use.close()
