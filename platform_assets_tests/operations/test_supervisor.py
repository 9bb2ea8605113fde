from __future__ import annotations

import fcntl
import os
import signal
import socket
import subprocess
import sys
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from platform_assets.base.errors import PlatformError
from platform_assets.operations.supervisor import Server, Supervisor
from platform_assets_tests.ports import reserve_port
from platform_assets_tests.postgres import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

SCRIPT = """
import sys
from pathlib import Path

from platform_assets.base.errors import PlatformError
from platform_assets.operations.supervisor import Server, Supervisor

folder, *ports = sys.argv[1:]
serve = [sys.executable, "-m", "http.server", "--bind", "127.0.0.1", "-d", folder]
web = [Server(f"web {port}", [*serve, port], port=int(port)) for port in ports]
# This server leaves its child process running when the server itself is stopped.
parent = Server("parent", ["sh", "-c", "sh -c 'sleep 300; true' " + folder + " & wait"])
try:
    with Supervisor([*web, parent], Path(folder, "logs"), lambda line: print(line, flush=True)) as supervisor:
        supervisor.run()
except PlatformError as error:
    sys.exit(f"refused: {error}")
"""


@pytest.fixture
def ports() -> list[int]:
    return [reserve_port(), reserve_port()]


def supervised(folder: Path, ports: list[int]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(folder), *map(str, ports)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def said_when_all_answer(process: subprocess.Popen[str]) -> list[str]:
    assert process.stdout
    said = []
    for line in process.stdout:
        said.append(line.rstrip())
        if line.startswith("all servers are ready"):
            break
    return said


def processes_naming(folder: Path) -> dict[int, str]:
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except (FileNotFoundError, ProcessLookupError):
            continue
        if str(folder) in command:
            found[int(process.name)] = command
    return found


def everyone_is_gone(folder: Path) -> None:
    wait_until(lambda: not processes_naming(folder), "every supervised process had ended")


@pytest.mark.requirement("PLT-2")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_every_server_and_its_children(number: signal.Signals, tmp_path: Path, ports: list[int]) -> None:
    process = supervised(tmp_path, ports)
    said = said_when_all_answer(process)
    process.send_signal(number)
    last, errors = process.communicate(timeout=30)
    assert (process.returncode, errors) == (0, "")
    assert sorted(said[:2]) == sorted(f"web {port}: http://127.0.0.1:{port}" for port in ports)
    assert number.name in last
    everyone_is_gone(tmp_path)


def test_all_servers_stop_and_the_log_of_the_dead_server_is_shown_if_one_server_dies(
    tmp_path: Path, ports: list[int]
) -> None:
    process = supervised(tmp_path, ports)
    said_when_all_answer(process)
    assert len(processes_naming(tmp_path)) == 5  # supervisor, two web servers, parent and its child
    web = {pid: command for pid, command in processes_naming(tmp_path).items() if "-m http.server" in command}
    (victim,) = (pid for pid, command in web.items() if command.split()[-1] == str(ports[1]))
    os.kill(victim, signal.SIGKILL)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 1
    assert f"refused: web {ports[1]} ended with exit code -9; last lines of its log:" in errors
    assert "GET / HTTP" in errors
    everyone_is_gone(tmp_path)


def test_after_a_kill_the_next_start_stops_the_servers_that_still_run(tmp_path: Path, ports: list[int]) -> None:
    killed = supervised(tmp_path, ports)
    said_when_all_answer(killed)
    killed.kill()
    killed.communicate(timeout=30)
    assert len(processes_naming(tmp_path)) == 4  # two web servers, parent and its child
    process = supervised(tmp_path, ports)
    said = said_when_all_answer(process)
    names = (*(f"web {port}" for port in ports), "parent")
    assert said[:3] == [f"stopping {name} of an earlier `platform-assets up` that was killed" for name in names]
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    assert process.returncode == 0
    everyone_is_gone(tmp_path)


@contextmanager
def leftover(folder: Path, name: str, host: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server that ignores SIGTERM, and record it as if an earlier supervisor on `host` had started it."""
    (folder / "logs").mkdir()
    with (folder / "logs" / f"{name}.pid").open("a+") as mark:
        fcntl.flock(mark, fcntl.LOCK_EX)
        command = ["sh", "-c", "trap '' TERM; echo ready; while :; do sleep 1; done"]
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, start_new_session=True, pass_fds=[mark.fileno()], bufsize=0
        )
        mark.write(f"{process.pid} {host}")
    assert process.stdout
    try:
        assert process.stdout.readline() == b"ready\n"
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()


@contextmanager
def server_on_a_used_port() -> Iterator[Server]:
    with closing(socket.create_server(("127.0.0.1", 0))) as used:
        yield Server("web", ["true"], port=used.getsockname()[1])


def test_a_leftover_that_ignores_sigterm_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform_assets.operations.supervisor.PATIENCE_SECONDS", 1.0)
    with leftover(tmp_path, "web", socket.gethostname()) as process, server_on_a_used_port() as server:
        with pytest.raises(PlatformError, match="web cannot listen on port"):
            Supervisor([server], tmp_path / "logs", print).run()
        assert process.wait(timeout=10) == -signal.SIGKILL


def test_a_server_that_runs_on_another_machine_is_reported_and_no_local_process_is_signalled(tmp_path: Path) -> None:
    with leftover(tmp_path, "web", "other-host") as process, server_on_a_used_port() as server:
        with pytest.raises(PlatformError, match=f"still runs; stop process {process.pid} on other-host first"):
            Supervisor([server], tmp_path / "logs", print).run()
        assert process.poll() is None


def test_the_id_of_an_earlier_process_is_removed_before_a_server_starts(tmp_path: Path) -> None:
    (tmp_path / "web.pid").write_text(f"{os.getpid()} {socket.gethostname()}")
    with pytest.raises(FileNotFoundError):
        Supervisor([Server("web", [str(tmp_path / "missing")])], tmp_path, print).run()
    assert (tmp_path / "web.pid").read_text() == ""


def test_the_error_names_the_port_and_no_server_starts_if_a_port_is_in_use(tmp_path: Path, ports: list[int]) -> None:
    with closing(socket.create_server(("127.0.0.1", ports[1]))):
        process = supervised(tmp_path, ports)
        said, errors = process.communicate(timeout=30)
    assert process.returncode == 1
    assert said == ""
    assert f"web {ports[1]} cannot listen on port {ports[1]} of 127.0.0.1 (Address already in use); stop the" in errors
    assert not list(tmp_path.glob("logs/*.log"))
