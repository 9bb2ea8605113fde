"""Sign-in of people without keys: by an OpenID Connect provider, or through a trusted proxy."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from platform_assets.web.identity import GroupScopes
from platform_assets.web.key_errors import PersonRefused

if TYPE_CHECKING:
    from collections.abc import Callable

    from platform_assets.settings import Settings
    from platform_assets.web.api_keys import Keys
    from platform_assets.web.identity import Identity
    from platform_assets.web.openid_connect import Provider
    from platform_assets.web.trusted_proxy import TrustedProxy

PERSON_SECONDS = 60 * 60
"""Lifetime, in seconds, of the session of a person without a key.

It is only one hour, because a change of the person's groups takes effect at the next sign-in.
"""


@dataclass(frozen=True)
class SignIn:
    """The ways in which people sign in without keys.

    Attributes
    ----------
    provider, proxy
        The OpenID Connect provider and the trusted proxy; None if not set.
    groups
        Scopes that groups grant.
    keys
        Function that returns the store of keys in the database.
    secret
        Secret of the key with the scope `identify`.
    """

    provider: Provider | None = None
    proxy: TrustedProxy | None = None
    groups: GroupScopes = field(default_factory=lambda: GroupScopes(""))
    keys: Callable[[], Keys] | None = field(default=None, repr=False)
    secret: str = field(default="", repr=False)

    @property
    def flow_key(self) -> bytes:
        """Key that signs the cookies of sign-ins in progress; all processes of the service use the same key."""
        return hmac.new(self.secret.encode(), b"platform-assets sign-in flow", hashlib.sha256).digest()

    def begin_session(self, identity: Identity) -> str:
        """Start a session for a person; return its token.

        Raises
        ------
        PersonRefused
            The person is unknown or revoked, or none of the person's groups grants a scope.
        """
        allowed = self.groups.of(identity.groups)
        if allowed is not None and not allowed:
            raise PersonRefused(
                f"{identity.name} is in no group to which PLATFORM_GROUP_SCOPES gives a scope; an administrator can "
                "add a group of this person to PLATFORM_GROUP_SCOPES, or add the person to a group that it names"
            )
        assert self.keys is not None  # noqa: S101 - narrows the type
        return self.keys().sign_in_person(identity.name, allowed, identity.via, self.secret, PERSON_SECONDS)


def open_sign_in(settings: Settings, keys: Callable[[], Keys]) -> SignIn:
    """Return the ways to sign in that the settings configure.

    Parameters
    ----------
    settings
        The platform's settings.
    keys
        Function that returns the store of keys in the database.

    Raises
    ------
    KeysError
        PLATFORM_GROUP_SCOPES names an unknown scope.
    """
    from platform_assets.web.openid_connect import Provider, Registration
    from platform_assets.web.trusted_proxy import TrustedProxy

    address = settings.service_url or f"http://localhost:{settings.service_port}"
    client = Registration(
        settings.oidc_issuer,
        settings.oidc_client_id,
        settings.oidc_client_secret.get_secret_value(),
        f"{address}/sign-in/callback",
        settings.oidc_claim,
        settings.oidc_groups_claim,
        settings.oidc_request_scopes,
    )
    proxy = TrustedProxy(
        settings.proxy_user_header,
        settings.proxy_groups_header,
        settings.proxy_trusted,
        settings.proxy_secret.get_secret_value(),
    )
    return SignIn(
        Provider(client) if settings.oidc_issuer else None,
        proxy if settings.proxy_user_header else None,
        GroupScopes(settings.group_scopes),
        keys,
        settings.sign_in_key.get_secret_value(),
    )
