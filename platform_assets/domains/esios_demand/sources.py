"""Access to the ESIOS API: the configured server, or a local server with sample data."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from importlib.metadata import version
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from platform_assets.base.errors import SourceError
from platform_assets.domains.esios_demand import demo
from platform_assets.domains.esios_demand.client import ACCEPT, Esios, Series
from platform_assets.domains.esios_demand.settings import ESIOS, EsiosSettings
from platform_assets.landing.declared_sources import DeclaredApi
from platform_assets.landing.http_client import HttpClient, Limits

if TYPE_CHECKING:
    from collections.abc import Iterator

    from platform_assets.landing.declared_sources import Sources

DEMO = "demo"
"""Name of the server with sample data."""
LIMITS = Limits(read_seconds=60.0)


@contextmanager
def open_esios(sources: Sources, limits: Limits = LIMITS) -> Iterator[Esios]:
    """Return a client of the configured server.

    With `PLATFORM_SOURCES=demo` and no configured address, start a local server with sample data.

    Parameters
    ----------
    sources
        Source of the settings.
    limits
        Time-outs and retries.

    Raises
    ------
    SourceError
        The server needs a token, and no token is set.
    """
    settings = sources.settings_of(EsiosSettings)
    series = Series(settings.esios_indicator, settings.esios_indicator_name, settings.esios_geography)
    with ExitStack() as stack:
        server = _server_name(sources)
        if server == DEMO:
            url, token = stack.enter_context(demo.server()).url, demo.TOKEN
        else:
            url, token = settings.esios_base_url or ESIOS, _token(settings, server)
        headers = {
            "x-api-key": token,
            "Accept": ACCEPT,
            "User-Agent": f"platform-assets/{version('platform-assets')}",
        }
        http = stack.enter_context(HttpClient("ESIOS", headers, limits))
        yield Esios(http, url, series, server, token)


def _server_name(sources: Sources) -> str:
    """Return the name of the configured server: its host and port, or `demo`."""
    settings = sources.settings_of(EsiosSettings)
    if settings.esios_base_url or sources.settings.sources == "live":
        return urlsplit(settings.esios_base_url or ESIOS).netloc.rpartition("@")[2]
    return DEMO


def _token(settings: EsiosSettings, server: str) -> str:
    token = settings.esios_token.get_secret_value()
    if not token:
        raise SourceError(
            f"PLATFORM_ESIOS_TOKEN is not set, but {server} requires a token. Set it to your personal token for the "
            "ESIOS API, or set PLATFORM_SOURCES=demo without PLATFORM_ESIOS_BASE_URL to use sample data"
        )
    return token


def _described(sources: Sources) -> str:
    server = _server_name(sources)
    if server == DEMO:
        return "a local server with sample data"
    _token(sources.settings_of(EsiosSettings), server)
    return f"{server}, with a token (not contacted)"


API = DeclaredApi("ESIOS", _described)
