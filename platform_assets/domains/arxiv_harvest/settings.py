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
            description="Address of the arXiv API. Default: with `PLATFORM_SOURCES=demo` a local server with sample "
            "papers, with `live` `https://export.arxiv.org/api/query`."
        ),
    ] = ""
    arxiv_contact: Annotated[
        str,
        Field(description="E-mail address for the `User-Agent` header. Required for requests to arxiv.org."),
    ] = ""
    arxiv_interval_seconds: Annotated[
        float,
        Field(
            ge=0,
            description="Seconds between two requests to arXiv, over all processes. arXiv asks for at least 3, so "
            "arxiv.org is never asked more often.",
        ),
    ] = 3.0
    arxiv_wait_seconds: Annotated[
        float, Field(gt=0, description="Seconds for which `POST /arxiv` waits for arXiv before it answers 503.")
    ] = 30.0

    @field_validator("arxiv_base_url")
    @classmethod
    def _address(cls, text: str) -> str:
        if text and not text.startswith(("http://", "https://")):
            raise ValueError("an address that begins with http:// or https://, for example https://export.arxiv.org")
        return text.rstrip("/")

    @field_validator("arxiv_contact")
    @classmethod
    def _printable(cls, text: str) -> str:
        if not (text.isascii() and text.isprintable()):
            raise ValueError("an e-mail address in ASCII, because it is sent as an HTTP header")
        return text.strip()
