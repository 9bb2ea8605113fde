"""Sign-in by OpenID Connect, against a provider on loopback."""

from __future__ import annotations

import base64
import hmac
import json
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

import jwt
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from platform_assets.web.identity import Identity
from platform_assets.web.openid_connect import LEEWAY_SECONDS, Flow, Provider, Registration, SignInFailed
from platform_assets.web.provider_client import ProviderError
from platform_assets_tests.openid_provider import CLIENT, SECRET, OpenIdProvider, openid_provider, signing_key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.requirement("PRO-4")

BACK = "http://localhost/sign-in/callback"
KEY = b"k" * 32


@pytest.fixture(scope="module")
def running() -> Iterator[OpenIdProvider]:
    with openid_provider() as provider:
        yield provider


@pytest.fixture
def server(running: OpenIdProvider) -> OpenIdProvider:
    running.__init__(running.issuer)  # type: ignore[misc]  # forgets what the last test changed
    return running


def provider_of(server: OpenIdProvider, **changes: Any) -> Provider:
    fields = {"issuer": server.issuer, "client_id": CLIENT, "client_secret": SECRET, "redirect_uri": BACK}
    return Provider(Registration(**(fields | changes)))


def signed_in(server: OpenIdProvider, provider: Provider | None = None, **changes: str) -> Identity:
    """Sign in as a browser does. `changes` overrides query parameters of the provider's redirect."""
    provider = provider or provider_of(server)
    address, flow = provider.begin("/approvals")
    back = server.authorize(dict(parse_qsl(urlsplit(address).query)))
    return provider.finish(flow, dict(parse_qsl(urlsplit(back).query)) | changes)


@pytest.mark.parametrize("key", ["first", "ec first"])
def test_sign_in_returns_the_name_and_the_groups_of_the_person(server: OpenIdProvider, key: str) -> None:
    server.keys, server.current = [key], key
    server.person["groups"] = ["staff", "risk"]
    found = signed_in(server)
    assert found == Identity("anna@example.com", frozenset({"staff", "risk"}), "oidc")


def test_a_client_secret_is_sent_in_the_form_if_the_provider_requires_that(server: OpenIdProvider) -> None:
    server.configuration["token_endpoint_auth_methods_supported"] = ["client_secret_post"]
    assert signed_in(server).name == "anna@example.com"
    with pytest.raises(SignInFailed, match="invalid_client"):
        signed_in(server, provider_of(server, client_secret="guessed"))


def test_a_small_clock_difference_is_accepted(server: OpenIdProvider) -> None:
    server.spoil = lambda claims: claims | {"exp": time.time() - LEEWAY_SECONDS / 2, "iat": time.time() + 20}
    assert signed_in(server).name == "anna@example.com"


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"iss": "https://elsewhere.example"}, "Invalid issuer"),
        ({"aud": "another client"}, "Audience"),
        ({"aud": [CLIENT, "another client"]}, "issued to another client"),
        ({"azp": "another client"}, "issued to another client"),
        ({"nonce": "of another sign-in"}, "wrong nonce"),
        ({"nonce": None}, "nonce"),
        ({"exp": 1}, "expired"),
        ({"exp": None}, "exp"),
        ({"iat": 1 << 40}, "not yet valid"),
        ({"nbf": 1 << 40}, "not yet valid"),
        ({"sub": None}, "sub"),
        ({"email_verified": False}, "is verified"),
        ({"email_verified": None}, "is verified"),
        ({"email": None}, "no usable claim email"),
        ({"email": ["anna@example.com"]}, "no usable claim email"),
        ({"email": "anna@exam\u202eple.com"}, "no usable claim email"),
    ],
)
def test_a_token_with_wrong_claims_is_refused(server: OpenIdProvider, changes: dict[str, Any], told: str) -> None:
    server.spoil = lambda claims: {name: value for name, value in (claims | changes).items() if value is not None}
    with pytest.raises(SignInFailed, match=told):
        signed_in(server)


def unsigned(claims: dict[str, Any]) -> str:
    return jwt.encode(claims, "", "none", {"kid": "first"})


def signed_with_public_key(claims: dict[str, Any]) -> str:
    """Sign with HS256 and the provider's public key as the secret, without PyJWT, which refuses such a key."""
    public = signing_key("first").public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    parts = [json.dumps(part).encode() for part in ({"alg": "HS256", "kid": "first"}, claims)]
    text = b".".join(base64.urlsafe_b64encode(part).rstrip(b"=") for part in parts)
    return (text + b"." + base64.urlsafe_b64encode(hmac.digest(public, text, "sha256")).rstrip(b"=")).decode()


def signed_by(key: str, kid: str | None = "first", algorithm: str = "RS256") -> Callable[[dict[str, Any]], str]:
    return lambda claims: jwt.encode(claims, signing_key(key), algorithm, {"kid": kid} if kid else None)


