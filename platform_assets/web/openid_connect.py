"""Sign-in by OpenID Connect: the authorization code flow with PKCE, a state and a nonce.

Source: OpenID Connect Core 1.0 and Discovery 1.0, RFC 7636 (PKCE), RFC 9207 (the parameter `iss`). `signing_keys.py`
finds the key of a token.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import quote, urlencode

from platform_assets.base.errors import PlatformError, first_line
from platform_assets.base.printable_text import unprintable
from platform_assets.web.identity import Identity
from platform_assets.web.key_errors import PersonRefused
from platform_assets.web.provider_client import ProviderClient
from platform_assets.web.signing_keys import SigningKeys

if TYPE_CHECKING:
    from collections.abc import Mapping

FLOW_SECONDS = 600
"""Time limit for the sign-in at the provider."""
LEEWAY_SECONDS = 60
"""Difference allowed between the clocks of the provider and of this machine."""
FRESH_SECONDS = 3_600.0
"""Time for which the provider's configuration is cached."""
_REQUIRED = ["iss", "sub", "aud", "exp", "iat", "nonce"]
_LONGEST_NAME = 200


class SignInFailed(PersonRefused):
    """A sign-in at the provider cannot be accepted."""

    problem = "sign-in-failed"


@dataclass(frozen=True)
class Flow:
    """A sign-in in progress. The browser keeps it in a signed cookie until the provider sends the person back.

    Attributes
    ----------
    state
        Random text that the provider returns in the address.
    nonce
        Random text that the provider returns in the ID token.
    verifier
        Secret of PKCE, whose hash is sent to the provider first.
    next
        Path of the page to open after the sign-in.
    """

    state: str
    nonce: str = field(repr=False)
    verifier: str = field(repr=False)
    next: str

    algorithm: ClassVar[str] = "HS256"

    def sealed(self, key: bytes) -> str:
        """Return the flow as a signed text, which expires after `FLOW_SECONDS`."""
        import jwt

        claims = {"state": self.state, "nonce": self.nonce, "verifier": self.verifier, "next": self.next}
        return jwt.encode(claims | {"exp": int(time.time()) + FLOW_SECONDS}, key, self.algorithm)

    @classmethod
    def opened(cls, text: str, key: bytes) -> Flow:
        """Return the flow in a signed text.

        Raises
        ------
        SignInFailed
            The text was altered, has expired or is empty.
        """
        import jwt

        try:
            found = jwt.decode(text, key, [cls.algorithm], options={"require": ["exp"]})
            return cls(found["state"], found["nonce"], found["verifier"], found["next"])
        except (jwt.InvalidTokenError, KeyError):
            raise SignInFailed(
                f"this browser did not begin a sign-in within the last {FLOW_SECONDS // 60} minutes, or has "
                "begun another one since; sign in again"
            ) from None


@dataclass(frozen=True)
class Registration:
    """The service as a client of an OpenID Connect provider.

    Attributes
    ----------
    issuer
        Address of the issuer, exactly as the provider states it.
    client_id, client_secret
        Credentials of the service; an empty secret for a public client.
    redirect_uri
        Address of this service to which the provider sends people back.
    claim, groups_claim
        Claims of the ID token with the person's name and groups.
    requested
        OAuth scopes to request.
    """

    issuer: str
    client_id: str
    client_secret: str = field(repr=False)
    redirect_uri: str
    claim: str = "email"
    groups_claim: str = "groups"
    requested: str = "openid email profile"


