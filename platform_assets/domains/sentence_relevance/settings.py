"""The environment variables of sentence relevance."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from platform_assets.settings import DomainSettings


class SentenceRelevanceSettings(DomainSettings):
    """Locations of the labelled sentences and of the sentence encoder."""

    sentences_archive_uri: Annotated[
        str,
        Field(
            description="Labelled sentences, as a gzip tarball of the base64 text of a SQLite database: a path or any "
            "fsspec URI. Default: sample data."
        ),
    ] = ""
    sentences_encoder_uri: Annotated[
        str,
        Field(
            description="Folder with the files `model.onnx` and `tokenizer.json` of a sentence encoder: a path or any "
            "fsspec URI. An encoder needs the extra `encoder`. Default: no encoder, and candidates that use one are "
            "skipped."
        ),
    ] = ""