@pytest.mark.parametrize(
    ("sign", "told"),
    [
        (unsigned, "algorithm is 'none'"),
        (signed_with_public_key, "algorithm is 'HS256'"),
        (signed_by("stolen"), "Signature verification failed"),
        (signed_by("first", algorithm="RS512"), "algorithm is 'RS512'"),
        (signed_by("first", kid="unknown"), "does not publish the key"),
        (signed_by("ec other", algorithm="ES256"), "does not publish the key"),
        (lambda _: "no token", "not valid"),
        (lambda _: "", "did not accept|not valid"),
    ],
)
def test_a_token_with_a_wrong_signature_is_refused(
    server: OpenIdProvider, sign: Callable[[dict[str, Any]], str], told: str
) -> None:
    server.sign = sign
    with pytest.raises(SignInFailed, match=told):
        signed_in(server)


def test_a_signing_key_that_is_too_short_is_refused(server: OpenIdProvider) -> None:
    server.keys = ["short"]
    # Sign with a long key, because PyJWT warns about short ones. The provider still publishes the short key, and
    # its size is checked before the signature.
    server.sign = signed_by("first", kid="short")
    with pytest.raises(SignInFailed, match="at least 2048"):
        signed_in(server)


def test_a_rotated_key_is_found_and_a_withdrawn_key_is_refused(server: OpenIdProvider) -> None:
    provider = provider_of(server)
    signed_in(server, provider)
    server.keys, server.current = ["first", "second"], "second"
    assert signed_in(server, provider).name == "anna@example.com"
    server.keys, server.current = ["third"], "third"
    signed_in(server, provider)
    server.current = "second"
    with pytest.raises(SignInFailed, match="does not publish the key"):
        signed_in(server, provider)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"state": "of another sign-in"}, "wrong state"),
        ({"state": ""}, "wrong state"),
        ({"iss": "https://elsewhere.example"}, "does not come from the provider"),
        ({"error": "access_denied"}, "refused the sign-in .access_denied"),
        ({"error": "<script>"}, "refused the sign-in .unreadable"),
        ({"code": ""}, "no code"),
        ({"code": "invented"}, "invalid_grant"),
    ],
)
def test_a_redirect_with_wrong_parameters_is_refused(
    server: OpenIdProvider, changes: dict[str, str], told: str
) -> None:
    with pytest.raises(SignInFailed, match=told):
        signed_in(server, None, **changes)


def test_an_authorization_code_works_only_once_and_only_with_its_verifier(server: OpenIdProvider) -> None:
    provider = provider_of(server)
    address, flow = provider.begin("/approvals")
    back = dict(parse_qsl(urlsplit(server.authorize(dict(parse_qsl(urlsplit(address).query)))).query))
    stolen = Flow(flow.state, flow.nonce, "another verifier", flow.next)
    held = dict(server.codes)
    with pytest.raises(SignInFailed, match="invalid_grant"):
        provider.finish(stolen, back)
    server.codes.update(held)
    provider.finish(flow, back)
    with pytest.raises(SignInFailed, match="invalid_grant"):
        provider.finish(flow, back)


def test_a_forged_or_expired_sign_in_cookie_is_refused(server: OpenIdProvider) -> None:
    _, flow = provider_of(server).begin("/approvals/3")
    text = flow.sealed(KEY)
    assert Flow.opened(text, KEY) == flow
    old = jwt.encode({"state": "s", "nonce": "n", "verifier": "v", "next": "/", "exp": 1}, KEY)
    unsigned_flow = jwt.encode({"state": "s", "nonce": "n", "verifier": "v", "next": "/"}, "", "none")
    for forged in ("", "x", text[:-2], text + "x", flow.sealed(b"x" * 32), old, unsigned_flow):
        with pytest.raises(SignInFailed, match="did not begin a sign-in"):
            Flow.opened(forged, KEY)


def test_the_error_for_an_unusable_provider_gives_the_reason(server: OpenIdProvider) -> None:
    assert provider_of(server).examine() == ""
    for issuer, told in (
        (f"{server.issuer}/", "exactly that value"),
        (f"{server.issuer}/elsewhere", "status 404"),
        ("http://127.0.0.1:9", "does not answer"),
    ):
        provider = provider_of(server, issuer=issuer)
        assert told in provider.examine()
        with pytest.raises(ProviderError, match=told):
            provider.begin("/approvals")
    server.configuration["token_endpoint"] = "file:///etc/passwd"
    assert "has no https address for token_endpoint" in provider_of(server).examine()
    server.__init__(server.issuer)  # type: ignore[misc]
    server.keys = []
    assert "publishes no key" in provider_of(server).examine()
