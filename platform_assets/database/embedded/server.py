"""One PostgreSQL server: its files, its roles, its options, its start and its end. `watcher.py` owns the process."""

from __future__ import annotations

import json
import logging
import os
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
"""The role that owns the platform's tables, a superuser; only migrations connect with it."""
APP = "platform_app"
"""The role that the platform connects with."""
START_SECONDS = 180
POLL_SECONDS = 0.02
LOG_BYTES = 5_000_000
"""Size from which the log is moved aside at the next start."""
_log = logging.getLogger("platform_assets.postgres_watcher")


@dataclass(frozen=True)
class ServerFolder:
    """The files of one embedded server."""

    path: Path

    @property
    def data(self) -> Path:
        """PostgreSQL's own folder."""
        return self.path / "data"

    @property
    def address(self) -> Path:
        """Says where the server listens; there only while it is ready."""
        return self.path / "server.json"

    @property
    def log(self) -> Path:
        """What watcher and server print."""
        return self.path / "server.log"

    @property
    def users_lock(self) -> Path:
        """Held shared by each user, exclusively by a watcher that stops the server."""
        return self.path / "users.lock"

    @property
    def start_lock(self) -> Path:
        """Held by the one user that sees to the server's start."""
        return self.path / "start.lock"

    @property
    def watcher_lock(self) -> Path:
        """Held by the watcher as long as it lives."""
        return self.path / "watcher.lock"

    def port(self) -> int | None:
        """The port of a server that is ready."""
        try:
            return int(json.loads(self.address.read_text())["port"])
        except FileNotFoundError:
            return None

    @property
    def former_port(self) -> int | None:
        """Port of the last server, so that processes that know only its address find the next one there.

        None in a copy of the folder: two servers with the same passwords must not take each other's place.
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
        """A role's password, made at the first call and readable by the files' owner only."""
        path = self.path / ("password" if role == OWNER else f"password_of_{role}")
        if not path.exists():
            with tempfile.NamedTemporaryFile("w", dir=self.path, prefix="password.", delete=False) as file:
                file.write(secrets.token_urlsafe(24))
            Path(file.name).rename(path)
        return path.read_text()

    def log_since(self, offset: int) -> str:
        """What was printed after a position in the log."""
        if not self.log.exists():
            return ""
        with self.log.open("rb") as file:
            file.seek(offset)
            return file.read().decode(errors="replace")

    def rotate_log(self) -> None:
        """Move a log that has grown too large aside, in the place of the one before."""
        if self.log.exists() and self.log.stat().st_size > LOG_BYTES:
            self.log.replace(self.log.with_suffix(".log.1"))


def free_port() -> int:
    """A port that nobody listens on; somebody may before we do."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _former_then_free(folder: ServerFolder) -> Callable[[], int]:
    """Return a function that returns the former port once, then free ports."""
    former = [port for port in [folder.former_port] if port]
    return lambda: former.pop() if former else free_port()


class Server:
    """One PostgreSQL server, started or taken over."""

    def __init__(self, folder: ServerFolder, ports: Callable[[], int] | None = None) -> None:
        self._folder = folder
        self._ports = ports or _former_then_free(folder)
        self._binaries = find_binaries(folder.data)
        self._user = unprivileged_user(folder.data)
        self._process: subprocess.Popen[bytes] | None = None
        self.pid = 0
        self.port = 0

    def start(self) -> None:
        """Serve the folder's data, made if they are not there, or take over the server that does.

        Raises
        ------
        DatabaseError
            The server ended at once; it has printed why.

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
        raise DatabaseError("PostgreSQL ended at its start; its own messages are above")

    def alive(self) -> bool:
        """Whether the server still runs."""
        if self._process:
            return self._process.poll() is None
        return _serves(self.pid, self._folder.data)

    def stop(self) -> None:
        """End the server, and the connections that are left."""
        # What is left of a hanging shutdown is mended by the next start, as after a crash.
        for mode in ("fast", "immediate"):
            if self.alive() and self._run("pg_ctl", "stop", "-D", str(self._folder.data), "-m", mode, "-t", "60"):
                break
        if self._process:
            self._process.wait(timeout=60)

    def _create_data(self) -> None:
        for leftover in self._folder.path.glob("data.*"):
            shutil.rmtree(leftover, ignore_errors=True)
        # A folder of its own, renamed when whole: what a killed initdb leaves is never taken for data.
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
            # Bytewise order, the same on every machine.
            f"--locale={'C.UTF-8' if sys.platform == 'linux' else 'en_US.UTF-8'}",
        )
        if not created:
            raise DatabaseError("initdb failed; its own messages are above")
        new.rename(self._folder.data)

    def _launch(self) -> str:
        """Start the server on a free port; returns what it printed if it ended again, else nothing."""
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
            env=_environment(),
        )
        self.pid = self._process.pid
        while self._process.poll() is None:
            if self._status() == (self.pid, self.port, True):
                self._folder.keep_port(self.port)
                _log.info("PostgreSQL %s serves port %s as process %s", self._binaries.major, self.port, self.pid)
                return ""
            time.sleep(POLL_SECONDS)
        self._process = None
        return self._folder.log_since(offset) or "no output"

    def _take_over(self) -> bool:
        """Adopt the server that a killed watcher left, so that its users keep their connections."""
        deadline = time.monotonic() + START_SECONDS
        while status := self._status():
            self.pid, self.port, ready = status
            if not _serves(self.pid, self._folder.data):
                _log.warning("removing the pid file of process %s, which is not this server", self.pid)
                (self._folder.data / "postmaster.pid").unlink(missing_ok=True)
                return False
            if ready:
                _log.warning("taking over process %s, which a killed watcher left", self.pid)
                return True
            if time.monotonic() > deadline:
                raise DatabaseError(f"process {self.pid} serves {self._folder.data} and does not get ready")
            time.sleep(POLL_SECONDS)
        return False

    def _status(self) -> tuple[int, int, bool] | None:
        """Process, port, and whether it is ready, as PostgreSQL's pid file says; None without a live process."""
        try:
            lines = (self._folder.data / "postmaster.pid").read_text().splitlines()
            pid = int(lines[0])
            os.kill(pid, 0)
        except (FileNotFoundError, ProcessLookupError, IndexError):
            # A dead process's file is left to PostgreSQL, which also looks for its surviving children.
            return None
        except PermissionError:
            return None
        port = int(lines[3]) if len(lines) > 3 else 0  # noqa: PLR2004 - the pid file's fourth line
        return pid, port, lines[-1].strip() == "ready"

    def _run(self, program: str, *arguments: str) -> bool:
        command = self._binaries.command(program, *arguments, user=self._user)
        return subprocess.run(command, stdin=subprocess.DEVNULL, env=_environment(), check=False).returncode == 0  # noqa: S603 - PostgreSQL's own program


def _serves(pid: int, data: Path) -> bool:
    """Whether the process is a PostgreSQL server of this data folder, and not one that inherited its number."""
    if Path("/proc/self").exists():
        try:
            return str(data).encode() in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except (FileNotFoundError, ProcessLookupError):
            return False
    answer = subprocess.run(["ps", "-o", "command=", "-p", str(pid)], capture_output=True, text=True, check=False)  # noqa: S603, S607 - fixed arguments, and the system's ps
    return f"-D {data} " in answer.stdout


def _environment() -> dict[str, str]:
    # PGPORT, PGDATA, PGOPTIONS and the like of a person's shell are meant for another server.
    return {name: value for name, value in os.environ.items() if not name.startswith("PG")}
