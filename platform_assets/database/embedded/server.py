"""The embedded PostgreSQL server: its files, roles and options, and its start and stop, for `watcher.py`."""

from __future__ import annotations

import json
import logging
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from platform_assets.base.errors import DatabaseError
from platform_assets.database.embedded.binaries import find_binaries, unprivileged_user

if TYPE_CHECKING:
    from collections.abc import Callable

OWNER = "platform_owner"
"""Superuser role that owns the platform's tables. Only migrations connect as this role."""
APP = "platform_app"
"""Role that the platform connects as."""
START_SECONDS = 180
"""Longest wait for a lock, or until the server is ready."""
POLL_SECONDS = 0.02
GARBLED_SECONDS = 0.5
"""Seconds after which a pid file that still contains no process id is considered damaged and removed."""
LOG_BYTES = 5_000_000
"""Size above which the log is rotated at the next start."""
_PID_LINE, _PORT_LINE = 0, 3
"""Line numbers of the process id and the port in PostgreSQL's postmaster.pid, counted from 0."""
_log = logging.getLogger("platform_assets.postgres_watcher")


class ServerFailedError(DatabaseError):
    """A PostgreSQL program failed; its messages are in the log."""


@dataclass(frozen=True)
class ServerFolder:
    """Paths of one embedded server."""

    path: Path

    @property
    def data(self) -> Path:
        """PostgreSQL's data folder."""
        return self.path / "data"

    @property
    def address(self) -> Path:
        """File with the server's port; exists only while the server is ready."""
        return self.path / "server.json"

    @property
    def log(self) -> Path:
        """Log of the watcher and the server."""
        return self.path / "server.log"

    @property
    def failure(self) -> Path:
        """File with the error message of a watcher that failed."""
        return self.path / "failure.txt"

    @property
    def users_lock(self) -> Path:
        """Lock that processes share while they use the server. The watcher takes it exclusively to stop the server."""
        return self.path / "users.lock"

    @property
    def start_lock(self) -> Path:
        """Lock of the process that starts the watcher or waits for its start."""
        return self.path / "start.lock"

    @property
    def watcher_lock(self) -> Path:
        """Lock held by the watcher while it runs."""
        return self.path / "watcher.lock"

    def port(self) -> int | None:
        """Return the port of the server; None if it is not ready."""
        try:
            return int(json.loads(self.address.read_text())["port"])
        except FileNotFoundError:
            return None

    @property
    def former_port(self) -> int | None:
        """Port of the last server. The next server reuses it, so that processes with the old address can reconnect.

        None in a copy of the folder. The copy has the same passwords, so on the same port, clients could mistake one
        server for the other.
        """
        try:
            folder, port = json.loads(self._former_port_file.read_text())
        except (FileNotFoundError, ValueError):
            return None
        return int(port) if folder == str(self.path) else None

    def keep_port(self, port: int) -> None:
        """Record the server's port for the next start."""
        self._former_port_file.write_text(json.dumps([str(self.path), port]))

    @property
    def _former_port_file(self) -> Path:
        return self.path / "former_port.json"

    def password(self, role: str) -> str:
        """Return a role's password; the first call generates it and stores it with mode 0600."""
        path = self.path / ("password" if role == OWNER else f"password_of_{role}")
        if not path.exists():
            with tempfile.NamedTemporaryFile("w", dir=self.path, prefix="password.", delete=False) as file:
                file.write(secrets.token_urlsafe(24))
            Path(file.name).rename(path)
        return path.read_text()

    def log_since(self, offset: int) -> str:
        """Return the part of the log after a byte offset."""
        if not self.log.exists():
            return ""
        with self.log.open("rb") as file:
            file.seek(offset)
            return file.read().decode(errors="replace")

    def rotate_log(self) -> None:
        """Rename a log larger than `LOG_BYTES` to `server.log.1`, replacing the previous one."""
        if self.log.exists() and self.log.stat().st_size > LOG_BYTES:
            self.log.replace(self.log.with_suffix(".log.1"))


