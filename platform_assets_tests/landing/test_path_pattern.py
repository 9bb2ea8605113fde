"""A path pattern matches the whole path, and extracts text and time fields."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from platform_assets.landing.path_pattern import PathPattern, PatternError

if TYPE_CHECKING:
    from platform_assets.landing.path_pattern import Kind

FIELDS: dict[str, Kind] = {"device": "text", "recorded_at": "time"}
MOMENT = datetime(2026, 2, 28, 9, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("time", "read"),
    [
        ("2026-02-28T09:30:00Z", MOMENT),
        ("2026-02-28T09:30", MOMENT),
        ("20260228T093000Z", MOMENT),
        ("20260228T0930", MOMENT),
        ("2026-02-28T093000+00:00", MOMENT),
        ("20260228T103000+0100", MOMENT),
        ("20260228T103000+01", MOMENT),
        ("20260228T093000.5", MOMENT + timedelta(seconds=0.5)),
        ("2026-02-28T24:30", None),
        ("20260230T0930", None),
        ("2026-02-28", None),
        ("20260228", None),
        ("0001-01-01T00:00+05:00", None),
        ("2026-02-28 09:30", None),
        ("2026-W09-6T09:30", None),
        ("yesterday", None),
    ],
)
def test_times_are_parsed_as_iso_8601_with_or_without_separators(time: str, read: datetime | None) -> None:
    found = PathPattern("{device}/{recorded_at}.txt", FIELDS).read(f"dev7/{time}.txt")
    assert found == (None if read is None else {"device": "dev7", "recorded_at": read})
    if found:
        assert found["recorded_at"].tzinfo == UTC  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("pattern", "path", "device"),
    [
        ("{device}.csv", "a.csv", "a"),
        ("{device}.csv", "a.CSV", None),
        ("{device}.csv", "x/a.csv", None),
        ("{device}.csv", "axcsv", None),
        ("in/{device}/log+(1).csv", "in/größe 1/log+(1).csv", "größe 1"),
        ("{device}_{recorded_at}.txt", "a_b_20260228T0930.txt", "a_b"),
        ("{device}", "", None),
    ],
)
def test_the_whole_path_must_match(pattern: str, path: str, device: str | None) -> None:
    found = PathPattern(pattern, FIELDS).read(path)
    assert (found and found["device"]) == device


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        ("{device}/{time}.txt", r"{time} is not a field; the fields are {device}, {recorded_at}"),
        ("{device}/{}.txt", r"{} is not a field"),
        ("{device}/{device}.txt", r"{device} occurs more than once"),
        ("{device/x.txt", "the braces do not match"),
        ("{device}}.txt", "the braces do not match"),
        ("{{device}}.txt", "the braces do not match"),
        ("*.txt", "it has no field"),
        ("{device}{recorded_at}.txt", "two fields have no text between them"),
        ("/in/{device}.txt", "it begins with a slash"),
        ("{device!r}.txt", "is not a field"),
    ],
)
def test_an_unusable_pattern_is_refused_with_the_reason(pattern: str, said: str) -> None:
    with pytest.raises(PatternError, match=said):
        PathPattern(pattern, FIELDS)
