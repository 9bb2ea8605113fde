"""Session settings that every connection of the platform requests, so that the server and the shell cannot change them.

The settings are part of the connection URL, because Dagster and MLflow open their own connections with psycopg 2.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sqlalchemy import URL

_SEARCH_PATH = "-c search_path=public"
_FORMATS = "-c DateStyle=ISO,MDY -c IntervalStyle=postgres -c TimeZone=UTC -c extra_float_digits=1"
# libpq sends these three to the server after `options`, so that they would override the URL.
_OVERRIDING_VARIABLES = ("PGDATESTYLE", "PGTZ", "PGGEQO")


def with_session_settings(url: URL) -> URL:
    """Add the encoding, the formats and the search path to a URL's query.

    Parameters
    ----------
    url
        A PostgreSQL URL. A `search_path` among its own `options` wins over the platform's.
    """
    given = url.query.get("options", "")
    own = given if isinstance(given, str) else " ".join(given)
    added = own if own.endswith(_FORMATS) else " ".join(part for part in (_SEARCH_PATH, own, _FORMATS) if part)
    return url.update_query_dict({"client_encoding": "utf8", "options": added})


def ignore_shell_variables(*, embedded: bool) -> None:
    """Delete those of libpq's environment variables that must not affect the platform's connections.

    This process and its children no longer see them. A connection parameter cannot replace the deletion: libpq
    refuses to connect if PGSERVICE names an unknown service, whatever the parameters are.

    Parameters
    ----------
    embedded
        Whether the database is the embedded one, which no variable may affect. Otherwise only the variables that
        override the session settings are deleted, and PGSSLROOTCERT and the like keep working.
    """
    for name in [*os.environ]:
        if (embedded and name.startswith("PG")) or name in _OVERRIDING_VARIABLES:
            del os.environ[name]
