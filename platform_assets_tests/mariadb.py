"""A MariaDB server from Debian's package, which runs once per test process.

`conftest.py` loads this module as a plugin.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import URL

from platform_assets_tests.ports import reserve_port
from platform_assets_tests.postgres import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

SERVER, INSTALL = "mariadbd", "mariadb-install-db"
OPTIONS = (
    "--no-defaults",
    "--innodb-buffer-pool-size=16M",
    "--innodb-log-file-size=8M",
    "--innodb-flush-log-at-trx-commit=0",
    "--innodb-doublewrite=0",
)
PASSWORD = "secret-of-root"


@pytest.fixture(scope="session")
def mariadb() -> Iterator[URL]:
    """URL of the empty database `energy`, with an administrator's credentials."""
    for program in (SERVER, INSTALL):
        if shutil.which(program, path=_path()) is None:
            pytest.skip("needs MariaDB: apt-get install mariadb-server")
    pytest.importorskip("pymysql", reason="needs pymysql: pip install pymysql")
    # Do not use pytest's folder, because the server runs as another user, and its socket needs a short path.
    with TemporaryDirectory(prefix="mariadb") as folder:
        data = Path(folder)
        if os.geteuid() == 0:
            shutil.chown(data, "mysql")
        user = ["--user=mysql"] if os.geteuid() == 0 else []
        _run([INSTALL, *OPTIONS, *user, "--skip-test-db", "--auth-root-authentication-method=normal"], data)
        port = reserve_port()
        command = [SERVER, *OPTIONS, *user, f"--datadir={data}", f"--port={port}", "--bind-address=127.0.0.1"]
        command += [f"--socket={data / 'socket'}", f"--pid-file={data / 'pid'}", f"--init-file={_first_steps(data)}"]
        with (data / "log").open("wb") as log:
            server = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, "PATH": _path()})
            try:
                url = URL.create("mysql+pymysql", "admin", PASSWORD, "127.0.0.1", port, "energy")
                wait_until(lambda: _answers(url, server), lambda: f"MariaDB answered: {(data / 'log').read_text()}")
                yield url
            finally:
                server.terminate()
                server.wait()


def _path() -> str:
    # Debian installs servers in folders that are only in root's PATH.
    return os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"])


def _first_steps(data: Path) -> Path:
    file = data / "first_steps.sql"
    file.write_text(
        "CREATE DATABASE energy CHARACTER SET utf8mb4;\n"
        f"CREATE USER admin@'127.0.0.1' IDENTIFIED BY '{PASSWORD}';\n"
        "GRANT ALL ON *.* TO admin@'127.0.0.1' WITH GRANT OPTION;\n"
    )
    file.chmod(0o644)
    return file


def _run(command: Sequence[str], data: Path) -> None:
    done = subprocess.run(
        [*command, f"--datadir={data}"],
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, "PATH": _path()},
    )
    if done.returncode:
        pytest.fail(f"{command[0]} failed: {done.stdout}{done.stderr}")


def _answers(url: URL, server: subprocess.Popen[bytes]) -> bool:
    pymysql = import_module("pymysql")
    if server.poll() is not None:
        pytest.fail(f"MariaDB ended with exit code {server.returncode}")
    with suppress(pymysql.err.OperationalError):
        pymysql.connect(
            host=url.host, port=url.port or 0, user=url.username, password=PASSWORD, database="energy"
        ).close()
        return True
    return False
