"""A TCP proxy between a client and a server. Tests use it to simulate network failures."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Callable


class Gate:
    """Forwards bytes in both directions until a test makes it fail.

    Parameters
    ----------
    target
        Host and port of the server.

    Attributes
    ----------
    port
        Port of the proxy on 127.0.0.1.
    """

    def __init__(self, target: tuple[str, int]) -> None:
        self._target = target
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self._open = threading.Event()
        self._open.set()
        self._refuses = False
        self._sockets: list[socket.socket] = []
        self._start(self._accept)

    def cut(self) -> None:
        """Close all current connections, like a server that restarts."""
        sockets, self._sockets = self._sockets, []
        for one in sockets:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def shut(self) -> None:
        """Close all connections and refuse new connections, like a server that is down."""
        self._refuses = True
        self.cut()

    def hang(self) -> None:
        """Stop forwarding, but keep the connections open, like a server that hangs."""
        self._open.clear()

    def open(self) -> None:
        """Accept connections again, and forward the data that `hang` has held back."""
        self._refuses = False
        self._open.set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.open()
        self.shut()
        self._listening.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listening.accept()
            except OSError:
                return
            if self._refuses:
                client.close()
                continue
            server = socket.create_connection(self._target)
            self._sockets += [client, server]
            self._start(partial(self._hand_on, client, server))
            self._start(partial(self._hand_on, server, client))

    def _hand_on(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 16):
                self._open.wait()
                target.sendall(data)
        for one in (source, target):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    @staticmethod
    def _start(work: Callable[[], None]) -> None:
        threading.Thread(target=work, daemon=True).start()
