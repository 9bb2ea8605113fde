"""Who asks: a key in the header of a program, or named by the session of a person who signed in with one.

A session is a signed cookie that holds no secret: a random number and the name of the key. The key is looked up again
at every request, so that one that was revoked loses its sessions at once. What a form changes needs a token that only
the session's own pages carry.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import secrets
import tempfile
from dataclasses import dataclass
from http import HTTPStatus
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

from itsdangerous import BadSignature, Signer, URLSafeTimedSerializer

from platform_assets.base.errors import PlatformError
from platform_assets.web.api_keys import Key
from platform_assets.web.problems import Problem

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from fastapi import Request
    from starlette.responses import Response

    from platform_assets.web.api_keys import KeyRing
    from platform_assets.web.rate_limits import RateLimits

SESSION_SECONDS = 8 * 60 * 60
"""A working day; then the key is asked for again."""
READ, PREDICT, APPROVE = "read", "predict", "approve"
CSRF_FIELD = "csrf_token"
_SECRET_BYTES = 32
_BEARER = re.compile(r"bearer +(\S+)", re.IGNORECASE)
_SAFE = {"GET", "HEAD"}
_LOOPBACK = {"localhost", "127.0.0.1", "::1"}
_FORWARDED = ("forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-real-ip")
_LOCAL_HOST = re.compile(r"(localhost|127\.0\.0\.1|\[::1\])(:\d{1,5})?", re.ASCII)
_HOW_TO_GET_A_KEY = "`platform-assets keys add NAME --scope read` makes one"
_CHALLENGE = {"WWW-Authenticate": 'Bearer realm="platform-assets"'}


@dataclass(frozen=True)
class Session:
    """What a browser's cookie says.

    Attributes
    ----------
    nonce
        Random; tokens of forms belong to it.
    key
        What `Key.id` is of the key that was signed in with; None before that.
    new
        Whether the browser does not have the cookie yet.
    """

    nonce: str
    key: str | None = None
    new: bool = False


class Sessions:
    """Signs and reads the cookies and the tokens of forms.

    Parameters
    ----------
    secret
        Of this installation; whoever knows it can make sessions.
    insecure_loopback
        Whether a browser may send the cookie over plain HTTP to this machine itself.
    """

    def __init__(self, secret: bytes, *, insecure_loopback: bool) -> None:
        options: dict[str, Any] = {"key_derivation": "hmac", "digest_method": hashlib.sha256}
        self._cookies = URLSafeTimedSerializer(secret, salt="platform-assets session", signer_kwargs=options)
        self._tokens = Signer(secret, salt="platform-assets form", **options)
        self._insecure_loopback = insecure_loopback

    def of(self, request: Request) -> Session:
        """The session of a request; a new one where there is none, or it is forged or over."""
        if not hasattr(request.state, "session"):
            request.state.session = self._read(request)
        session: Session = request.state.session
        return session

    def signed_in(self, key: str) -> Session:
        """The session of somebody who just showed this key; with a new number, lest somebody else knows the old one."""
        return Session(secrets.token_urlsafe(), key, new=True)

    def keep(self, request: Request, response: Response, session: Session) -> None:
        """Give the browser the session's cookie."""
        secure = self._secure(request)
        response.set_cookie(
            _cookie(secure=secure),
            str(self._cookies.dumps([session.nonce, session.key])),
            max_age=SESSION_SECONDS,
            secure=secure,
            httponly=True,
            samesite="strict",
        )

    def end(self, request: Request, response: Response) -> None:
        """Take the cookie away."""
        secure = self._secure(request)
        response.delete_cookie(_cookie(secure=secure), secure=secure, httponly=True, samesite="strict")

    def can_keep(self, request: Request) -> bool:
        """Whether the browser will take the cookie; over plain HTTP none does, but from its own machine."""
        return request.url.scheme == "https" or not self._secure(request)

    def token(self, session: Session) -> str:
        """What every form of this session's pages carries."""
        return self._tokens.get_signature(session.nonce).decode()

    def demand_token(self, session: Session, token: str) -> None:
        """Refuse a form that is not from this session's own pages.

        Raises
        ------
        Problem
            403.
        """
        if session.new or not self._tokens.verify_signature(session.nonce, token.encode()):
            raise Problem(
                HTTPStatus.FORBIDDEN,
                "This form does not belong to your session: it was left open for too long, or comes from another site. "
                "Nothing was done. Open the page again and send it from there.",
                "forged-form",
            )

    def _read(self, request: Request) -> Session:
        text = request.cookies.get(_cookie(secure=self._secure(request)), "")
        try:
            nonce, key = self._cookies.loads(text, max_age=SESSION_SECONDS)
        except BadSignature:
            return Session(secrets.token_urlsafe(), new=True)
        return Session(nonce, key)

    def _secure(self, request: Request) -> bool:
        url = request.url
        return not (self._insecure_loopback and url.scheme == "http" and url.hostname in _LOOPBACK)


