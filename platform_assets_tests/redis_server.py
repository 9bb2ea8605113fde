"""A Redis server for tests, from Debian's package `redis-server`. `conftest.py` loads this module as a plugin."""

from __future__ import annotations

import shutil
import socket
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from platform_assets_tests.ports import reserve_port
from platform_assets_tests.postgres import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HOST = "127.0.0.1"


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a server that stores nothing on disk."""
    with redis_at(reserve_port(), tmp_path_factory.mktemp("redis")) as url:
        yield url


@contextmanager
def redis_at(port: int, folder: Path) -> Iterator[str]:
    """Run a Redis server that stores nothing on disk."""
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("needs Redis: apt-get install redis-server")
    options = ["--bind", HOST, "--port", str(port), "--save", "", "--dir", str(folder)]
    with subprocess.Popen([program, *options], stdout=subprocess.DEVNULL) as server:
        try:
            wait_until(lambda: _answers(port), "Redis responded")
            yield f"redis://{HOST}:{port}/0"
        finally:
            server.kill()


def _answers(port: int) -> bool:
    try:
        with socket.create_connection((HOST, port), timeout=5) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(16).startswith(b"+PONG")
    except OSError:
        return False
