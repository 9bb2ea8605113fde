"""Settings for API keys, and for the ways to sign in without them."""

from __future__ import annotations

import re
from ipaddress import ip_network
from typing import Annotated, Literal, Self

from pydantic import Field, SecretStr, field_validator, model_validator

from platform_assets.settings.groups import SettingsGroup
from platform_assets.settings.variables import variable


class IdentitySettings(SettingsGroup):
    """API keys, and the ways in which people sign in without them."""

    api_keys: Annotated[
        SecretStr,
        Field(
            description="API keys of a service without a database: `name:scope:sha256`, separated by commas. Join "
            "several scopes with `+`."
        ),
    ] = SecretStr("")
    api_key: Annotated[
        SecretStr, Field(description="Your API key. `platform-assets decide` and `rollback` identify you by it.")
    ] = SecretStr("")
    approvals_require_identity: Annotated[
        Literal["off", "on"] | None,
        Field(
            description="`on`: only people who are identified by an API key may decide about a model. Default: `on` in "
            "production, `off` in development."
        ),
    ] = None
    sign_in_key: Annotated[
        SecretStr,
        Field(
            description="API key with the scope `identify`. The service uses it to start sessions for people who sign "
            "in by OpenID Connect or through a proxy. See [Sign in](sign-in.md)."
        ),
    ] = SecretStr("")
    group_scopes: Annotated[
        str,
        Field(
            description="Scopes to grant to each group of the OpenID Connect provider or the proxy: "
            "`GROUP=read+approve; OTHER=read`. Default: groups grant no scopes, and only enrolled people can sign in."
        ),
    ] = ""
    oidc_issuer: Annotated[
        str,
        Field(
            description="Issuer of the OpenID Connect provider with which people sign in to the pages. The provider's "
            "configuration is read from `<issuer>/.well-known/openid-configuration`. Default: people sign in with keys."
        ),
    ] = ""
    oidc_client_id: Annotated[str, Field(description="Client id of the service at the OpenID Connect provider.")] = ""
    oidc_client_secret: Annotated[
        SecretStr, Field(description="Client secret of the service. Default: none, for a public client.")
    ] = SecretStr("")
    oidc_claim: Annotated[
        str,
        Field(
            description="Claim of the ID token that names a person. People must not be able to change its value. "
            "`email` also needs the claim `email_verified`."
        ),
    ] = "email"
    oidc_groups_claim: Annotated[str, Field(description="Claim of the ID token with the person's groups or roles.")] = (
        "groups"
    )
    oidc_request_scopes: Annotated[
        str, Field(description="OAuth scopes that the service requests from the OpenID Connect provider.")
    ] = "openid email profile"
    proxy_user_header: Annotated[
        str,
        Field(
            description="Header in which a trusted proxy names the signed-in person, for example "
            "`X-Forwarded-Email`. Default: no proxy signs people in."
        ),
    ] = ""
    proxy_groups_header: Annotated[
        str, Field(description="Header in which the proxy lists the person's groups, separated by commas.")
    ] = ""
    proxy_trusted: Annotated[
        str,
        Field(description="IP addresses or networks of the proxy, separated by commas, for example `10.0.3.0/24`."),
    ] = ""
    proxy_secret: Annotated[
        SecretStr,
        Field(
            description="Secret that the proxy must send in the header `X-Platform-Proxy-Secret`. Default: the address "
            "of the proxy is enough."
        ),
    ] = SecretStr("")

    @field_validator("oidc_issuer")
    @classmethod
    def _issuer(cls, text: str) -> str:
        # Allow plain HTTP only to this machine, because the keys that verify identities come from the issuer.
        if text and not re.fullmatch(r"(https://[^\s/?#@]+|http://(localhost|127\.0\.0\.1)(:\d+)?)(/[^\s?#]*)?", text):
            raise ValueError(
                "must be the issuer's https address without user and query, exactly as the provider states it, for "
                "example https://login.example.org/realms/staff"
            )
        return text

    @field_validator("proxy_user_header", "proxy_groups_header")
    @classmethod
    def _header(cls, text: str) -> str:
        if text and not re.fullmatch(r"[A-Za-z0-9-]{1,100}", text):
            raise ValueError(f"must be the name of a header, for example X-Forwarded-Email, not {text!r}")
        return text

    @field_validator("proxy_trusted")
    @classmethod
    def _networks(cls, text: str) -> str:
        for one in filter(None, map(str.strip, text.split(","))):
            try:
                ip_network(one)
            except ValueError as error:
                raise ValueError(f"must be IP addresses or networks, for example 10.0.3.0/24: {error}") from None
        return text

    @field_validator("group_scopes")
    @classmethod
    def _groups(cls, text: str) -> str:
        for entry in filter(None, map(str.strip, re.split(r"[;\n]", text))):
            if not re.fullmatch(r"[^=]*[^=\s]\s*=\s*\w+(\s*\+\s*\w+)*", entry):
                raise ValueError(f"must be GROUP=scope+scope, with semicolons between groups, not {entry!r}")
        return text

    @model_validator(mode="after")
    def _sign_in_is_complete(self) -> Self:
        needs = {
            "oidc_issuer": ("oidc_client_id", "sign_in_key"),
            "proxy_user_header": ("proxy_trusted", "sign_in_key"),
            "oidc_client_id": ("oidc_issuer",),
            "proxy_groups_header": ("proxy_user_header",),
        }
        for name, others in needs.items():
            lacking = [variable(other) for other in others if not getattr(self, other)]
            if getattr(self, name) and lacking:
                raise ValueError(f"{' and '.join(lacking)} must be set as well, because {variable(name)} is set")
        return self
