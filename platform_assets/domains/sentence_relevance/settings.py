"""The environment variables of sentence relevance."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from platform_assets.settings import DomainSettings


class SentenceRelevanceSettings(DomainSettings):
    """Location of the labelled sentences."""

    sentences_archive_uri: Annotated[
        str,
        Field(
            description="The labelled sentences: a gzip tarball of the base64 text of a SQLite database; empty: "
            "demo data."
        ),
    ] = ""
