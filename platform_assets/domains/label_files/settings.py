"""The environment variables of label files."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from platform_assets.settings import DomainSettings


class LabelFilesSettings(DomainSettings):
    """Location of the files with labels."""

    labels_landing_uri: Annotated[
        str,
        Field(
            description="Folder to load label files from: a path, or any fsspec URI of a folder. Default: "
            "if `PLATFORM_SOURCES=demo`, the folder `landing/labels` in `PLATFORM_HOME`, which is empty at first; if "
            "`live`, no folder, so no label files are loaded."
        ),
    ] = ""
    labels_settle_seconds: Annotated[
        float,
        Field(
            ge=0, description="Seconds for which a file's size and modification time must not change before it is read."
        ),
    ] = 10.0
