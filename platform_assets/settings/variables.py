"""Names of the environment variables, and the secrets in their values."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING
from urllib.parse import unquote

if TYPE_CHECKING:
    from collections.abc import Collection

PREFIX = "PLATFORM_"
# A password may contain a slash, but digits between a colon and a slash are a port, as in `host:5432/`. In URIs with
# Azure's schemes (abfs, abfss, wasb, wasbs), the text before the @ is the container, not a user.
USERINFO = re.compile(
    r"(?<!abfs)(?<!abfss)(?<!wasb)(?<!wasbs)://(?P<userinfo>[^\s/?]*|[^\s/:@]*:(?!:|\d+(?:[/?]|$))\S*?)@"
)
"""Pattern of the user and password of a URI."""
SHORTEST_SECRET = 12
"""Minimum length of a query value, or of a user name without a password, that is masked in a URI."""
SHORTEST_NAMED_SECRET = 6
"""Minimum length at which the value of a variable that matches `SECRET_NAME` is masked.

Shorter values such as `on` or `100` are not secrets.
"""
SECRET_NAME = re.compile(r"token|passw(or)?d|pwd|secret|credential|signature|webhook|(^|_)keys?(_|$)", re.IGNORECASE)
"""Pattern of the names of variables with secrets."""


def variable(field: str) -> str:
    """Return the name of the environment variable for a field of the settings."""
    return PREFIX + field.upper()


def secrets_in_environment(without: Collection[str]) -> list[str]:
    """Return the secrets in the PLATFORM_ variables of the environment.

    Parameters
    ----------
    without
        Fields of the settings whose variables are left out.
    """
    own = {variable(field) for field in without}
    found: list[str] = []
    for name, given in os.environ.items():
        value = given.strip()
        if not name.startswith(PREFIX) or name in own:
            continue
        found += secrets_in_uri(value) if "://" in value else []
        if SECRET_NAME.search(name.removeprefix(PREFIX)) and len(value) >= SHORTEST_NAMED_SECRET:
            found.append(value)
    return found


def secrets_in_uri(uri: str) -> list[str]:
    """Return the user, the password and the long query values of a URI.

    Short query values are not returned, because masking them would mask common words.
    """
    found = []
    for userinfo in (match["userinfo"] for match in USERINFO.finditer(uri)):
        password = userinfo.partition(":")[2]
        found += [userinfo, password] if password or len(userinfo) >= SHORTEST_SECRET else []
    found += [value for value in re.findall(r"[?&][^=&]*=([^&\s]+)", uri) if len(value) >= SHORTEST_SECRET]
    return list(dict.fromkeys(form for text in found if text for form in (text, unquote(text))))
