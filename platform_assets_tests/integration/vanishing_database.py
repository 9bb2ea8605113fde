"""A database that is lost during a run: a proxy to PostgreSQL closes all connections at a given statement."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Self

from sqlalchemy import make_url

if TYPE_CHECKING:
    from types import TracebackType

_CHUNK = 1 << 16


class VanishingDatabase:
    """A proxy to PostgreSQL that simulates the loss of the database.

    When a client sends the bytes `fatal`, the proxy closes all connections and refuses new connections.

    Parameters
    ----------
    server
        URL of the real database.
    fatal
        Part of a statement that triggers the loss.

    Attributes
    ----------
    url
        URL of the database through the proxy.
    gone
        Event that is set once the database is lost.
    """

    def __init__(self, server: str, fatal: bytes) -> None:
        upstream = make_url(server)
        self._upstream = (upstream.host or "127.0.0.1", upstream.port or 5432)
        self._fatal = fatal
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._sockets: list[socket.socket] = []
        self.gone = threading.Event()
        port = self._listener.getsockname()[1]
        url = upstream.set(host="127.0.0.1", port=port).update_query_dict({"sslmode": "disable"})
        self.url = url.render_as_string(hide_password=False)

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._hang_up()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._upstream)
                self._sockets += [client, server]
                for source, target in ((client, server), (server, client)):
                    threading.Thread(target=self._pass_on, args=(source, target), daemon=True).start()

    def _pass_on(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while chunk := source.recv(_CHUNK):
                if self._fatal in chunk:
                    self._hang_up()
                target.sendall(chunk)
        for one in (source, target):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def _hang_up(self) -> None:
        self.gone.set()
        for one in (self._listener, *self._sockets):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
