"""Environment variables of the arXiv harvest."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, field_validator

from platform_assets.settings import DomainSettings


class ArxivSettings(DomainSettings):
    """Address of arXiv, and limits for requests to it."""

    arxiv_base_url: Annotated[
        str,
        Field(
            description="Address of the arXiv API. Default: `https://export.arxiv.org/api/query` if "
            "`PLATFORM_SOURCES=live`; a local server with sample papers if `PLATFORM_SOURCES=demo`."
        ),
    ] = ""
    arxiv_contact: Annotated[
        str,
        Field(description="Email address for the `User-Agent` header. Required for requests to arxiv.org."),
    ] = ""
    arxiv_interval_seconds: Annotated[
        float,
        Field(
            ge=0,
            description="Minimum time between two requests to arXiv, in seconds, across all processes. For arxiv.org, "
            "values below 3 are raised to 3, as arXiv's terms of use require.",
        ),
    ] = 3.0
    arxiv_wait_seconds: Annotated[
        float, Field(gt=0, description="Seconds that `POST /arxiv` waits for arXiv before it returns 503.")
    ] = 30.0

    @field_validator("arxiv_base_url")
    @classmethod
    def _address(cls, text: str) -> str:
        if text and not text.startswith(("http://", "https://")):
            raise ValueError("must be a URL that starts with http:// or https://, for example https://export.arxiv.org")
        return text.rstrip("/")

    @field_validator("arxiv_contact")
    @classmethod
    def _printable(cls, text: str) -> str:
        if not (text.isascii() and text.isprintable()):
            raise ValueError("must be an email address in ASCII, because it is sent in an HTTP header")
        return text.strip()
