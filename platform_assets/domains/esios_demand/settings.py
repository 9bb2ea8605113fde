"""The domain's environment variables."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, SecretStr, field_validator

from platform_assets.settings import DomainSettings

ESIOS = "https://api.esios.ree.es"


class EsiosSettings(DomainSettings):
    """Settings for the ESIOS API of the Spanish grid operator."""

    esios_base_url: Annotated[
        str,
        Field(
            description=f"Address of the ESIOS API. Default: `{ESIOS}` if `PLATFORM_SOURCES=live`; a local server with "
            "sample data if `PLATFORM_SOURCES=demo`."
        ),
    ] = ""
    esios_token: Annotated[
        SecretStr,
        Field(
            description="Personal token of the API, sent as the header `x-api-key`. Required, except for the local "
            "server with sample data."
        ),
    ] = SecretStr("")
    esios_indicator: Annotated[int, Field(ge=1, description="Indicator id of the series.")] = 460
    esios_indicator_name: Annotated[
        str,
        Field(
            min_length=1,
            description="Spanish name of the series. The API must list the indicator under this name; accents and "
            "case are ignored.",
        ),
    ] = "Previsión diaria de la demanda eléctrica peninsular"
    esios_geography: Annotated[int, Field(ge=1, description="Id of the geography; 8741 is the peninsula.")] = 8741
    esios_reread_days: Annotated[
        int,
        Field(
            ge=0,
            description="Number of past days. The daily schedule reads the months of these days again, to load "
            "corrected values.",
        ),
    ] = 10

    @field_validator("esios_base_url")
    @classmethod
    def _address(cls, text: str) -> str:
        if text and not text.startswith(("http://", "https://")):
            raise ValueError(f"must be a URL that starts with http:// or https://, for example {ESIOS}")
        return text.rstrip("/")

    @field_validator("esios_token")
    @classmethod
    def _header(cls, token: SecretStr) -> SecretStr:
        text = token.get_secret_value()
        if not (text.isascii() and text.isprintable()) or " " in text:
            raise ValueError(
                "must be a token in ASCII without spaces or line breaks, because it is sent in an HTTP header"
            )
        return token
