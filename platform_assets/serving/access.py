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
from typing import TYPE_CHECKING, Any

from itsdangerous import BadSignature, Signer, URLSafeTimedSerializer

from platform_assets.serving.problems import Problem

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from fastapi import Request
    from starlette.responses import Response

    from platform_assets.core.keys import Key, KeyRing

SESSION_SECONDS = 8 * 60 * 60
"""A working day; then the key is asked for again."""
READ, APPROVE = "read", "approve"
CSRF_FIELD = "csrf_token"
_SECRET_BYTES = 32
_BEARER = re.compile(r"bearer +(\S+)", re.IGNORECASE)
_LOOPBACK = {"localhost", "127.0.0.1", "::1"}
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


class Access:
    """Finds out who asks, and whether they may.

    Parameters
    ----------
    keys
        Gives those of the platform; asked anew at every request.
    sessions
        Those of the pages.
    """

    def __init__(self, keys: Callable[[], KeyRing], sessions: Sessions) -> None:
        self._keys = keys
        self.sessions = sessions

    def caller(self, request: Request) -> Caller:
        """Who asks.

        Raises
        ------
        Problem
            401: nobody that is known.
        """
        header = request.headers.get("authorization")
        caller = self._by_session(request) if header is None else self._by_header(header)
        request.state.caller, request.state.asked_by = caller, caller.key.name
        return caller

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

    def sign_in(self, secret: str) -> Session | None:
        """A session for whoever knows the secret of a key; None if it is none, or was revoked."""
        key = self._keys().check(secret)
        return self.sessions.signed_in(key.id) if key else None

    def _by_header(self, header: str) -> Caller:
        bearer = _BEARER.fullmatch(header.strip())
        if not bearer:
            raise _unknown("The header Authorization must be `Bearer <key>`.", 'error="invalid_request"')
        key = self._keys().check(bearer[1])
        if key is None:
            raise _unknown(f"This key is not known, or was revoked; {_HOW_TO_GET_A_KEY}.", 'error="invalid_token"')
        return Caller(key, None)

    def _by_session(self, request: Request) -> Caller:
        session = self.sessions.of(request)
        key = self._keys().by_id(session.key) if session.key else None
        if key is None:
            raise _unknown(f"This needs a key: send `Authorization: Bearer <key>`. {_HOW_TO_GET_A_KEY}.")
        return Caller(key, session)


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
