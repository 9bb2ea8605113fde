"""Authentication: programs send a key in the header. People sign in with a key, by OpenID Connect or through a proxy.

A sign-in starts a session (`browser_sessions.py`). Keys and sessions are looked up at every request, so that signing
out or revoking the key ends the session at once.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from http import HTTPStatus
from ipaddress import ip_address
from typing import TYPE_CHECKING

from starlette.concurrency import run_in_threadpool

from platform_assets.base.errors import PlatformError
from platform_assets.web.browser_sessions import SESSION_SECONDS, Session, Sessions
from platform_assets.web.identity import is_same_name
from platform_assets.web.key_ring import Key
from platform_assets.web.problems import Problem
from platform_assets.web.sign_in import SignIn

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from fastapi import Request

    from platform_assets.web.identity import Identity
    from platform_assets.web.key_ring import KeyRing
    from platform_assets.web.rate_limits import RateLimits, Scope

READ, PREDICT, LABEL, TRACE, APPROVE = "read", "predict", "label", "trace", "approve"
PROXY = "proxy"
_BEARER = re.compile(r"bearer +(\S+)", re.IGNORECASE)
_SAFE = {"GET", "HEAD"}
_FORWARDED = ("forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-real-ip")
_LOCAL_HOST = re.compile(r"(localhost|127\.0\.0\.1|\[::1\])(:\d{1,5})?", re.ASCII)
_HOW_TO_GET_A_KEY = "`platform-assets keys add NAME --scope read` creates one"
_CHALLENGE = {"WWW-Authenticate": 'Bearer realm="platform-assets"'}


@dataclass(frozen=True)
class Caller:
    """The person or program that sent a request.

    Attributes
    ----------
    key
        The key of the caller.
    session
        The session, if the person signed in on the page.
    secret
        The secret of the key or the token of the session. The database needs it to check who makes a decision.
    """

    key: Key
    session: Session | None
    secret: str = field(default="", repr=False)


LOCAL = Caller(Key("", "a user of this machine", frozenset({READ, PREDICT, LABEL, TRACE}), id=""), session=None)
"""The caller of a request without a key, if such requests are allowed."""


class Access:
    """Authenticates and authorises requests.

    Parameters
    ----------
    keys
        Function that returns the store of keys. It is called at every request.
    sessions
        Cookies and form tokens of the pages.
    limits
        Rate limits; None for no limits.
    open_locally
        Whether programs on this machine may read, predict, label and trace without a key.
    sign_in
        The ways to sign in without a key.
    """

    def __init__(
        self,
        keys: Callable[[], KeyRing],
        sessions: Sessions,
        limits: RateLimits | None = None,
        *,
        open_locally: bool = False,
        sign_in: SignIn | None = None,
    ) -> None:
        self.ways = sign_in or SignIn()
        self._keys = keys
        self.sessions = sessions
        self._limits = limits
        self._open_locally = open_locally

    async def identify(self, request: Request) -> None:
        """Look up the key in the header, once for each request, on the event loop."""
        request.state.by_header = await self._by_header(request)

    def waits(self, request: Request) -> bool:
        """Return whether `limited`, `caller` and the other checks of this request may block.

        They block if they look up a session in the database or count the request on a Redis server.
        """
        return request.state.by_header is None or (self._limits is not None and self._limits.waits)

    @property
    def rate_limits(self) -> Scope:
        """How requests are counted: for all processes together, by each process, or not at all."""
        return "off" if self._limits is None else self._limits.scope

    def limited(self, request: Request) -> Mapping[str, str]:
        """Count a request against the limit of its key or, without a key, of its address; return the limit's headers.

        Raises
        ------
        Problem
            429: too many requests, or too many with an unknown key.
        """
        by_header = self._identified(request)
        if self._limits is None:
            return {}
        if isinstance(by_header, Caller):
            return self._limits.count(_address(request), by_header.key.id)
        if by_header is not None:
            return self._limits.count(_address(request), None)
        try:
            by_session = self._by_session(request)
        except PlatformError:
            # Ignore an unreachable database, because the routes that need a caller report it.
            return self._limits.count(_address(request), None)
        return self._limits.count(_address(request), by_session.key.id if isinstance(by_session, Caller) else None)

    def caller(self, request: Request) -> Caller:
        """Return the caller of a request.

        Raises
        ------
        Problem
            401: the key or session is missing or unknown.
        """
        found = self._identified(request) or self._by_session(request)
        if not isinstance(found, Caller):
            raise found
        return self._noted(request, found)

    def admit(self, request: Request, *scopes: str) -> Caller:
        """Return the caller if it has one of the scopes, or `LOCAL` for an allowed local request without a key.

        Raises
        ------
        Problem
            401: the key or session is missing or unknown. 403: the key has none of these scopes.
        """
        if self._identified(request) is None:
            if self._open_locally and _is_local(request):
                return self._noted(request, LOCAL)
            # Do not accept a session here, because a page of another site could make the browser send the request with
            # the session's cookie.
            if request.method not in _SAFE:
                raise _unknown(f"This request needs a key: send `Authorization: Bearer <key>`. {_HOW_TO_GET_A_KEY}.")
        return self.demand(request, *scopes)

    def demand(self, request: Request, *scopes: str) -> Caller:
        """Return the caller if it has one of the scopes.

        Raises
        ------
        Problem
            401: the key or session is missing or unknown. 403: the key has none of these scopes.
        """
        caller = self.caller(request)
        if not set(scopes) & set(caller.key.scopes):
            key = caller.key
            what, command = ("person", f"people add {key.name}") if key.is_person else ("key", "keys add NAME")
            raise Problem(
                HTTPStatus.FORBIDDEN,
                f"The {what} {key.name!r} has the scope {_listed(key.scopes)}; this request needs "
                f"{_listed(scopes)}. Ask the platform's administrator to run "
                f"`platform-assets {command} --scope {scopes[0]}`.",
                "scope-missing",
                headers={"WWW-Authenticate": f'{_CHALLENGE["WWW-Authenticate"]}, error="insufficient_scope"'},
                more={"scopes_needed": list(scopes)},
            )
        return caller

    def sign_in(self, request: Request, secret: str) -> Session | None:
        """Start a session for the owner of a key; return None if the key is unknown or revoked.

        Raises
        ------
        Problem
            429: too many unknown keys came from this address.
        """
        token = self._keys().sign_in(secret, SESSION_SECONDS)
        if token is None:
            self._count_guess(request)
            return None
        return Session(token, new=True)

    def sign_in_person(self, identity: Identity) -> Session:
        """Start a session for a person whom the provider or the proxy has identified.

        Raises
        ------
        PersonRefused
            The person is unknown or revoked, or none of the person's groups grants a scope.
        """
        return Session(self.ways.begin_session(identity), new=True)

    def proxied(self, request: Request) -> Identity | None:
        """Return the person whom the trusted proxy names; None without a proxy or a name.

        Raises
        ------
        Problem
            403: the proxy's header is not acceptable.
        """
        return self.ways.proxy.identity(request) if self.ways.proxy else None

    def sign_out(self, request: Request) -> None:
        """End the session of a request."""
        self._keys().sign_out(self.sessions.of(request).token)

    def _noted(self, request: Request, caller: Caller) -> Caller:
        request.state.caller, request.state.asked_by = caller, caller.key.name
        return caller

    def _identified(self, request: Request) -> Caller | Exception | None:
        """Return the caller or the error that `identify` found; None without a header."""
        found: Caller | Exception | None = request.state.by_header
        if isinstance(found, Problem) and found.status_code == HTTPStatus.TOO_MANY_REQUESTS:
            raise found
        return found

    async def _by_header(self, request: Request) -> Caller | Exception | None:
        header = request.headers.get("authorization")
        if header is None:
            return None
        bearer = _BEARER.fullmatch(header.strip())
        if not bearer:
            return _unknown("The header Authorization must be `Bearer <key>`.", 'error="invalid_request"')
        try:
            key = await self._keys().find(bearer[1])
            if key is None:
                await run_in_threadpool(self._count_guess, request)
        except (PlatformError, Problem) as error:
            # Do not raise the error yet, because public pages need no caller.
            return error
        if key is None:
            return _unknown(f"This key is unknown or revoked; {_HOW_TO_GET_A_KEY}.", 'error="invalid_token"')
        return Caller(key, None, bearer[1])

    def _is_proxied(self, request: Request, name: str) -> bool:
        """Return whether the proxy still names a person, so that signing out at the proxy ends the session too."""
        try:
            identity = self.proxied(request)
        except Problem:
            return False
        return identity is not None and is_same_name(identity.name, name)

    def _count_guess(self, request: Request) -> None:
        """Count an unknown key against the limit of the address that it came from.

        The limit never affects valid keys, because many callers can share the address of a proxy, and a key of 256 bits
        cannot be guessed.

        Raises
        ------
        Problem
            429: too many unknown keys came from this address.
        """
        if self._limits is not None:
            self._limits.count_guess(_address(request))

    def _by_session(self, request: Request) -> Caller | Problem:
        if not hasattr(request.state, "by_session"):
            session = self.sessions.of(request)
            key = None if session.new else self._keys().by_session(session.token)
            holds = key is not None and (key.via != PROXY or self._is_proxied(request, key.name))
            request.state.by_session = Caller(key, session, session.token) if key and holds else None
        found: Caller | None = request.state.by_session
        return found or _unknown(f"This request needs a key: send `Authorization: Bearer <key>`. {_HOW_TO_GET_A_KEY}.")


def access_of(request: Request) -> Access:
    """Return the application's `Access`."""
    access: Access = request.app.state.access
    return access


