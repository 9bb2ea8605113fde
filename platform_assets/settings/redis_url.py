"""Type of a setting that holds the URL of a Redis server."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, SecretStr

_REDIS = r"rediss?://([^\s/?#@]*@)?([^\s/?#@:\[\]]+|\[[0-9a-fA-F:.]+\])(:(?P<port>\d{1,5}))?(/\d*)?"
_LARGEST_PORT = 65_535


def _check(text: SecretStr) -> SecretStr:
    if not text.get_secret_value():
        return text
    url = re.fullmatch(_REDIS, text.get_secret_value())
    if url is None or int(url["port"] or 0) > _LARGEST_PORT:
        raise ValueError(
            "must be redis://host:port/database or rediss://host:port/database, where database is a number; if the "
            "server has a password, put user:password@ before the host and percent-encode special characters"
        )
    return text


RedisUrl = Annotated[SecretStr, AfterValidator(_check)]
"""A `redis://` or `rediss://` URL; empty if there is no server."""
