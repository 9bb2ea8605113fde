"""Cookies of browsers, and the CSRF tokens of their forms.

A session's cookie contains a random token. The database stores the token's hash and the session's key. A form must
contain a CSRF token, which is derived from the session's token. Pages of other sites do not know it.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING

from platform_assets.web.problems import Problem

if TYPE_CHECKING:
    from fastapi import Request
    from starlette.responses import Response

SESSION_SECONDS = 8 * 60 * 60
"""Lifetime of a session in seconds: a working day of eight hours. The database rejects longer lifetimes."""
CSRF_FIELD = "csrf_token"
_TOKEN = re.compile(r"[A-Za-z0-9_-]{32,100}", re.ASCII)
_LOOPBACK = {"localhost", "127.0.0.1", "::1"}


@dataclass(frozen=True)
class Session:
    """A session, as a browser's cookie stores it.

    Attributes
    ----------
    token
        Random text. Before the sign-in it only ties forms to the browser. After the sign-in the database has its hash.
    new
        Whether the cookie must still be sent to the browser.
    """

    token: str = field(repr=False)
    new: bool = False


class Sessions:
    """Reads and sets session cookies, and creates and checks CSRF tokens.

    Parameters
    ----------
    insecure_loopback
        Whether the cookie may be sent over plain HTTP to a loopback address.
    """

    def __init__(self, *, insecure_loopback: bool) -> None:
        self._insecure_loopback = insecure_loopback

    def of(self, request: Request) -> Session:
        """Return the session of a request; a new one if the cookie is missing or malformed."""
        if not hasattr(request.state, "session"):
            token = request.cookies.get(_cookie(secure=self._secure(request)), "")
            known = _TOKEN.fullmatch(token) is not None
            request.state.session = Session(token) if known else Session(secrets.token_urlsafe(), new=True)
        session: Session = request.state.session
        return session

    def keep(self, request: Request, response: Response, session: Session, seconds: int = SESSION_SECONDS) -> None:
        """Set the session cookie in a response, with a lifetime in seconds."""
        secure = self._secure(request)
        response.set_cookie(
            _cookie(secure=secure),
            session.token,
            max_age=seconds,
            secure=secure,
            httponly=True,
            samesite="strict",
        )

    def keep_flow(self, request: Request, response: Response, text: str, seconds: int) -> None:
        """Set the cookie of a sign-in in progress. The browser also sends it when the provider redirects back."""
        secure = self._secure(request)
        response.set_cookie(
            _flow_cookie(secure=secure), text, max_age=seconds, secure=secure, httponly=True, samesite="lax"
        )

    def take_flow(self, request: Request) -> str:
        """Return the text in the cookie of a sign-in in progress; empty without a cookie."""
        return request.cookies.get(_flow_cookie(secure=self._secure(request)), "")

    def end_flow(self, request: Request, response: Response) -> None:
        """Delete the cookie of a sign-in in progress."""
        secure = self._secure(request)
        response.delete_cookie(_flow_cookie(secure=secure), secure=secure, httponly=True, samesite="lax")

    def end(self, request: Request, response: Response) -> None:
        """Delete the session cookie in the browser."""
        secure = self._secure(request)
        response.delete_cookie(_cookie(secure=secure), secure=secure, httponly=True, samesite="strict")

    def can_keep(self, request: Request) -> bool:
        """Return whether the browser will keep the cookie.

        It keeps the cookie over HTTPS and, if `insecure_loopback` is set, over HTTP to this machine.
        """
        return request.url.scheme == "https" or not self._secure(request)

    def token(self, session: Session) -> str:
        """Return the CSRF token for the forms of a session."""
        return hmac.new(session.token.encode(), b"platform-assets form", hashlib.sha256).hexdigest()

    def demand_token(self, session: Session, token: str) -> None:
        """Raise an error if a form does not come from a page of this session.

        Raises
        ------
        Problem
            403: the session is new, or the CSRF token belongs to another session.
        """
        if session.new or not hmac.compare_digest(self.token(session).encode(), token.encode()):
            raise Problem(
                HTTPStatus.FORBIDDEN,
                "This form does not belong to your session: the session has ended, or the form comes from another "
                "site. Nothing was done. Open the page again and send the form from there.",
                "forged-form",
            )

    def _secure(self, request: Request) -> bool:
        url = request.url
        return not (self._insecure_loopback and url.scheme == "http" and url.hostname in _LOOPBACK)


def _flow_cookie(*, secure: bool) -> str:
    return "__Host-platform_sign_in" if secure else "platform_sign_in"


def _cookie(*, secure: bool) -> str:
    # With the prefix `__Host-`, a browser accepts the cookie only over TLS and only from this host.
    return "__Host-platform_session" if secure else "platform_session"
