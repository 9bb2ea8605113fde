"""TCP ports that only the test that asked for them uses."""

from __future__ import annotations

import socket


def reserve_port() -> int:
    """Reserve a port of 127.0.0.1 until this process ends, and return it.

    Connections to it are refused until a server of the test listens on it. The socket stays bound, so that the system
    gives the port to no other process, neither to listen on nor as the local port of a connection. A server can
    listen on it if it sets SO_REUSEADDR, which almost all servers do.
    """
    with socket.socket() as reserved:
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        reserved.bind(("127.0.0.1", 0))
        port: int = reserved.getsockname()[1]
        # Leave the descriptor open when the object is closed.
        reserved.detach()
    return port
