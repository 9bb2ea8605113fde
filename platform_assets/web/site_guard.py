"""A guard for a web page without sign-in: it refuses requests that browsers send for pages of other sites.

It is plain ASGI, so that it also covers websockets.
"""

from __future__ import annotations

import logging
import re
from http import HTTPStatus
from ipaddress import ip_address
from typing import TYPE_CHECKING, NamedTuple

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.websockets import WebSocketClose

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOG = logging.getLogger(__name__)
_HOST = re.compile(r"(?P<name>\[[0-9a-f:.]+\]|[\w.-]+)(:(?P<port>\d{1,5}))?", re.ASCII | re.IGNORECASE)
_ORIGIN = re.compile(r"(?P<scheme>https?)://(?P<host>[^/?#]+)", re.IGNORECASE)
_PORTS = {"http": "80", "https": "443"}
_OWN_SITES = {"same-origin", "none"}
_POLICY_VIOLATION = 1008
_FRAMES = (b"x-frame-options", b"SAMEORIGIN")


class Host(NamedTuple):
    """Name and port of a `Host` header or a URL, in lower case. The port is empty if it is not given."""

    name: str
    port: str

    def on(self, scheme: str) -> Host:
        """Return this host with the default port of a scheme if it has no port."""
        return Host(self.name, self.port or _PORTS[scheme])


class SiteGuard:
    """Middleware that refuses cross-site requests, and requests with a foreign host name.

    Refusing foreign names in the header `Host` prevents DNS rebinding.

    Links from other sites work, because a browser that follows a link only gets a page. Programs other than browsers
    send neither `Origin` nor `Sec-Fetch-Site`, so they are not restricted.

    Parameters
    ----------
    app
        The wrapped application.
    address
        The address that people use, such as https://dagster.example.org; empty if the application has no such address.
    variable
        Environment variable with this address. Error messages name it.
    """

    def __init__(self, app: ASGIApp, address: str, variable: str) -> None:
        self._app = app
        self._own = _origin(address)
        self._variable = variable

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle HTTP and websocket requests; pass other ASGI scopes through."""
        if scope["type"] not in {"http", "websocket"}:
            await self._app(scope, receive, send)
            return

        async def send_unframed(message: Message) -> None:
            # Pages of other sites must not show this page in a frame, because they could make the user click in it.
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], _FRAMES]}
            await send(message)

        reason = self._refusal(scope)
        if not reason:
            await self._app(scope, receive, send_unframed)
        elif scope["type"] == "http":
            await PlainTextResponse(f"{reason}\n", HTTPStatus.FORBIDDEN)(scope, receive, send)
        else:
            # Log the reason, because browsers do not show the response to a websocket's handshake.
            LOG.warning("A websocket was refused. %s", reason)
            await WebSocketClose(_POLICY_VIOLATION)(scope, receive, send)

    def _refusal(self, scope: Scope) -> str:
        """Return the reason if a request is refused; empty if it is allowed."""
        headers = Headers(scope=scope)
        hosts = headers.getlist("host")
        host = _host(hosts[0]) if len(hosts) == 1 else None
        if host is None or not self._is_own_name(host.name):
            return (
                "The header Host must contain localhost, an IP address, a name without a dot, or the host of "
                f"{self._variable}; set {self._variable} to the address that you use."
            )
        sites = headers.getlist("sec-fetch-site")
        if sites:
            if _OWN_SITES.issuperset(sites) or _follows_a_link(scope, headers):
                return ""
            return "Requests from pages of other sites are refused, except links."
        # Browsers send no Sec-Fetch headers to http://, except to loopback addresses, and Chrome sends none for
        # websockets.
        if all(self._is_own_origin(origin, host) for origin in headers.getlist("origin")):
            return ""
        return (
            "Requests from pages of other sites are refused: the header Origin must match the header Host or "
            f"{self._variable}."
        )

    def _is_own_name(self, name: str) -> bool:
        # Allow names without a dot, which nobody can register in public DNS, and IP addresses, which need no DNS.
        return "." not in name or _is_ip_address(name) or (self._own is not None and name == self._own[1].name)

    def _is_own_origin(self, text: str, host: Host) -> bool:
        origin = _origin(text)
        return origin is not None and (origin == self._own or origin[1] == host.on(origin[0]))


def _follows_a_link(scope: Scope, headers: Headers) -> bool:
    """Return whether a browser opens a page in a tab of its own, and not in a frame."""
    return (
        scope["type"] == "http"
        and scope["method"] in {"GET", "HEAD"}
        and headers.getlist("sec-fetch-mode") == ["navigate"]
        and headers.getlist("sec-fetch-dest") == ["document"]
    )


def _host(text: str) -> Host | None:
    """Parse a host; None if it is malformed."""
    found = _HOST.fullmatch(text)
    return found and Host(found["name"].lower(), found["port"] or "")


def _origin(text: str) -> tuple[str, Host] | None:
    """Return scheme and host, with its port, of an origin or URL; None if it has none, such as the origin `null`."""
    found = _ORIGIN.match(text)
    host = found and _host(found["host"])
    if not found or not host:
        return None
    scheme = found["scheme"].lower()
    return scheme, host.on(scheme)


def _is_ip_address(name: str) -> bool:
    try:
        ip_address(name.removeprefix("[").removesuffix("]"))
    except ValueError:
        return False
    return True