@dataclass(frozen=True)
class Caller:
    """Who asks.

    Attributes
    ----------
    key
        With which they showed who they are.
    session
        Theirs, if they did so on the sign-in page.
    """

    key: Key
    session: Session | None


LOCAL = Caller(Key("", "whoever uses this machine", frozenset({READ, PREDICT}), id=""), session=None)
"""Who asks without a key, where that is allowed."""


class Access:
    """Finds out who asks, and whether they may.

    Parameters
    ----------
    keys
        Gives those of the platform; asked anew at every request.
    sessions
        Those of the pages.
    limits
        Counts requests; None where nothing is limited.
    open_locally
        Whether programs of this very machine may read and predict without a key.
    """

    def __init__(
        self,
        keys: Callable[[], KeyRing],
        sessions: Sessions,
        limits: RateLimits | None = None,
        *,
        open_locally: bool = False,
    ) -> None:
        self._keys = keys
        self.sessions = sessions
        self._limits = limits
        self._open_locally = open_locally

    async def identify(self, request: Request) -> None:
        """Find out who the header says it is, before anything else asks; once for each request, and in no thread."""
        request.state.by_header = await self._by_header(request)

    def brings_key(self, request: Request) -> bool:
        """Whether the header says who asks, rightly or not."""
        return request.state.by_header is not None

    def limited(self, request: Request) -> Mapping[str, str]:
        """Count a request under the key that it brings, or else its address; what to tell of the limit.

        Raises
        ------
        Problem
            429: there were too many, or too many with a wrong key.
        """
        by_header = self._identified(request)
        if self._limits is None:
            return {}
        if isinstance(by_header, Caller):
            return self._limits.count(_address(request), by_header.key.id)
        if by_header is not None:
            return self._limits.count(_address(request), None)
        # Signed, so that nobody can make it up.
        return self._limits.count(_address(request), self.sessions.of(request).key)

    def caller(self, request: Request) -> Caller:
        """Who asks.

        Raises
        ------
        Problem
            401: nobody that is known.
        """
        found = self._identified(request) or self._by_session(request)
        if not isinstance(found, Caller):
            raise found
        return self._noted(request, found)

    def admit(self, request: Request, *scopes: str) -> Caller:
        """Who asks, with one of these scopes, or without a key where that is allowed.

        Raises
        ------
        Problem
            401: nobody that is known; 403: a key without such a scope.
        """
        if self._identified(request) is None:
            if self._open_locally and _is_local(request):
                return self._noted(request, LOCAL)
            # A page of another site can make a browser send a body along with the session.
            if request.method not in _SAFE:
                raise _unknown(f"This needs a key: send `Authorization: Bearer <key>`. {_HOW_TO_GET_A_KEY}.")
        return self.demand(request, *scopes)

    def demand(self, request: Request, *scopes: str) -> Caller:
        """Who asks, with one of these scopes.

        Raises
        ------
        Problem
            401: nobody that is known; 403: a key without such a scope.
        """
        caller = self.caller(request)
        if not set(scopes) & set(caller.key.scopes):
            raise Problem(
                HTTPStatus.FORBIDDEN,
                f"The key {caller.key.name!r} has the scope {_listed(caller.key.scopes)}; this needs "
                f"{_listed(scopes)}. Whoever runs the platform adds a key with it: "
                f"`platform-assets keys add NAME --scope {scopes[0]}`.",
                "scope-missing",
                headers={"WWW-Authenticate": f'{_CHALLENGE["WWW-Authenticate"]}, error="insufficient_scope"'},
                more={"scopes_needed": list(scopes)},
            )
        return caller

    def sign_in(self, request: Request, secret: str) -> Session | None:
        """A session for whoever knows the secret of a key; None if it is none, or was revoked.

        Raises
        ------
        Problem
            429: too many wrong keys came from there.
        """
        key = self._keys().check(secret)
        if key is None:
            self._count_guess(request)
            return None
        return self.sessions.signed_in(key.id)

    def _noted(self, request: Request, caller: Caller) -> Caller:
        request.state.caller, request.state.asked_by = caller, caller.key.name
        return caller

    def _identified(self, request: Request) -> Caller | Exception | None:
        """Who the header says it is, or why nobody can tell; None without one. See `identify`."""
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
                self._count_guess(request)
        except (PlatformError, Problem) as error:
            # Told by whatever needs to know who asks; a page for everybody does not.
            return error
        if key is None:
            return _unknown(f"This key is not known, or was revoked; {_HOW_TO_GET_A_KEY}.", 'error="invalid_token"')
        return Caller(key, None)

    def _count_guess(self, request: Request) -> None:
        """Count a key that is none.

        A right one is never refused: callers behind one address, as a cloud's own proxy is, must not be able to shut
        each other out. A key of 256 bits is not guessed; whoever tries is told to stop.

        Raises
        ------
        Problem
            429: there were too many from there.
        """
        if self._limits is not None:
            self._limits.count_guess(_address(request))

    def _by_session(self, request: Request) -> Caller | Problem:
        session = self.sessions.of(request)
        key = self._keys().by_id(session.key) if session.key else None
        if key is None:
            return _unknown(f"This needs a key: send `Authorization: Bearer <key>`. {_HOW_TO_GET_A_KEY}.")
        return Caller(key, session)


