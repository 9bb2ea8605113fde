"""A small OpenID Connect provider on loopback. A test can make its responses invalid."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import time
from contextlib import contextmanager
from functools import cache
from html import escape
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote, urlencode, urlsplit

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from platform_assets_tests.serving_thread import serving

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CLIENT, SECRET = "platform", "client secret +/%"


@cache
def signing_key(name: str) -> Any:
    """Return the private key with this name. It is for ES256 if the name begins with `ec`, otherwise for RS256."""
    if name.startswith("ec"):
        return ec.generate_private_key(ec.SECP256R1())
    return rsa.generate_private_key(65537, 1024 if name == "short" else 2048)


class OpenIdProvider:
    """The provider's state, which a test can change.

    Attributes
    ----------
    issuer
        Address of the provider.
    person
        Claims about the person who signs in next.
    spoil
        Function that changes the claims of the next tokens.
    sign
        Function that makes a token from claims. The default signs with the key `current`.
    keys
        Names of the published keys.
    current
        Name of the signing key.
    """

    def __init__(self, issuer: str) -> None:
        self.issuer = issuer
        self.person: dict[str, Any] = {"email": "anna@example.com", "email_verified": True}
        self.spoil: Callable[[dict[str, Any]], dict[str, Any]] = dict
        self.sign: Callable[[dict[str, Any]], str] = self.signed
        self.keys, self.current = ["first"], "first"
        self.configuration: dict[str, Any] = {
            "issuer": issuer,
            "authorization_endpoint": f"{issuer}/authorize",
            "token_endpoint": f"{issuer}/token",
            "jwks_uri": f"{issuer}/keys",
        }
        self.codes: dict[str, dict[str, str]] = {}

    def signed(self, claims: dict[str, Any], **headers: Any) -> str:
        key = signing_key(self.current)
        algorithm = "ES256" if self.current.startswith("ec") else "RS256"
        return jwt.encode(claims, key, algorithm, {"kid": self.current, **headers})

    def key_set(self) -> dict[str, Any]:
        found = []
        for name in self.keys:
            kind: Any = ECAlgorithm if name.startswith("ec") else RSAAlgorithm
            found.append(kind.to_jwk(signing_key(name).public_key(), as_dict=True) | {"kid": name, "use": "sig"})
        return {"keys": found}

    def authorize(self, query: dict[str, str]) -> str:
        """Sign the person in. Return the URL to which the browser is redirected."""
        assert (query["client_id"], query["response_type"], query["code_challenge_method"]) == (CLIENT, "code", "S256")
        code = secrets.token_urlsafe()
        self.codes[code] = query
        return f"{query['redirect_uri']}?{urlencode({'code': code, 'state': query['state'], 'iss': self.issuer})}"

    def redeem(self, form: dict[str, str], authorization: str) -> tuple[int, dict[str, Any]]:
        if "client_secret_post" in self.configuration.get("token_endpoint_auth_methods_supported", ()):
            given = form.get("client_id"), form.get("client_secret")
        else:
            name, _, secret = base64.b64decode(authorization.removeprefix("Basic ")).decode().partition(":")
            given = unquote(name), unquote(secret)
        if given != (CLIENT, SECRET):
            return 401, {"error": "invalid_client"}
        # A code is valid only once.
        begun = self.codes.pop(form["code"], None)
        digest = hashlib.sha256(form["code_verifier"].encode()).digest()
        challenge = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
        if begun is None or begun["code_challenge"] != challenge or begun["redirect_uri"] != form["redirect_uri"]:
            return 400, {"error": "invalid_grant"}
        now = int(time.time())
        claims = {"iss": self.issuer, "sub": "1", "aud": CLIENT, "exp": now + 300, "iat": now, "nonce": begun["nonce"]}
        return 200, {"id_token": self.sign(self.spoil(claims | self.person)), "token_type": "Bearer"}


@contextmanager
def openid_provider() -> Iterator[OpenIdProvider]:
    """Serve a provider on a free loopback port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            address = urlsplit(self.path)
            query = {name: values[0] for name, values in parse_qs(address.query).items()}
            if address.path == "/authorize":
                # Return a page with a link that the test clicks, as a person would.
                page = f'<a href="{escape(provider.authorize(query))}">Continue</a>'
                self.answer(200, page.encode(), "text/html")
            else:
                found = {"/.well-known/openid-configuration": provider.configuration, "/keys": provider.key_set()}
                self.answer(200 if address.path in found else 404, json.dumps(found.get(address.path, {})).encode())

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"])).decode()
            form = {name: values[0] for name, values in parse_qs(body).items()}
            status, found = provider.redeem(form, self.headers.get("authorization", ""))
            self.answer(status, json.dumps(found).encode())

        def answer(self, status: int, body: bytes, kind: str = "application/json") -> None:
            self.send_response(status)
            self.send_header("content-type", kind)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    provider = OpenIdProvider(f"http://127.0.0.1:{server.server_port}")
    with serving(server):
        yield provider
