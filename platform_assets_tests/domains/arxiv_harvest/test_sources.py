"""The choice of the server, and the function `search_arxiv`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from platform_assets.base.errors import SourceError
from platform_assets.domains.arxiv_harvest.search_string import SearchRefused
from platform_assets.domains.arxiv_harvest.settings import ArxivSettings
from platform_assets.domains.arxiv_harvest.sources import api_url, open_arxiv, search_arxiv, server_name, user_agent
from platform_assets.landing.declared_sources import Sources
from platform_assets.services import Services
from platform_assets.settings import Settings, SettingsError, read_settings

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("base", "url"),
    [
        ("", "https://export.arxiv.org/api/query"),
        ("http://127.0.0.1:1", "http://127.0.0.1:1/api/query"),
        ("http://127.0.0.1:1/", "http://127.0.0.1:1/api/query"),
        ("https://mirror/api", "https://mirror/api/query"),
        ("https://mirror/other/query", "https://mirror/other/query"),
    ],
)
def test_the_url_of_the_api_is_derived_from_the_base_url(base: str, url: str) -> None:
    assert api_url(ArxivSettings(arxiv_base_url=base).arxiv_base_url) == url


@pytest.mark.parametrize(
    ("sources", "base", "name"),
    [
        ("demo", "", "demo"),
        ("live", "", "export.arxiv.org"),
        ("demo", "http://127.0.0.1:1", "127.0.0.1:1"),
    ],
)
def test_a_base_url_in_the_settings_takes_precedence_over_sample_papers(
    tmp_path: Path, sources: str, base: str, name: str
) -> None:
    settings = Settings.model_validate({"home": tmp_path, "sources": sources})
    assert server_name(Sources(settings, (ArxivSettings(arxiv_base_url=base),))) == name


@pytest.mark.requirement("ARX-5")
def test_requests_to_arxiv_require_a_contact_address(tmp_path: Path) -> None:
    services = Services(Settings(home=tmp_path, sources="live"), (ArxivSettings(),))
    # The missing setting is reported before a connection is opened.
    with pytest.raises(SourceError, match="PLATFORM_ARXIV_CONTACT is not set"):
        open_arxiv(services.sources, None).__enter__()  # type: ignore[arg-type]  # never used
    assert user_agent("me@example.org").endswith(" (mailto:me@example.org)")


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("PLATFORM_ARXIV_BASE_URL", "export.arxiv.org", "starts with http:// or https://"),
        ("PLATFORM_ARXIV_CONTACT", "mé\n", "an email address in ASCII"),
        ("PLATFORM_ARXIV_INTERVAL_SECONDS", "-1", "greater than or equal to 0"),
    ],
)
def test_invalid_settings_are_refused(monkeypatch: pytest.MonkeyPatch, variable: str, value: str, said: str) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsError, match=f"{variable}: .*{said}"):
        read_settings(ArxivSettings)


@pytest.mark.requirement("ARX-1")
def test_search_arxiv_works_on_sample_papers(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLATFORM_DATABASE_URL", database_url)
    monkeypatch.setenv("PLATFORM_HOME", str(tmp_path))
    found = search_arxiv(author="Maestro", title="Helium")
    assert len(found) == 8
    assert all("Maestro" in paper.author and "helium" in str(paper.title) for paper in found)
    assert search_arxiv(journal="no such journal") == []
    assert len(search_arxiv("Maestro", max_query_results=1)) == 1


@pytest.mark.requirement("ARX-1")
@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({}, "at least one of author, title and journal"),
        ({"author": "a", "max_query_results": 0}, "max_query_results is 0"),
        ({"author": "a", "max_query_results": 2001}, "from 1 to 2,000"),
    ],
)
def test_search_arxiv_refuses_invalid_searches_before_it_sends_a_request(
    values: dict[str, str | int], said: str
) -> None:
    with pytest.raises(SearchRefused, match=said):
        search_arxiv(**values)  # type: ignore[arg-type]  # values of the table above
