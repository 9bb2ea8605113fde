"""Harvest: repeat the saved searches, and store new results."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from platform_assets.base.errors import SourceError
from platform_assets.domains.arxiv_harvest.client import MOST_RESULTS
from platform_assets.domains.arxiv_harvest.search_string import SearchRefused, search_string
from platform_assets.landing.http_client import UpstreamError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from platform_assets.domains.arxiv_harvest.atom_feed import Paper
    from platform_assets.domains.arxiv_harvest.client import Arxiv
    from platform_assets.domains.arxiv_harvest.storage import Searches

LOG = logging.getLogger(__name__)
FILE = Path(__file__).with_name("searches.yaml")
SEARCH_SECONDS = 300.0
"""Longest time for all pages and retries of one saved search."""


class SavedSearch(BaseModel):
    """A search that is repeated."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,62}$")]
    author: str = ""
    title: str = ""
    journal: str = ""
    max_results: Annotated[int, Field(ge=1, le=MOST_RESULTS)] = 100

    @property
    def query(self) -> str:
        """Its search string."""
        return search_string(self.author, self.title, self.journal)


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")

    searches: list[SavedSearch]


@dataclass(frozen=True)
class Harvested:
    """Outcome of a saved search.

    Attributes
    ----------
    name, query
        The saved search, and its search string.
    status
        HTTP status of arXiv's response; None if there was no response.
    total
        Number of results that arXiv has; None after a failure.
    new_results
        Number of results that this search had not stored before.
    new_papers
        Number of these results whose arXiv identifier no search had stored before.
    error
        Reason for the failure; None after success.
    """

    name: str
    query: str
    status: int | None
    total: int | None = None
    new_results: int = 0
    new_papers: int = 0
    error: str | None = None


def read_saved_searches(file: Path = FILE) -> list[SavedSearch]:
    """Read the saved searches.

    Raises
    ------
    SourceError
        The file is missing or malformed. The message names the entry and the problem.
    """
    import yaml

    try:
        searches = _File.model_validate(yaml.safe_load(file.read_text(encoding="utf-8"))).searches
    except OSError as error:
        raise SourceError(f"cannot read the saved searches in {file}: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SourceError(f"{file} is not valid YAML: {error}") from None
    except ValidationError as error:
        problems = (f"{'.'.join(map(str, one['loc'])) or 'file'}: {one['msg']}" for one in error.errors())
        raise SourceError(f"{file}: {'; '.join(problems)}") from None
    names = [search.name for search in searches]
    if doubled := sorted({name for name in names if names.count(name) > 1}):
        raise SourceError(f"{file}: these names are used more than once: {', '.join(doubled)}; make each name unique")
    for search in searches:
        try:
            assert search.query  # noqa: S101 - evaluating `query` checks the values
        except SearchRefused as error:
            raise SourceError(f"{file}: the search {search.name!r} is invalid: {error}") from None
    return searches


def harvest(arxiv: Arxiv, stored: Searches, saved: Sequence[SavedSearch]) -> list[Harvested]:
    """Carry out saved searches, and store each with its new results. A failed search does not stop the others.

    arXiv returns the most recently updated papers first, and the search stops after a page with nothing new.
    """
    return [_harvest_one(arxiv, stored, search) for search in saved]


def _harvest_one(arxiv: Arxiv, stored: Searches, saved: SavedSearch) -> Harvested:
    from platform_assets.domains.arxiv_harvest.storage import Search

    asked_at = datetime.now(UTC)

    def unknown(papers: Sequence[Paper]) -> list[Paper]:
        known = stored.versions(saved.name, arxiv.server, [paper.arxiv_id for paper in papers])
        return [paper for paper in papers if (paper.arxiv_id, paper.version) not in known]

    try:
        found = arxiv.search(
            saved.query, saved.max_results, SEARCH_SECONDS, "lastUpdatedDate", lambda page: not unknown(page)
        )
    except UpstreamError as error:
        LOG.warning("the saved search %s failed: %s", saved.name, error)
        status = error.upstream_status
        stored.store(Search(saved.query, arxiv.server, asked_at, status, error=str(error), saved_search=saved.name))
        return Harvested(saved.name, saved.query, status, error=str(error))
    papers = unknown(found.papers)
    search = Search(saved.query, arxiv.server, asked_at, found.status, found.total, papers, saved_search=saved.name)
    new_papers = stored.store(search)
    return Harvested(saved.name, saved.query, found.status, found.total, len(papers), new_papers)
