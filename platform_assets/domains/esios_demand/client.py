"""Client of the ESIOS API: finds the series by its name, and reads its hourly values month by month.

The API: https://api.esios.ree.es. It requires a personal token, and returns JSON.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from dataclasses import dataclass, replace
from datetime import UTC, timedelta
from http import HTTPStatus
from typing import TYPE_CHECKING, Literal, TypeVar

from platform_assets.domains.esios_demand.answers import (
    NAME,
    IndicatorAnswer,
    IndicatorList,
    SearchAnswer,
    parse,
    unknown_fields,
)
from platform_assets.landing.http_client import Answer, UpstreamError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from platform_assets.domains.esios_demand.answers import Indicator, Value
    from platform_assets.domains.esios_demand.months import Month
    from platform_assets.landing.http_client import HttpClient

Content = TypeVar("Content", IndicatorAnswer, IndicatorList, SearchAnswer)
State = Literal["complete", "partial", "not published yet"]
ACCEPT = "application/json; application/vnd.esios-api-v1+json"
SECONDS = 300.0
"""Time limit for one request, including its retries."""
LAST_MOMENT = timedelta(seconds=1)
MOST_NAMES = 5
MASK = b"***"


@dataclass(frozen=True)
class Series:
    """A series of one geographical area.

    Attributes
    ----------
    indicator
        Id of the series.
    name
        Spanish name of the series.
    geography
        Id of the geographical area.
    """

    indicator: int
    name: str
    geography: int


@dataclass(frozen=True)
class Answered:
    """The API's response for one month.

    Attributes
    ----------
    month
        The month that was requested.
    hours
        Start (UTC) and value (MW) of each hour. If the API sent an hour twice, both values are kept.
    updated_at
        Time of the series' last update; None if the API has no values for the month.
    unknown_fields
        Fields of the response that are not declared in `answers.py`.
    outside
        Number of values outside the month. They are not in `hours`.
    """

    month: Month
    hours: tuple[tuple[datetime, float], ...]
    updated_at: datetime | None
    unknown_fields: frozenset[str] = frozenset()
    outside: int = 0

    @property
    def state(self) -> State:
        """State of the month in the response: complete, partial or not published yet."""
        if not self.hours and self.updated_at is None:
            return "not published yet"
        return "complete" if {at for at, _ in self.hours} == set(self.month.hours()) else "partial"


class Esios:
    """The ESIOS API.

    Parameters
    ----------
    http
        HTTP client that sends the headers `x-api-key` and `Accept`.
    url
        Address of the API.
    series
        The series to read.
    server
        Name of the server, for metadata.
    token
        The API token. It is masked in responses that contain it.
    """

    def __init__(self, http: HttpClient, url: str, series: Series, server: str, token: str) -> None:
        self._http = http
        self._url = url
        self._token = token.encode()
        self.series = series
        self.server = server

    def check_series(self) -> None:
        """Check that the API lists the series with the configured id under the configured name.

        Raises
        ------
        UpstreamError
            The API has no series of this name, or lists it with another id.
        """
        known = self._search()
        numbers = sorted({number for number, name in known if _same(name, self.series.name)})
        if self.series.indicator in numbers:
            return
        if numbers:
            raise UpstreamError(
                f"{NAME} lists the series {self.series.name!r} as indicator {numbers[0]}, but "
                f"PLATFORM_ESIOS_INDICATOR is {self.series.indicator}. Set it to {numbers[0]}",
                HTTPStatus.OK,
            )
        names = ", ".join(repr(name) for _, name in known[:MOST_NAMES]) or "nothing"
        raise UpstreamError(
            f"{NAME} has no series {self.series.name!r}; the search found {names}. Check PLATFORM_ESIOS_INDICATOR_NAME",
            HTTPStatus.OK,
        )

    def hours(self, month: Month) -> Answered:
        """Return the hourly values of a month.

        Raises
        ------
        UpstreamError
            The API gave no usable response. The message names the cause.
        """
        params = {
            "start_date": _text(month.start),
            # The end is inclusive, and an hour has four quarter-hourly values. If the end were the start of the last
            # hour, the mean of that hour would contain only the first of these values.
            "end_date": _text(month.end - LAST_MOMENT),
            "time_trunc": "hour",
            # By default, the API returns the sum of the four quarter-hourly values of an hour.
            "time_agg": "average",
            "geo_ids[]": str(self.series.geography),
            "locale": "es",
        }
        return self._answered(month, self._get(f"/indicators/{self.series.indicator}", params, IndicatorAnswer))

    def _search(self) -> list[tuple[int, str]]:
        """Return the ids and names of the series that a search for the name finds."""
        try:
            found = self._get("/search", {"query": self.series.name, "locale": "es"}, SearchAnswer).results
        except UpstreamError as error:
            if error.upstream_status != HTTPStatus.NOT_FOUND:
                raise
            # This server does not implement the search, so read the list of all series.
            listed = self._get("/indicators", {"locale": "es"}, IndicatorList).indicators
            return [(one.id, one.name) for one in listed]
        return [(one.id, one.title) for one in found if one.id is not None and one.title is not None]

    def _get(self, path: str, params: Mapping[str, str], kind: type[Content]) -> Content:
        def read(answer: Answer) -> Content:
            return parse(replace(answer, body=answer.body.replace(self._token, MASK)), kind)

        return self._http.get(self._url + path, params, read, SECONDS)

    def _answered(self, month: Month, answer: IndicatorAnswer) -> Answered:
        found = answer.indicator
        self._demand_series(found)
        if found.values and found.values_updated_at is None:
            raise _wrong("has values, but values_updated_at is null")
        here = [value for value in found.values if value.geo_id == self.series.geography]
        if found.values and not here:
            others = ", ".join(f"{number} ({name})" for number, name in _geographies(found.values))
            raise _wrong(f"has no value for the geography {self.series.geography}, only for {others}")
        for value in here:
            _demand_hour(value)
        inside = [value for value in here if month.start <= value.datetime_utc < month.end]
        return Answered(
            month,
            tuple((value.datetime_utc.astimezone(UTC), value.value) for value in inside),
            found.values_updated_at and found.values_updated_at.astimezone(UTC).replace(microsecond=0),
            frozenset(unknown_fields(answer)),
            len(here) - len(inside),
        )

    def _demand_series(self, found: Indicator) -> None:
        if found.id != self.series.indicator or not _same(found.name, self.series.name):
            asked = f"{self.series.indicator} ({self.series.name!r}) was requested"
            raise _wrong(f"describes the series {found.id} ({found.name!r}), but {asked}")


def _demand_hour(value: Value) -> None:
    """Check that the three times of a value agree, and that they are the start of an hour."""
    at = value.datetime_utc
    if not at == value.datetime == value.tz_time:
        times = f"{value.datetime.isoformat()}, {at.isoformat()} and {value.tz_time.isoformat()}"
        raise _wrong(f"has a value whose three times differ: {times}")
    if at.minute or at.second or at.microsecond:
        raise _wrong(f"has a value at {at.isoformat()}, although hourly values were requested")


def _geographies(values: Sequence[Value]) -> list[tuple[int, str]]:
    counted = Counter((value.geo_id, value.geo_name) for value in values)
    return [place for place, _ in counted.most_common(MOST_NAMES)]


def _wrong(what: str) -> UpstreamError:
    return UpstreamError(f"{NAME} returned a response that {what}", HTTPStatus.OK)


def _same(one: str, other: str) -> bool:
    """Return whether two names are equal, ignoring accents, case and blanks."""
    return _plain(one) == _plain(other)


def _plain(name: str) -> str:
    decomposed = unicodedata.normalize("NFKD", name)
    return " ".join("".join(letter for letter in decomposed if not unicodedata.combining(letter)).casefold().split())


def _text(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")
