"""The HTTP server: uvicorn with bounded connections, on sockets that several processes may share."""

from __future__ import annotations

import errno
import resource
import socket
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import uvicorn
from uvicorn.config import STARTUP_FAILURE

from platform_assets.web.bounded_protocol import BoundedProtocol, Bounds

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.types import ASGIApp

SECONDS_TO_FINISH = 10
"""Time for which a stopping server waits for the requests in progress."""
_RESERVED_DESCRIPTORS = 64
"""File descriptors that are kept free for databases, files and the log."""


def bound_sockets(host: str, port: int, *, is_shared: bool = False) -> list[socket.socket]:
    """Return sockets that are bound to a port, one for each address of the host. They do not listen yet.

    Parameters
    ----------
    host, port
        Address to listen on.
    is_shared
        Whether several processes of this user listen on the port. Linux then spreads new connections evenly over the
        listening sockets. With one socket for all processes, the first process that wakes up would accept almost all
        connections.

    Raises
    ------
    OSError
        The port is in use, or the host is not an address of this machine.
    """
    found, refused = [], None
    for family, _, _, _, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        try:
            found.append(_bound_socket(family, address, is_shared=is_shared))
        except OSError as error:
            # Skip addresses that cannot be used: `localhost` may resolve to an IPv6 address on a machine without IPv6.
            if error.errno not in {errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT}:
                raise
            refused = error
    if refused is not None and not found:
        raise refused
    return found


def _bound_socket(family: int, address: tuple[Any, ...], *, is_shared: bool) -> socket.socket:
    bound = socket.socket(family, socket.SOCK_STREAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if is_shared:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    if family == socket.AF_INET6:
        bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    try:
        bound.bind(address)
    except OSError:
        bound.close()
        raise
    return bound


def run(app: ASGIApp, sockets: list[socket.socket], on_start: Callable[[], None] = lambda: None) -> None:
    """Serve an application until Ctrl-C or SIGTERM.

    Parameters
    ----------
    app
        The application.
    sockets
        Bound sockets to listen on.
    on_start
        Function that is called once the server accepts requests.

    Raises
    ------
    SystemExit
        The server could not start.
    """
    serving = server(app, on_start=on_start)
    with suppress(KeyboardInterrupt):
        serving.run(sockets)
    if not serving.started:
        sys.exit(STARTUP_FAILURE)


class PlatformServer(uvicorn.Server):
    """A server that reports when it accepts requests.

    Parameters
    ----------
    config
        Configuration of uvicorn.
    on_start
        Function that is called once the server accepts requests.
    """

    def __init__(self, config: uvicorn.Config, on_start: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_start = on_start

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start to accept requests."""
        await super().startup(sockets)
        self._on_start()


def server(app: ASGIApp, bounds: Bounds | None = None, on_start: Callable[[], None] = lambda: None) -> PlatformServer:
    """Return a server for an application; start it with its method `run`.

    Parameters
    ----------
    app
        The application.
    bounds
        Limits of each connection. None uses the defaults; `descriptors` is then the process's limit of open files,
        raised as far as allowed, minus a reserve.
    on_start
        Function that is called once the server accepts requests.
    """
    kept = Bounds(descriptors=_raise_descriptors() - _RESERVED_DESCRIPTORS) if bounds is None else bounds
    protocol = type("PlatformProtocol", (BoundedProtocol,), {"bounds": kept})
    config = uvicorn.Config(
        app,
        http=protocol,
        ws="none",
        # Disable uvicorn's log, because the platform logs each request with its id.
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=SECONDS_TO_FINISH,
        # Set `workers` explicitly, because uvicorn otherwise reads WEB_CONCURRENCY. `workers.py` starts the workers.
        workers=1,
    )
    return PlatformServer(config, on_start)


def _raise_descriptors() -> int:
    """Raise the soft limit of file descriptors to the hard limit, up to 65,536; return the resulting limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 1 << 16 if hard == resource.RLIM_INFINITY else min(hard, 1 << 16)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        return wanted
    return 1 << 30 if soft == resource.RLIM_INFINITY else soft
