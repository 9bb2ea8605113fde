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
from platform_assets.database.embedded.server import APP, OWNER, Server, ServerFolder
from platform_assets.database.embedded.shared_use import use_server
from platform_assets.database.opening import open_database, open_owner
from platform_assets.database.revisions import find_branches
from platform_assets_tests.command_line import AS_NO_USER, NO_USER, needs_root
from platform_assets_tests.ports import reserve_port
from platform_assets_tests.postgres import is_watched, processes_of, wait_until, wait_until_stopped

if TYPE_CHECKING:
    from collections.abc import Iterator

linux = pytest.mark.skipif(
    not Path("/proc/self").exists(), reason="needs /proc, to list the processes that are still running"
)

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


@pytest.fixture
def folder(tmp_path: Path) -> ServerFolder:
    path = tmp_path / "postgres"
    path.mkdir()
    (path / "server.log").touch()
    return ServerFolder(path)


@linux
@pytest.mark.slow
@pytest.mark.requirement("PLT-3")
def test_six_processes_that_start_concurrently_share_one_server_until_the_last_has_ended(tmp_path: Path) -> None:
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
def test_no_server_remains_if_the_process_is_killed_while_the_server_starts(embedded_home: Path) -> None:
    with user(embedded_home, "early") as process:
        wait_until(lambda: processes_of(embedded_home), "the watcher ran")
        process.kill()
    wait_until_stopped(embedded_home)
    assert tables(embedded_home) == []


@linux
def test_a_new_server_starts_after_the_previous_one_has_shut_down(embedded_home: Path) -> None:
    with contextlib.closing(open_database("", embedded_home)):
        first = watcher_and_server(embedded_home)
    address = ServerFolder(embedded_home / "postgres").address
    wait_until(lambda: not address.exists(), "the server shut down")
    with contextlib.closing(open_database("", embedded_home)):
        second = watcher_and_server(embedded_home)
    assert set(first).isdisjoint(second)


@linux
def test_a_new_watcher_adopts_the_server_of_a_killed_watcher(embedded_home: Path) -> None:
    with contextlib.closing(open_database("", embedded_home)) as database, database.connect("platform") as connection:
        watcher, server = watcher_and_server(embedded_home)
        os.kill(watcher, signal.SIGKILL)
        wait_until(lambda: not is_watched(embedded_home), "the watcher had died")
        with contextlib.closing(open_database("", embedded_home)):
            new_watcher, same_server = watcher_and_server(embedded_home)
            assert new_watcher != watcher
            assert same_server == server
        assert connection.execute("select 1").fetchone() == (1,)
    wait_until_stopped(embedded_home)


@linux
def test_a_killed_server_restarts_with_its_data(embedded_home: Path) -> None:
    with user(embedded_home, "kept") as process:
        first_line(process)
        for pid in watcher_and_server(embedded_home):
            os.kill(pid, signal.SIGKILL)
        process.kill()
    wait_until_stopped(embedded_home)
    assert (embedded_home / "postgres" / "data" / "postmaster.pid").exists()
    assert tables(embedded_home) == ["kept"]


@linux
def test_a_pid_file_with_the_id_of_another_process_is_removed(embedded_home: Path) -> None:
    pid_file = embedded_home / "postgres" / "data" / "postmaster.pid"
    pid_file.write_text(f"{os.getpid()}\n{pid_file.parent}\n0\n5432\n\n127.0.0.1\n0 0\nready\n")
    assert tables(embedded_home) == []


@linux
@pytest.mark.requirement("PLT-12")
@pytest.mark.parametrize("content", [b"", b"no number\n\xff\n", b"99999999999999999999\n"])
def test_a_pid_file_without_a_valid_process_id_is_removed(folder: ServerFolder, content: bytes) -> None:
    folder.data.mkdir()
    pid_file = folder.data / "postmaster.pid"
    pid_file.write_bytes(content)
    server = Server(folder)
    assert not server._take_over()
    assert not pid_file.exists()