def access_of(request: Request) -> Access:
    """Return what the application knows about who may ask."""
    access: Access = request.app.state.access
    return access


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches what listens there."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _is_local(request: Request) -> bool:
    """Whether a program of this machine asks: no page of another site, nor anybody behind a proxy.

    A site whose name somebody lets point to 127.0.0.1 is told by the name that the browser sends as the host.
    """
    headers = request.headers
    # As it was sent: of a host that makes no sense the URL would name the server instead.
    host = headers.get("host", "")
    own_page = headers.get("sec-fetch-site", "none") in {"none", "same-origin"}
    same = headers.get("origin", f"{request.url.scheme}://{host}") == f"{request.url.scheme}://{host}"
    local = _LOCAL_HOST.fullmatch(host) is not None
    return local and own_page and same and not any(name in headers for name in _FORWARDED)


def _address(request: Request) -> str:
    return request.client.host if request.client else ""


def installation_secret(folder: Path) -> bytes:
    """A random secret that all processes of this installation share, kept below `folder` for its owner alone."""
    path = folder / "session_secret"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        # Readable by nobody else from the first moment, and whole once it has its name; who links first wins.
        with tempfile.NamedTemporaryFile(dir=folder) as file:
            file.write(secrets.token_bytes(_SECRET_BYTES))
            file.flush()
            with contextlib.suppress(FileExistsError):
                os.link(file.name, path)
    return path.read_bytes()


def _cookie(*, secure: bool) -> str:
    # With this prefix a browser takes the cookie over TLS only, and from no other host of the domain.
    return "__Host-platform_session" if secure else "platform_session"


def _unknown(told: str, error: str = "") -> Problem:
    challenge = _CHALLENGE["WWW-Authenticate"] + (f", {error}" if error else "")
    return Problem(HTTPStatus.UNAUTHORIZED, told, "key-needed", headers={"WWW-Authenticate": challenge})


def _listed(scopes: object) -> str:
    return " or ".join(sorted(scopes)) or "no scope"  # type: ignore[call-overload]  # texts, whatever the collection's type
