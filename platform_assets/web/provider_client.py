"""HTTP requests to an OpenID Connect provider, with limits of time and size."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from platform_assets.base.errors import PlatformError

if TYPE_CHECKING:
    import httpx

SECONDS = 5.0
"""Timeout for connecting to the provider, and for waiting for the next bytes of its answer."""
MOST_BYTES = 1 << 20
"""Maximum size of an answer."""
_ENDPOINTS = ("authorization_endpoint", "token_endpoint", "jwks_uri")


class ProviderError(PlatformError):
    """The OpenID Connect provider does not answer, or its answer cannot be used."""

    status = 503
    problem = "provider-unavailable"
    is_temporary = True


class ProviderClient:
    """Requests to one provider.

    Parameters
    ----------
    issuer
        Address of the issuer.
    """

    def __init__(self, issuer: str) -> None:
        self._issuer = issuer
        self._is_local = issuer.startswith("http:")

    def configuration(self) -> dict[str, Any]:
        """Return the provider's configuration.

        Raises
        ------
        ProviderError
            The provider does not answer, or its configuration is incomplete or belongs to another issuer.
        """
        address = f"{self._issuer.rstrip('/')}/.well-known/openid-configuration"
        found = self.json(address)
        if found.get("issuer") != self._issuer:
            raise ProviderError(
                f"{address} is the configuration of the issuer {str(found.get('issuer'))[:200]!r}; set "
                "PLATFORM_OIDC_ISSUER to exactly that value if this is your provider"
            )
        for name in _ENDPOINTS:
            scheme = urlsplit(str(found.get(name))).scheme
            if scheme != "https" and not (self._is_local and scheme == "http"):
                raise ProviderError(f"the configuration at {address} has no https address for {name}")
        return found

    def json(self, address: str) -> dict[str, Any]:
        """Return the JSON object at an address.

        Raises
        ------
        ProviderError
            The address does not return a JSON object.
        """
        status, found = self._answer("GET", address)
        if status != 200:  # noqa: PLR2004 - HTTP's OK
            raise ProviderError(f"the OpenID Connect provider answered the request to {address} with status {status}")
        return found

    def post(self, address: str, form: dict[str, str], basic: tuple[str, str] | None) -> tuple[int, dict[str, Any]]:
        """Send a form, with HTTP's basic authentication if given; return the status and the JSON object.

        Raises
        ------
        ProviderError
            The answer is not a JSON object.
        """
        return self._answer("POST", address, data=form, auth=basic)

    def _answer(self, method: str, address: str, **options: Any) -> tuple[int, dict[str, Any]]:
        import httpx

        try:
            # Do not follow redirects. For a provider on this machine, ignore the proxy in the environment variables.
            with (
                httpx.Client(timeout=SECONDS, trust_env=not self._is_local) as client,
                client.stream(method, address, headers={"Accept": "application/json"}, **options) as response,
            ):
                return response.status_code, _parsed(response, address)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise ProviderError(
                f"the OpenID Connect provider does not answer at {address} ({type(error).__name__}); try again later"
            ) from None


def _parsed(response: httpx.Response, address: str) -> dict[str, Any]:
    content = b""
    for part in response.iter_bytes():
        content += part
        if len(content) > MOST_BYTES:
            raise ProviderError(
                f"the OpenID Connect provider's answer at {address} is larger than {MOST_BYTES:,} bytes"
            )
    try:
        found = json.loads(content)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise ProviderError(f"the OpenID Connect provider's answer at {address} is not a JSON object")
    return found
