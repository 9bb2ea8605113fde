"""The process that `warm.py` forks from: it has imported what most processes of the platform need, and nothing else.

Argument: a socket. Each connection is an order (`asked`), answered by lines; with the last connection of a session that
stays open, the process ends.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import select
import signal
import socket
import sys
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import IO, TYPE_CHECKING, Any

from platform_assets.base.process_exit import call_and_leave

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

# The heaviest first. None of them starts a thread of Python's or opens anything.
IMPORTED = (
    "great_expectations",
    "great_expectations.expectations",
    "mlflow",
    "mlflow.store.db.utils",
    "alembic.command",
    "ibis",
    "duckdb",
    "ibis.backends.duckdb",
    "pandas",
    "deltalake",
    "skops.io",
    "matplotlib.figure",
    "matplotlib.backends.backend_agg",
    "mlflow.store.tracking.sqlalchemy_store",
    "mlflow.store.model_registry.sqlalchemy_store",
    "numba",
    "dagster_postgres",
    "psycopg",
    "platform_assets.cli",
    "platform_assets.definitions",
    "platform_assets.operations.run_report",
    "platform_assets.operations.dead_runs",
)
STAY = b"stay"
READY = b"ready\n"
ORDER_BYTES = 1 << 18


def asked(
    path: Path,
    function: Callable[..., None],
    arguments: Sequence[str | Path],
    streams: Sequence[int],
    variables: Mapping[str, str] | None = None,
) -> IO[str]:
    """Ask for a process that calls a function of a module with these standard streams.

    The answers are its id, and when it has ended, its exit code, or minus the signal that killed it.
    """
    order = {
        "module": function.__module__,
        "function": function.__name__,
        "arguments": [str(argument) for argument in arguments],
        "environment": os.environ | dict(variables or {}),
        "folder": str(Path.cwd()),
    }
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(path))
        socket.send_fds(connection, [json.dumps(order).encode()], streams)
        return connection.makefile()


def python(program: str) -> None:
    """What Python does with a program."""
    sys.modules["__main__"] = ModuleType("__main__")
    exec(program, vars(sys.modules["__main__"]))


def main(path: str) -> None:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(64)
    # Whoever started it goes on; whoever connects waits.
    if os.fork():
        os._exit(0)
    os.setsid()
    # What is imported is no garbage: to look through it takes a third of the time, and copies its memory in each child.
    gc.disable()
    for name in IMPORTED:
        importlib.import_module(name)
    gc.freeze()
    gc.enable()
    # Nobody waits for those who wait for the processes.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    sessions: list[socket.socket] = []
    while True:
        for ready in select.select([listener, *sessions], [], [])[0]:
            if ready is listener:
                _answer(listener, sessions)
            else:
                ready.close()
                sessions.remove(ready)
        if not sessions:
            Path(path).unlink()
            return


def _answer(listener: socket.socket, sessions: list[socket.socket]) -> None:
    connection, _ = listener.accept()
    order, streams, *_ = socket.recv_fds(connection, ORDER_BYTES, 3)
    if order == STAY:
        connection.sendall(READY)
        sessions.append(connection)
    elif order and os.fork() == 0:
        for other in (listener, *sessions):
            other.close()
        _wait_for(connection, json.loads(order), streams)
    if order != STAY:
        connection.close()
    for stream in streams:
        os.close(stream)


def _wait_for(connection: socket.socket, order: dict[str, Any], streams: list[int]) -> None:
    """Start the ordered process; tell its id, and when it has ended, how."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    process = os.fork()
    if process == 0:
        connection.close()
        _work(order, streams)
    for stream in streams:
        os.close(stream)
    # Whoever ordered may have gone.
    with suppress(OSError):
        connection.sendall(f"{process}\n".encode())
    _, status = os.waitpid(process, 0)
    with suppress(OSError):
        connection.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())
    os._exit(0)


def _work(order: dict[str, Any], streams: list[int]) -> None:
    os.setsid()
    # What a shell starts in the background ignores interrupts, and hands that down.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.chdir(order["folder"])
    os.environ.clear()
    os.environ.update(order["environment"])
    call_and_leave(partial(getattr(importlib.import_module(order["module"]), order["function"]), *order["arguments"]))


if __name__ == "__main__":
    main(*sys.argv[1:])
