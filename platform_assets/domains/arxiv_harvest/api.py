"""arXiv over HTTP: search, and read the stored queries and results."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from dataclasses import asdict
from datetime import UTC, datetime
from http import HTTPStatus
from itertools import chain
from typing import TYPE_CHECKING, Annotated, Any, Literal

import anyio
from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field
from starlette.concurrency import run_in_threadpool

from platform_assets.base.json_values import JSON
from platform_assets.domains.arxiv_harvest.client import MOST_RESULTS
from platform_assets.domains.arxiv_harvest.search_string import (
    FIELDS,
    LONGEST,
    SEARCHABLE,
    SearchRefused,
    search_string,
)
from platform_assets.domains.arxiv_harvest.settings import ArxivSettings
from platform_assets.domains.arxiv_harvest.sources import DEFAULT_RESULTS, open_arxiv, server_name
from platform_assets.domains.arxiv_harvest.storage import Search, Searches, StoredQuery
from platform_assets.landing.http_client import UpstreamError
from platform_assets.web.one_or_many import whole
from platform_assets.web.paging import ItemsPerPage, Page, PageNumber
from platform_assets.web.problems import INVALID, Problem

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from platform_assets.services import Services

SEARCHES_AT_ONCE = 10
"""Largest number of searches that wait for arXiv. At one request every 3 s, more would not be sent within 30 s."""
RETRY_SECONDS = 60
"""`Retry-After` of a failed search, if arXiv does not send this header."""
FORMAT = "yyyy-MM-dd'T'HH:mm:ss"
CSV = "text/csv"
COLUMNS = ("query", "timestamp", "status", "num_results")
_PATTERN = "^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}$"
_MOMENT = "%Y-%m-%dT%H:%M:%S"
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")
"""First characters that make spreadsheets run a cell as a formula."""
_PAPER = {"author": "Ada Maestro, Bo Novak", "title": "Superfluid helium", "journal": "J. X 1 (2026)"}
_SEARCHED = {"query": 'au:"maestro"', "timestamp": "2026-01-01T12:00:00", "status": 200}


def _as_moment(text: str) -> str:
    try:
        if re.fullmatch(_PATTERN, text):
            datetime.strptime(text, _MOMENT).replace(tzinfo=UTC)
            return text
    except ValueError:
        pass
    raise ValueError(f"Send a time in the format {FORMAT}, for example 2026-01-01T00:00:00.")


Moment = Annotated[
    str,
    AfterValidator(_as_moment),
    Field(
        json_schema_extra={"pattern": _PATTERN},
        description=f"Time in UTC, in the format {FORMAT}.",
        examples=["2026-01-01T00:00:00"],
    ),
]
Phrase = Annotated[str, Field(max_length=LONGEST)]


class AskedSearch(BaseModel):
    """A search. At least one of author, title and journal must be given."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "anyOf": [{"required": [name], "properties": {name: {"pattern": SEARCHABLE}}} for name in FIELDS]
        },
    )

    author: Annotated[Phrase, Field(description="Phrase to find in the author names.", examples=["maestro"])] = ""
    title: Annotated[Phrase, Field(description="Phrase to find in the title.")] = ""
    journal: Annotated[Phrase, Field(description="Phrase to find in the journal reference.")] = ""
    max_query_results: Annotated[
        int,
        Field(ge=1, le=MOST_RESULTS, description="Maximum number of results.", examples=[DEFAULT_RESULTS]),
        BeforeValidator(whole),
    ] = DEFAULT_RESULTS


class Period(BaseModel):
    """A period of time. Both ends are included."""

    model_config = ConfigDict(extra="forbid")

    query_timestamp_start: Moment
    query_timestamp_end: Moment | None = None


class Result(BaseModel):
    """A paper, as arXiv described it."""

    author: Annotated[str, Field(description="Names of all authors, separated by a comma and a space.")]
    title: Annotated[str | None, Field(description="Title; null if it is missing.")]
    journal: Annotated[str | None, Field(description="Journal reference; null if it is missing.")]


