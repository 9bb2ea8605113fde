"""Fixed session settings for every connection, which override the defaults of the server and of the shell.

The settings are part of the connection URL, because Dagster and MLflow open their own connections with psycopg 2.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sqlalchemy import URL

_SEARCH_PATH = "-c search_path=public"
_FORMATS = "-c DateStyle=ISO,MDY -c IntervalStyle=postgres -c TimeZone=UTC -c extra_float_digits=1"
# libpq sends these three variables after the URL's `options`, so they would override the settings there.
_OVERRIDING_VARIABLES = ("PGDATESTYLE", "PGTZ", "PGGEQO")


def with_session_settings(url: URL) -> URL:
    """Add the encoding, the formats and the search path to the query of a URL.

    Parameters
    ----------
    url
        A PostgreSQL URL. If its `options` already set `search_path`, that value is used.
    """
    given = url.query.get("options", "")
    own = given if isinstance(given, str) else " ".join(given)
    added = own if own.endswith(_FORMATS) else " ".join(part for part in (_SEARCH_PATH, own, _FORMATS) if part)
    return url.update_query_dict({"client_encoding": "utf8", "options": added})


def ignore_shell_variables(*, embedded: bool) -> None:
    """Delete libpq's environment variables that must not affect the platform's connections.

    They are deleted for this process and its children. Connection parameters are not enough, because libpq refuses to
    connect if PGSERVICE names an unknown service, whatever the parameters are.

    Parameters
    ----------
    embedded
        Whether to delete all variables, for the embedded database. Otherwise only those that override the session
        settings are deleted, so that for example PGSSLROOTCERT still has an effect.
    """
    for name in [*os.environ]:
        if (embedded and name.startswith("PG")) or name in _OVERRIDING_VARIABLES:
            del os.environ[name]
