"""People whom a proxy in front of the service has signed in and names in a header.

The header is accepted only on connections from one of the proxy's addresses. `bounded_protocol.py` records the address
of the connection, because uvicorn replaces the client's address with the one in `X-Forwarded-For`.
"""

from __future__ import annotations

import hmac
from http import HTTPStatus
from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING

from platform_assets.base.printable_text import unprintable
from platform_assets.web.identity import Identity
from platform_assets.web.problems import Problem
from platform_assets.web.request_identity import PEER

if TYPE_CHECKING:
    from fastapi import Request

SECRET_HEADER = "X-Platform-Proxy-Secret"  # noqa: S105 - the name of a header
_LONGEST_NAME = 200


class TrustedProxy:
    """Reads the person of a request from the headers of a trusted proxy.

    Parameters
    ----------
    user_header, groups_header
        Names of the headers with the person and with the groups, which are separated by commas. If `groups_header` is
        empty, people have no groups.
    networks
        Addresses or networks of the proxy, separated by commas.
    secret
        Secret that the proxy must send in `SECRET_HEADER`; empty for none.
    """

    def __init__(self, user_header: str, groups_header: str, networks: str, secret: str = "") -> None:
        self._user, self._groups = user_header, groups_header
        self.networks = [ip_network(one.strip()) for one in networks.split(",") if one.strip()]
        self._secret = secret.encode()

    @property
    def admits_all(self) -> bool:
        """Whether at least one of the networks contains all addresses."""
        return any(network.prefixlen == 0 for network in self.networks)

    def identity(self, request: Request) -> Identity | None:
        """Return the person whom the proxy names; None if the request has no such header.

        Raises
        ------
        Problem
            403: the header does not come from the proxy, the secret is missing or wrong, or a header is repeated or
            malformed.
        """
        if not any(name in request.headers for name in (self._user, self._groups) if name):
            return None
        peer = request.scope.get(PEER)
        if not self._is_trusted(peer[0] if peer else ""):
            raise _refused(f"The header {self._user} is accepted only from the proxy in PLATFORM_PROXY_TRUSTED.")
        given = request.headers.get(SECRET_HEADER, "").encode("latin-1")
        if self._secret and not hmac.compare_digest(self._secret, given):
            raise _refused(f"The proxy did not send PLATFORM_PROXY_SECRET in the header {SECRET_HEADER}.")
        name = _only(request, self._user)
        # Refuse commas too, because a proxy can join repeated headers with a comma.
        if not name or len(name) > _LONGEST_NAME or "," in name:
            raise _refused(f"The header {self._user} must contain the name of one person.")
        groups = _only(request, self._groups) if self._groups else ""
        return Identity(name, frozenset(filter(None, map(str.strip, groups.split(",")))), "proxy")

    def _is_trusted(self, host: str) -> bool:
        try:
            address = ip_address(host)
        except ValueError:
            return False
        mapped = getattr(address, "ipv4_mapped", None)
        return any((mapped or address) in network for network in self.networks)


def _only(request: Request, name: str) -> str:
    """Return the value of a header that a request may have at most once; empty if it is missing."""
    found = request.headers.getlist(name)
    if len(found) > 1:
        raise _refused(f"The header {name} is repeated.")
    try:
        text = "".join(found).encode("latin-1").decode().strip()
    except UnicodeDecodeError:
        raise _refused(f"The header {name} is not UTF-8.") from None
    if unprintable(text):
        raise _refused(f"The header {name} contains control or invisible characters.")
    return text


def _refused(told: str) -> Problem:
    return Problem(HTTPStatus.FORBIDDEN, f"{told} Nobody was signed in.", "proxy-not-trusted")
