"""Settings for the HTTP service, its limits, and the addresses of the servers that it links to."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, SecretStr, field_validator

from platform_assets.settings.groups import SettingsGroup
from platform_assets.settings.redis_url import RedisUrl

NO_LIMIT = "off"
"""Value of PLATFORM_RATE_LIMIT that switches the limit off."""


class ServiceSettings(SettingsGroup):
    """The HTTP service, its limits, and the addresses of the servers that it links to."""

    dagster_port: Annotated[int, Field(ge=1, le=65535, description="Port of Dagster's UI under `make up`.")] = 3000
    mlflow_port: Annotated[int, Field(ge=1, le=65535, description="Port of MLflow under `make up`.")] = 5000
    service_port: Annotated[int, Field(ge=1, le=65535, description="Port of the HTTP service.")] = 8000
    dagster_url: Annotated[
        str,
        Field(
            description="Address of Dagster's UI, also for links. Required if people open the UI under a host name "
            "that contains a dot, because the UI [refuses other host "
            "names](security.md#dagsters-ui-and-other-web-sites). If empty, links use its address under `make up` in "
            "development, and are omitted in production.",
        ),
    ] = ""
    mlflow_url: Annotated[
        str,
        Field(
            description="Address of MLflow for links. If empty, links use its address under `make up` in "
            "development, and are omitted in production."
        ),
    ] = ""
    service_url: Annotated[
        str,
        Field(
            description="Address of the service for links. If empty, links use its address under `make up` in "
            "development, and are omitted in production."
        ),
    ] = ""
    serve_workers: Annotated[
        int, Field(ge=1, le=256, description="Number of processes of the HTTP service, which share its port.")
    ] = 1
    predictions_logged: Annotated[
        Literal["after", "before"],
        Field(
            description="`after`: the service logs a prediction within about 0.2 s of its response. `before`: it logs "
            "the prediction before it responds, which is slower, but no prediction is lost if the process is killed."
        ),
    ] = "after"
    rate_limit: Annotated[
        str,
        Field(
            description="Requests allowed per API key, or per IP address for requests without a key. `off`: no limit."
        ),
    ] = "600/minute"
    limits_url: Annotated[
        RedisUrl,
        Field(
            description="Redis server in which all processes of the service count requests for `PLATFORM_RATE_LIMIT`: "
            "`redis://user:password@host:6379/0`, or `rediss://..` for TLS. Needs the extra `redis`. Default: each "
            "process counts its own requests. See [Rate limits](service.md#rate-limits)."
        ),
    ] = SecretStr("")
    bundle: Annotated[
        Path | None,
        Field(
            description="Folder written by `platform-assets export`. If set, `platform-assets serve` serves only the "
            "model in this folder and needs neither the database nor the lake."
        ),
    ] = None

    @field_validator("dagster_url", "mlflow_url", "service_url")
    @classmethod
    def _address(cls, text: str) -> str:
        if text and not re.fullmatch(r"https?://[^\s/?#@]+(/[^\s?#]*)?", text):
            raise ValueError("must be a URL without user name or query, for example https://dagster.example.org")
        return text.rstrip("/")

    @field_validator("rate_limit")
    @classmethod
    def _rate(cls, text: str) -> str:
        if text != NO_LIMIT and not re.fullmatch(r"[1-9]\d{0,8}/(second|minute|hour|day)", text):
            raise ValueError(f"must be a number per second, minute, hour or day, for example 600/minute, or {NO_LIMIT}")
        return text