@linux
@pytest.mark.requirement("PLT-12")
def test_a_server_starts_despite_an_empty_pid_file(embedded_home: Path) -> None:
    (embedded_home / "postgres" / "data" / "postmaster.pid").write_bytes(b"")
    assert tables(embedded_home) == []


@linux
@pytest.mark.requirement("PLT-14")
def test_the_error_for_a_database_migrated_by_newer_code_is_one_line_and_names_the_fix(embedded_home: Path) -> None:
    with contextlib.closing(open_owner("", embedded_home)) as owner, owner.connect("platform") as connection:
        connection.execute("update platform.alembic_version set version_num = '0999' where version_num !~ '_'")
    wait_until_stopped(embedded_home)
    with pytest.raises(DatabaseError) as error:
        open_database("", embedded_home)
    newest = find_branches()[0].head
    assert str(error.value) == (
        f"the database platform is at revision 0999, but this code knows only {newest} and older; install the version "
        "of the platform that migrated the database"
    )


@linux
@pytest.mark.requirement("PLT-3")
@needs_root
def test_the_error_for_a_user_without_an_entry_in_passwd_has_no_traceback(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    os.chown(home, NO_USER, NO_USER)
    code = "import sys; from platform_assets import cli; sys.argv = ['', 'doctor']; cli.main()"
    done = subprocess.run(
        [*AS_NO_USER, sys.executable, "-c", code],
        env=os.environ | {"PLATFORM_HOME": str(home), "HOME": str(home)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert f"the embedded PostgreSQL cannot run as user id {NO_USER}, which has no entry in /etc/passwd" in done.stdout
    assert "PLATFORM_DATABASE_URL" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


@linux
def test_the_watcher_ends_when_its_server_dies(embedded_home: Path) -> None:
    with contextlib.closing(open_database("", embedded_home)):
        os.kill(watcher_and_server(embedded_home)[1], signal.SIGKILL)
        wait_until_stopped(embedded_home)
        assert tables(embedded_home) == []


@linux
def test_the_server_of_a_killed_process_ends_even_if_a_forked_child_survives(embedded_home: Path) -> None:
    with user(embedded_home, script=FORKING_USER) as process:
        child = int(first_line(process))
        process.kill()
        # `wait_until_stopped` ignores the child, because its command line does not contain the server's folder.
        wait_until_stopped(embedded_home)
        os.kill(child, signal.SIGKILL)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("PG_VERSION", "9\n", "need PostgreSQL 9, which is not installed (found: "),
        ("postgresql.conf", "nonsense = 1\n", 'unrecognized configuration parameter "nonsense"'),
    ],
)
def test_a_failed_start_reports_the_reason_without_waiting_for_the_timeout(
    tmp_path: Path, file: str, content: str, message: str
) -> None:
    # The data folder needs no other file, because PostgreSQL reads this file first and fails.
    data = tmp_path / "postgres" / "data"
    data.mkdir(parents=True)
    (data / file).write_text(content)
    with pytest.raises(DatabaseError) as error:
        open_database("", tmp_path)
    assert message in str(error.value)
    assert "was not ready after" not in str(error.value)
    assert "Traceback" not in str(error.value)


def test_an_incomplete_data_folder_is_replaced(folder: ServerFolder) -> None:
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


def test_another_port_is_tried_if_the_first_is_taken(folder: ServerFolder) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken, free = other.getsockname()[1], reserve_port()
        # Redirect the server's messages to the log file, as a watcher does, because `Server` reads the log to find the
        # reason for a failed start.
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
# Only root can start the server as another user.
@pytest.mark.skipif(os.geteuid() != 0, reason="root must start the server: run the tests as root")
def test_root_starts_the_server_as_an_unprivileged_user_even_in_a_private_folder(tmp_path: Path) -> None:
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
def test_only_the_owner_can_read_a_password(running_home: Path, role: str, file: str) -> None:
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