class QueryEntry(BaseModel):
    """A stored query."""

    query: Annotated[str, Field(description="Search string that was sent to arXiv.")]
    timestamp: Annotated[str, Field(description=f"Time of the query in UTC, in the format {FORMAT}.")]
    status: Annotated[int | None, Field(description="HTTP status of arXiv's response; null if there was none.")]
    num_results: Annotated[int, Field(description="Number of stored results.")]


class SearchAnswer(QueryEntry):
    """A search that was carried out and stored."""

    results: Annotated[list[Result], Field(description="Results by relevance, the most relevant first.")]


def router(services: Services) -> APIRouter:
    """Return the routes.

    Parameters
    ----------
    services
        Settings and database.
    """
    routes = APIRouter(tags=["arXiv"])
    stored = Searches(lambda: services.database.engine)
    waiting = anyio.CapacityLimiter(SEARCHES_AT_ONCE)

    @routes.post(
        "/arxiv",
        status_code=HTTPStatus.CREATED,
        responses=_search_responses(),
    )
    async def search_arxiv(asked: AskedSearch, response: Response) -> SearchAnswer:
        """Search arXiv for papers that match all given phrases, and store the query and its results."""
        query = _search_string(asked)
        if waiting.available_tokens < 1:
            raise await run_in_threadpool(_too_many, services, stored, query)
        found = await anyio.to_thread.run_sync(
            _search, services, stored, query, asked.max_query_results, limiter=waiting
        )
        response.status_code = HTTPStatus.CREATED if found.results else HTTPStatus.OK
        return found

    @routes.get("/queries", response_class=StreamingResponse, responses=_downloads())
    def download_queries(
        query_timestamp_start: Annotated[Moment, Query()],
        query_timestamp_end: Annotated[Moment | None, Query()] = None,
        format: Annotated[  # noqa: A002 - the parameter's name in requests
            Literal["csv", "json"] | None,
            Query(description="Format of the file. Default: JSON if only JSON is in `Accept`, else CSV."),
        ] = None,
        accept: Annotated[str, Header(include_in_schema=False)] = "",
    ) -> Response:
        """Download the queries of a period as a CSV or JSON file."""
        kind = format or ("json" if _prefers_json(accept) else "csv")
        return _download(_queries(stored, query_timestamp_start, query_timestamp_end), kind)

    @routes.post(
        "/queries",
        response_model=list[QueryEntry],
        responses={200: {"content": {JSON: {"example": [{**_SEARCHED, "num_results": 1}]}}}},
    )
    def list_queries(period: Period) -> Response:
        """List the queries of a period, ordered by time."""
        batches = _queries(stored, period.query_timestamp_start, period.query_timestamp_end)
        return StreamingResponse(_json_list(batches), media_type=JSON)

    @routes.get("/results", response_model=list[Result], responses={200: {"content": {JSON: {"example": [_PAPER]}}}})
    def list_results(request: Request, page: PageNumber = 0, items_per_page: ItemsPerPage = 10) -> Response:
        """List the stored results page by page, ordered by time of storage, then by position in the query's results."""
        rows, total = stored.results(page, items_per_page)
        shown = Page(page, items_per_page, total, request.url.path, request.query_params.multi_items())
        return Response(_json([asdict(row) for row in rows]), headers=dict(shown.headers), media_type=JSON)

    return routes


def _search_responses() -> dict[int | str, dict[str, Any]]:
    return {
        201: {"content": {JSON: {"example": {**_SEARCHED, "num_results": 1, "results": [_PAPER]}}}},
        200: {
            "model": SearchAnswer,
            "description": "No paper on arXiv matches the search.",
            "content": {JSON: {"example": {**_SEARCHED, "num_results": 0, "results": []}}},
        },
    }


def _download(batches: Iterable[list[StoredQuery]], kind: str) -> Response:
    headers = {"Content-Disposition": f'attachment; filename="arxiv_queries.{kind}"'}
    if kind == "json":
        return StreamingResponse(_json_list(batches), headers=headers, media_type=JSON)
    return StreamingResponse(_csv_lines(batches), headers=headers, media_type=CSV)


def _search_string(asked: AskedSearch) -> str:
    try:
        return search_string(asked.author, asked.title, asked.journal)
    except SearchRefused as error:
        told = str(error)
        raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, told, INVALID, errors={error.field: told}) from None