class Provider:
    """An OpenID Connect provider.

    Parameters
    ----------
    client
        The service's registration at the provider.
    """

    def __init__(self, client: Registration) -> None:
        self.client = client
        self._http = ProviderClient(client.issuer)
        self._keys = SigningKeys(lambda: self._http.json(self.configuration()["jwks_uri"]))
        self._found: tuple[dict[str, Any], float] | None = None

    def configuration(self) -> dict[str, Any]:
        """Return the provider's configuration, from the cache if it is fresh.

        Raises
        ------
        ProviderError
            The provider does not answer, or its configuration is incomplete or belongs to another issuer.
        """
        found, now = self._found, time.monotonic()
        if found is None or now > found[1]:
            self._found = found = self._http.configuration(), now + FRESH_SECONDS
        return found[0]

    def begin(self, target: str) -> tuple[str, Flow]:
        """Return the provider's address for the browser, and the flow that the browser must keep.

        Parameters
        ----------
        target
            Path of the page to open after the sign-in.

        Raises
        ------
        ProviderError
            The provider does not answer.
        """
        flow = Flow(secrets.token_urlsafe(), secrets.token_urlsafe(), secrets.token_urlsafe(48), target)
        challenge = base64.urlsafe_b64encode(hashlib.sha256(flow.verifier.encode()).digest()).rstrip(b"=").decode()
        parameters = {
            "response_type": "code",
            "client_id": self.client.client_id,
            "redirect_uri": self.client.redirect_uri,
            "scope": self.client.requested,
            "state": flow.state,
            "nonce": flow.nonce,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
        }
        endpoint = self.configuration()["authorization_endpoint"]
        return f"{endpoint}{'&' if '?' in endpoint else '?'}{urlencode(parameters)}", flow

    def finish(self, flow: Flow, parameters: Mapping[str, str]) -> Identity:
        """Return the person who signed in.

        Parameters
        ----------
        flow
            The flow that the browser kept.
        parameters
            Parameters of the address to which the provider sent the browser: `state` and `code`, or `error`.

        Raises
        ------
        SignInFailed
            The answer does not belong to the flow, the provider refused, or the ID token cannot be accepted.
        ProviderError
            The provider does not answer.
        """
        if not hmac.compare_digest(flow.state.encode(), parameters.get("state", "").encode("utf-8", "replace")):
            raise SignInFailed("the provider's answer belongs to another sign-in (wrong state); sign in again")
        if parameters.get("iss", self.client.issuer) != self.client.issuer:
            raise SignInFailed("the answer does not come from the provider in PLATFORM_OIDC_ISSUER")
        if parameters.get("error"):
            code = parameters["error"] if parameters["error"].replace("_", "").isalnum() else "unreadable"
            raise SignInFailed(
                f"the provider refused the sign-in ({code[:60]}); sign in again, or ask the provider's administrator"
            )
        if not parameters.get("code"):
            raise SignInFailed("the provider sent no code; sign in again")
        return self._identity(self._claims(self._redeemed(parameters["code"], flow), flow.nonce))

    def _redeemed(self, code: str, flow: Flow) -> str:
        """Exchange a code for an ID token."""
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self.client.redirect_uri,
            "code_verifier": flow.verifier,
        }
        found = self.configuration()
        methods = found.get("token_endpoint_auth_methods_supported") or ["client_secret_basic"]
        basic = None
        if self.client.client_secret and "client_secret_basic" in methods:
            # In basic authentication, the client's id and secret are form-encoded (RFC 6749, 2.3.1).
            basic = quote(self.client.client_id, safe=""), quote(self.client.client_secret, safe="")
        else:
            form |= {"client_id": self.client.client_id}
            form |= {"client_secret": self.client.client_secret} if self.client.client_secret else {}
        status, answer = self._http.post(found["token_endpoint"], form, basic)
        token = answer.get("id_token")
        if not isinstance(token, str):
            told = str(answer.get("error", f"status {status}"))
            code = told if told.replace("_", "").replace(" ", "").isalnum() else "unreadable"
            raise SignInFailed(f"the provider did not accept the sign-in ({code[:60]}); sign in again")
        return token

    def _claims(self, token: str, nonce: str) -> dict[str, Any]:
        import jwt

        try:
            key, algorithm = self._keys.of(jwt.get_unverified_header(token))
            claims: dict[str, Any] = jwt.decode(
                token,
                key,
                algorithms=[algorithm],
                audience=self.client.client_id,
                issuer=self.client.issuer,
                leeway=LEEWAY_SECONDS,
                options={"require": _REQUIRED},
            )
        except jwt.PyJWTError as error:
            raise SignInFailed(f"the provider's ID token is not valid: {first_line(error)}") from None
        if not hmac.compare_digest(str(claims["nonce"]).encode("utf-8", "replace"), nonce.encode()):
            raise SignInFailed("the provider's ID token belongs to another sign-in (wrong nonce); sign in again")
        several = isinstance(claims["aud"], list) and len(claims["aud"]) > 1
        if claims.get("azp", None if several else self.client.client_id) != self.client.client_id:
            raise SignInFailed("the provider's ID token was issued to another client")
        return claims

    def _identity(self, claims: Mapping[str, Any]) -> Identity:
        name = claims.get(self.client.claim)
        if not isinstance(name, str) or not name.strip() or len(name) > _LONGEST_NAME or unprintable(name):
            raise SignInFailed(
                f"the provider's ID token has no usable claim {self.client.claim}, which must name the person; an "
                "administrator can add it at the provider, or set PLATFORM_OIDC_CLAIM to another claim"
            )
        if self.client.claim == "email" and claims.get("email_verified") not in (True, "true"):
            raise SignInFailed(
                "the provider does not state that this email address is verified (email_verified); verify the address, "
                "or set PLATFORM_OIDC_CLAIM to a claim that people cannot change"
            )
        groups = claims.get(self.client.groups_claim) or []
        listed = [groups] if isinstance(groups, str) else groups if isinstance(groups, list) else []
        return Identity(name.strip(), frozenset(one for one in listed if isinstance(one, str)), "oidc")

    def examine(self) -> str:
        """Return the reason why people cannot sign in at the provider; empty if they can sign in."""
        try:
            self.configuration()
            usable = self._keys.load()
        except PlatformError as error:
            return str(error)
        return "" if usable else f"{self.client.issuer} publishes no key for RS256 or ES256"