def free_port() -> int:
    """Return a TCP port that is free now; another process may still take it before the caller does."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _former_then_free(folder: ServerFolder) -> Callable[[], int]:
    """Return a function that returns the previous port on its first call, and a free port on each later call."""
    former = [port for port in [folder.former_port] if port]
    return lambda: former.pop() if former else free_port()


class Server:
    """A running PostgreSQL server that this process started, or that it adopted from a killed watcher."""

    def __init__(self, folder: ServerFolder, ports: Callable[[], int] | None = None) -> None:
        self._folder = folder
        self._ports = ports or _former_then_free(folder)
        self._binaries = find_binaries(folder.data)
        self._user = unprivileged_user(folder.data)
        self._process: subprocess.Popen[bytes] | None = None
        self.pid = 0
        self.port = 0

    def start(self) -> None:
        """Start the server, or adopt one that already serves the data folder; create the data folder if it is missing.

        Raises
        ------
        ServerFailedError
            A PostgreSQL program failed; its messages are in the log.
        DatabaseError
            A server already runs on the data folder, but does not become ready.

        """
        if not self._folder.data.exists():
            self._create_data()
        for _ in range(10):
            if self._take_over():
                return
            output = self._launch()
            if not output:
                return
            if "already in use" not in output and "already exists" not in output:
                break
        raise ServerFailedError("PostgreSQL exited during startup; see its log messages above")

    def alive(self) -> bool:
        """Return whether the server is running."""
        if self._process:
            return self._process.poll() is None
        return _serves(self.pid, self._folder.data)

    def stop(self) -> None:
        """Stop the server and close its remaining connections."""
        # Try a fast shutdown first, because after an immediate shutdown, the next start has to recover as after a
        # crash.
        for mode in ("fast", "immediate"):
            if self.alive() and self._run("pg_ctl", "stop", "-D", str(self._folder.data), "-m", mode, "-t", "60"):
                break
        if self._process:
            self._process.wait(timeout=60)

    def _create_data(self) -> None:
        for leftover in self._folder.path.glob("data.*"):
            shutil.rmtree(leftover, ignore_errors=True)
        # Create the data in a temporary folder and rename it, because a killed initdb would leave an incomplete folder.
        new = Path(tempfile.mkdtemp(prefix="data.", dir=self._folder.path))
        if self._user:
            os.chown(new, *self._user)
        self._folder.password(OWNER)
        created = self._run(
            "initdb",
            f"--pgdata={new}",
            f"--username={OWNER}",
            f"--pwfile={self._folder.path / 'password'}",
            "--auth=scram-sha-256",
            "--encoding=UTF8",
            # Sort by bytes, so that the order is the same on every machine.
            f"--locale={'C.UTF-8' if sys.platform == 'linux' else 'en_US.UTF-8'}",
        )
        if not created:
            raise ServerFailedError("initdb failed; see its output above")
        new.rename(self._folder.data)

    def _launch(self) -> str:
        """Start the server on a free port. Return an empty text once it is ready, or its output if it exits."""
        self.port = self._ports()
        options = {
            "listen_addresses": "127.0.0.1",
            "port": self.port,
            "unix_socket_directories": "",
            "max_connections": 200,
            "timezone": "UTC",
            "log_timezone": "UTC",
            "logging_collector": "off",
        }
        arguments = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
        offset = self._folder.log.stat().st_size
        self._process = subprocess.Popen(  # noqa: S603 - PostgreSQL's own program
            self._binaries.command("postgres", "-D", str(self._folder.data), *arguments, user=self._user),
            stdin=subprocess.DEVNULL,
        )
        self.pid = self._process.pid
        while self._process.poll() is None:
            if self._status() == (self.pid, self.port, True):
                self._folder.keep_port(self.port)
                _log.info(
                    "PostgreSQL %s is listening on port %s (process %s)", self._binaries.major, self.port, self.pid
                )
                return ""
            time.sleep(POLL_SECONDS)
        self._process = None
        return self._folder.log_since(offset) or "no output"

    def _take_over(self) -> bool:
        """Adopt the server that a killed watcher left running, so that its users keep their connections.

        A pid file that names any other process is outdated and is removed. This is safe, because the caller holds the
        watcher's lock.
        """
        self._remove_garbled_pid_file()
        deadline = time.monotonic() + START_SECONDS
        while status := self._status():
            self.pid, self.port, ready = status
            if not _serves(self.pid, self._folder.data):
                _log.warning("removing a stale pid file: process %s is not the server of this folder", self.pid)
                self._pid_file.unlink(missing_ok=True)
                return False
            if ready:
                _log.warning("taking over server process %s, because its watcher was killed", self.pid)
                return True
            if time.monotonic() > deadline:
                raise DatabaseError(
                    f"PostgreSQL (process {self.pid}) runs on {self._folder.data}, but was not ready after "
                    f"{START_SECONDS} s; stop that process, and try again"
                )
            time.sleep(POLL_SECONDS)
        return False

    def _status(self) -> tuple[int, int, bool] | None:
        """Return process id, port and readiness from PostgreSQL's pid file; None if no process with this id runs."""
        lines = _lines_of(self._pid_file)
        pid, port = _number(lines, _PID_LINE), _number(lines, _PORT_LINE)
        if not pid:
            return None
        try:
            os.kill(pid, 0)
        except (ProcessLookupError, PermissionError):
            # Leave the file of a dead process, because PostgreSQL itself replaces it at its start, after checking for
            # surviving child processes.
            return None
        return pid, port, lines[-1].strip() == "ready"

    def _remove_garbled_pid_file(self) -> None:
        """Remove a pid file without a valid process id, because PostgreSQL does not start if such a file exists.

        A crash of the machine can leave such a file. Wait before removing it, because the file is also empty for a
        moment while PostgreSQL starts.
        """
        for _ in range(round(GARBLED_SECONDS / POLL_SECONDS)):
            if not self._pid_file.is_file() or _number(_lines_of(self._pid_file), _PID_LINE):
                return
            time.sleep(POLL_SECONDS)
        _log.warning("removing a pid file without a valid process id")
        self._pid_file.unlink(missing_ok=True)

    @property
    def _pid_file(self) -> Path:
        return self._folder.data / "postmaster.pid"

    def _run(self, program: str, *arguments: str) -> bool:
        command = self._binaries.command(program, *arguments, user=self._user)
        return subprocess.run(command, stdin=subprocess.DEVNULL, check=False).returncode == 0  # noqa: S603 - PostgreSQL's own program


def _serves(pid: int, data: Path) -> bool:
    """Return whether a process is a PostgreSQL server of this data folder, and not another process with the same id."""
    if Path("/proc/self").exists():
        try:
            return str(data).encode() in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except (FileNotFoundError, ProcessLookupError):
            return False
    answer = subprocess.run(["ps", "-o", "command=", "-p", str(pid)], capture_output=True, text=True, check=False)  # noqa: S603, S607 - fixed arguments, and the system's ps
    return f"-D {data} " in answer.stdout


def _lines_of(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except (FileNotFoundError, PermissionError):
        return []


def _number(lines: list[str], at: int) -> int:
    """Return the process id or port on a line; 0 if the line is missing or contains anything else."""
    text = lines[at].strip() if at < len(lines) else ""
    return int(text) if re.fullmatch(r"[0-9]{1,9}", text) else 0