def is_loopback(host: str) -> bool:
    """Return whether a host is a loopback address."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _is_local(request: Request) -> bool:
    """Return whether a request comes from a program or page on this machine, not from another site or through a proxy.

    The header `Host` must be a loopback address, which prevents DNS rebinding.
    """
    headers = request.headers
    # Read the header itself, because `request.url` replaces a malformed host with the name of the server.
    host = headers.get("host", "")
    own_page = headers.get("sec-fetch-site", "none") in {"none", "same-origin"}
    same = headers.get("origin", f"{request.url.scheme}://{host}") == f"{request.url.scheme}://{host}"
    local = _LOCAL_HOST.fullmatch(host) is not None
    return local and own_page and same and not any(name in headers for name in _FORWARDED)


def _address(request: Request) -> str:
    return request.client.host if request.client else ""


def _unknown(told: str, error: str = "") -> Problem:
    challenge = _CHALLENGE["WWW-Authenticate"] + (f", {error}" if error else "")
    return Problem(HTTPStatus.UNAUTHORIZED, told, "key-needed", headers={"WWW-Authenticate": challenge})


def _listed(scopes: object) -> str:
    ordered = sorted(scopes)  # type: ignore[call-overload]  # strings in any collection
    return " or ".join(f"`{scope}`" for scope in ordered) or "no scope"
