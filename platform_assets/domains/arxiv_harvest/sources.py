"""Access to arXiv: the configured server, and `search_arxiv` for Python."""

from __future__ import annotations

from contextlib import ExitStack, closing, contextmanager
from importlib.metadata import version
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from platform_assets.base.errors import SourceError
from platform_assets.domains.arxiv_harvest import demo
from platform_assets.domains.arxiv_harvest.client import MOST_RESULTS, Arxiv
from platform_assets.domains.arxiv_harvest.pacing import Pace
from platform_assets.domains.arxiv_harvest.search_string import SearchRefused, search_string
from platform_assets.domains.arxiv_harvest.settings import ArxivSettings
from platform_assets.landing.declared_sources import DeclaredApi
from platform_assets.landing.http_client import HttpClient

if TYPE_CHECKING:
    from collections.abc import Iterator

    from platform_assets.database.connections import Database
    from platform_assets.domains.arxiv_harvest.atom_feed import Paper
    from platform_assets.landing.declared_sources import Sources

ARXIV = "https://export.arxiv.org/api/query"
ARXIV_HOST = "arxiv.org"
ARXIV_INTERVAL_SECONDS = 3.0
"""Shortest interval between requests that arXiv allows."""
DEMO = "demo"
"""Name of the server with sample papers."""
DEFAULT_RESULTS = 8


def search_arxiv(
    author: str = "", title: str = "", journal: str = "", max_query_results: int = DEFAULT_RESULTS
) -> list[Paper]:
    """Search arXiv for papers that match all given values. The search is not stored.

    Parameters
    ----------
    author, title, journal
        Phrases. At least one must not be empty.
    max_query_results
        Maximum number of results, from 1 to 2,000.

    Returns
    -------
    list of Paper
        The papers in the order of relevance, the most relevant first. Empty if nothing was found.

    Raises
    ------
    SearchRefused
        No value is given, or a value cannot be used in a search.
    UpstreamError
        arXiv gave no usable response in time. `upstream_status` is the HTTP status of its last response, or None.
    SourceError
        A setting is missing.
    """
    from platform_assets.services import open_services
    from platform_assets.settings import load_settings

    query = search_string(author, title, journal)
    if not 1 <= max_query_results <= MOST_RESULTS:
        raise SearchRefused(
            f"max_query_results is {max_query_results}; it must be from 1 to {MOST_RESULTS:,}.", "max_query_results"
        )
    with closing(open_services(load_settings())) as services, open_arxiv(services.sources, services.database) as arxiv:
        seconds = services.sources.settings_of(ArxivSettings).arxiv_wait_seconds
        return list(arxiv.search(query, max_query_results, seconds).papers)


@contextmanager
def open_arxiv(sources: Sources, database: Database) -> Iterator[Arxiv]:
    """Return a client of the configured server.

    With `PLATFORM_SOURCES=demo` and no configured address, start a local server with sample papers.

    Parameters
    ----------
    sources
        Source of the settings.
    database
        Database through which all processes limit their requests to arXiv.

    Raises
    ------
    SourceError
        Requests to arxiv.org need a contact, and no contact is set.
    """
    settings = sources.settings_of(ArxivSettings)
    server = server_name(sources)
    with ExitStack() as stack:
        if server == DEMO:
            url, interval = stack.enter_context(demo.server()).url + demo.PATH, 0.0
        else:
            url, interval = api_url(settings.arxiv_base_url), _interval(settings, server)
        pace = Pace(database, server, interval)
        headers = {"User-Agent": user_agent(settings.arxiv_contact), "Accept": "application/atom+xml"}
        # Close the connection after each request. arXiv allows one connection at a time, and the next request may come
        # from another process.
        http = stack.enter_context(HttpClient("arXiv", headers, turn=pace.turn, keep_connections=False))
        yield Arxiv(http, url, server)


def server_name(sources: Sources) -> str:
    """Return the name of the configured server: its host and port, or `demo`."""
    settings = sources.settings_of(ArxivSettings)
    if settings.arxiv_base_url or sources.settings.sources == "live":
        return urlsplit(api_url(settings.arxiv_base_url)).netloc.rpartition("@")[2]
    return DEMO


def _described(sources: Sources) -> str:
    server = server_name(sources)
    _interval(sources.settings_of(ArxivSettings), server)
    return "a local server with sample papers" if server == DEMO else f"{server} (not contacted)"


API = DeclaredApi("arXiv", _described)


def api_url(base: str) -> str:
    """Return the address of the API: `ARXIV` if `base` is empty, else `base`, completed to end with `/query`.

    `/query` is added to a path that ends with `/api`, and `/api/query` to any other path.
    """
    if not base:
        return ARXIV
    path = urlsplit(base).path.rstrip("/")
    if path.endswith("/query"):
        return base
    return f"{base.rstrip('/')}/query" if path.endswith("/api") else f"{base.rstrip('/')}{demo.PATH}"


def user_agent(contact: str) -> str:
    """Return the `User-Agent` header, with the contact if there is one."""
    name = f"platform-assets/{version('platform-assets')}"
    return f"{name} (mailto:{contact})" if contact else name


def _interval(settings: ArxivSettings, server: str) -> float:
    server = server.partition(":")[0]
    if server != ARXIV_HOST and not server.endswith(f".{ARXIV_HOST}"):
        return settings.arxiv_interval_seconds
    if not settings.arxiv_contact:
        raise SourceError(
            "PLATFORM_ARXIV_CONTACT is not set, but requests to arxiv.org must name a contact. Set it to an email "
            "address, or set PLATFORM_SOURCES=demo to use sample papers"
        )
    return max(settings.arxiv_interval_seconds, ARXIV_INTERVAL_SECONDS)