def _search(services: Services, stored: Searches, query: str, most: int) -> SearchAnswer:
    """Search, store the results and return them. A failed search is stored with its status and raises a problem."""
    asked_at = datetime.now(UTC)
    seconds = services.sources.settings_of(ArxivSettings).arxiv_wait_seconds
    with open_arxiv(services.sources, services.database) as arxiv:
        try:
            found = arxiv.search(query, most, seconds)
        except UpstreamError as error:
            stored.store(Search(query, arxiv.server, asked_at, error.upstream_status, error=str(error)))
            raise _unavailable(error) from None
        stored.store(Search(query, arxiv.server, asked_at, found.status, found.total, found.papers))
    results = [Result(author=paper.author, title=paper.title, journal=paper.journal) for paper in found.papers]
    return SearchAnswer(
        query=query,
        timestamp=asked_at.strftime(_MOMENT),
        status=found.status,
        num_results=len(results),
        results=results,
    )


def _too_many(services: Services, stored: Searches, query: str) -> Problem:
    """Store a search that is refused because too many are waiting, and return the problem."""
    error = UpstreamError(f"arXiv was not contacted, because {SEARCHES_AT_ONCE} other searches are already waiting")
    stored.store(Search(query, server_name(services.sources), datetime.now(UTC), error=str(error)))
    return _unavailable(error)


def _unavailable(error: UpstreamError) -> Problem:
    seconds = math.ceil(error.retry_after) if error.retry_after else RETRY_SECONDS
    return Problem(
        HTTPStatus.SERVICE_UNAVAILABLE,
        f"{error}. The query was stored. Try again in {seconds} s.",
        error.problem,
        headers={"Retry-After": str(seconds)},
        more={"upstream_status": error.upstream_status},
    )


def _queries(stored: Searches, start: str, end: str | None) -> Iterable[list[StoredQuery]]:
    """Return the queries of a period in batches.

    The first batch is read before the response starts, so that an error can still set the HTTP status.
    """
    first, last = (datetime.strptime(text, _MOMENT).replace(tzinfo=UTC) if text else None for text in (start, end))
    assert first is not None  # noqa: S101 - narrows the type; `start` is never empty
    if last is not None and last < first:
        told = f"The end of the period, {end}, is before query_timestamp_start, {start}."
        raise Problem(
            HTTPStatus.UNPROCESSABLE_ENTITY,
            f"query_timestamp_end: {told}",
            INVALID,
            errors={"query_timestamp_end": told},
        )
    batches = stored.queries(first, last)
    return chain([next(batches, [])], batches)


def _entry(query: StoredQuery) -> dict[str, Any]:
    return {
        "query": query.query,
        "timestamp": query.asked_at.strftime(_MOMENT),
        "status": query.status,
        "num_results": query.num_results,
    }


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _json_list(batches: Iterable[list[StoredQuery]]) -> Iterator[str]:
    before = "["
    for batch in filter(None, batches):
        yield before + ",\n".join(_json(_entry(query)) for query in batch)
        before = ",\n"
    yield "[]" if before == "[" else "]"


def _csv_lines(batches: Iterable[list[StoredQuery]]) -> Iterator[str]:
    yield _csv([COLUMNS])
    for batch in batches:
        yield _csv([[_cell(value) for value in _entry(query).values()] for query in batch])


def _csv(rows: Iterable[Iterable[Any]]) -> str:
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue()


def _cell(value: Any) -> Any:
    """Return the value for a CSV file. A single quote before a formula makes spreadsheets show it as text."""
    return f"'{value}" if isinstance(value, str) and value.lstrip(" ").startswith(_FORMULA) else value


def _prefers_json(accept: str) -> bool:
    kinds = {kind.partition(";")[0].strip().lower() for kind in accept.split(",")}
    return JSON in kinds and CSV not in kinds


def _downloads() -> dict[int | str, dict[str, Any]]:
    example = [{**_SEARCHED, "num_results": 1}]
    entries = {"type": "array", "items": {"$ref": "#/components/schemas/QueryEntry"}}
    return {
        200: {
            "description": "The queries, as a CSV or JSON file.",
            "content": {
                CSV: {"schema": {"type": "string"}, "example": _csv([COLUMNS])},
                JSON: {"schema": entries, "example": example},
            },
        }
    }
