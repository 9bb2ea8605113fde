"""The parent of all warm processes (`warm.py`), which has imported the libraries that most of them need.

Usage: `python -m platform_assets_tests.warm_parent SOCKET`. A client connects to the socket for one of two purposes. It
calls `asked` to request a process, or it sends `STAY` to open a session. The parent exits when all sessions are closed.
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

# Modules to import, slowest first. None of them may start a thread or open a file, because the parent forks.
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
    """Request a process that calls a function.

    Parameters
    ----------
    path
        Socket of the parent process.
    function
        A module-level function.
    arguments
        Arguments of the function, which receives them as strings.
    streams
        File descriptors for the standard input, output and error of the process.
    variables
        Additional environment variables.

    Returns
    -------
    IO[str]
        A file with two lines: the process id, and after the end of the process its exit code, or -n if signal n
        killed it.
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
    """Execute Python source code as the module `__main__`."""
    sys.modules["__main__"] = ModuleType("__main__")
    exec(program, vars(sys.modules["__main__"]))


def main(path: str) -> None:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(64)
    # Fork, so that the process that started this one can continue. Clients can connect from now on, but are answered
    # only after the imports.
    if os.fork():
        os._exit(0)
    os.setsid()
    # Turn garbage collection off, because it would take a third of the import time. Freeze the imported objects,
    # because collections in the children would otherwise copy their memory.
    gc.disable()
    for name in IMPORTED:
        importlib.import_module(name)
    gc.freeze()
    gc.enable()
    # Discard the exit codes of the children. Each child waits for a requested process, and reports the exit code of
    # that process to the client.
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
    """Start the requested process, and send its id and later its exit code."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    process = os.fork()
    if process == 0:
        connection.close()
        _work(order, streams)
    for stream in streams:
        os.close(stream)
    # Ignore errors, because the requesting process may have ended.
    with suppress(OSError):
        connection.sendall(f"{process}\n".encode())
    _, status = os.waitpid(process, 0)
    with suppress(OSError):
        connection.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())
    os._exit(0)


def _reopen_output() -> None:
    """Open standard output and error again, because Python remembers whether the parent's files are seekable."""
    for name, number in (("stdout", 1), ("stderr", 2)):
        parents = getattr(sys, name)
        reopened = open(  # noqa: SIM115 - open until the process ends
            number,
            "w",
            encoding=parents.encoding,
            errors=parents.errors,
            buffering=1 if parents.line_buffering else -1,
            closefd=False,
        )
        setattr(sys, name, reopened)


def _work(order: dict[str, Any], streams: list[int]) -> None:
    os.setsid()
    # Restore the handler of SIGINT, because a shell makes background processes ignore it, and children inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    _reopen_output()
    os.chdir(order["folder"])
    os.environ.clear()
    os.environ.update(order["environment"])
    call_and_leave(partial(getattr(importlib.import_module(order["module"]), order["function"]), *order["arguments"]))


if __name__ == "__main__":
    main(*sys.argv[1:])
