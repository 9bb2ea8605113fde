"""Merging an API response with the stored hours."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from platform_assets.domains.esios_demand.client import Answered
from platform_assets.domains.esios_demand.harvest import Merged, as_frame, facts, merge
from platform_assets.domains.esios_demand.months import HOUR, Month
from platform_assets_tests.domains.esios_demand.conftest import SERIES

MONTH = Month.with_key("2018-02-01")
OLD, NEW = datetime(2018, 2, 1, 6, tzinfo=UTC), datetime(2018, 2, 2, 6, tzinfo=UTC)
FIRST, SECOND, THIRD, FOURTH = MONTH.hours()[:4]


def merged(*hours: tuple[datetime, float], updated_at: datetime | None = NEW, **stored: float) -> Merged:
    """Merge a response with the stored hours, which are given by name (`first=1.0`) and were last updated at `OLD`."""
    names = {"first": FIRST, "second": SECOND, "third": THIRD, "fourth": FOURTH, "march": MONTH.end}
    found = Merged()
    merge(Answered(MONTH, hours, updated_at), {names[name]: (value, OLD) for name, value in stored.items()}, found)
    return found


@pytest.mark.requirement("ESI-4")
def test_only_a_changed_value_gets_the_new_update_time() -> None:
    found = merged((FIRST, 1.0), (SECOND, 5.0), (THIRD, 3.0), first=1.0, second=2.0)
    assert found.rows == [(FIRST, 1.0, OLD), (SECOND, 5.0, NEW), (THIRD, 3.0, NEW)]
    assert found.counts[MONTH] == {"unchanged": 1, "corrected": 1, "new": 1, "not_returned_any_more": 0}
    assert found.corrections == [(SECOND, 2.0, 5.0)]


@pytest.mark.requirement("ESI-4")
def test_an_hour_that_is_no_longer_returned_is_kept() -> None:
    found = merged((FIRST, 1.0), first=1.0, second=2.0, march=9.0)
    assert sorted(found.rows) == [(FIRST, 1.0, OLD), (SECOND, 2.0, OLD)]
    assert found.counts[MONTH]["not_returned_any_more"] == 1
    assert merged(updated_at=None, first=1.0).rows == [(FIRST, 1.0, OLD)]


@pytest.mark.requirement("ESI-4")
def test_an_older_response_does_not_replace_a_stored_value() -> None:
    found = merged((FIRST, 5.0), (SECOND, 2.0), updated_at=OLD - timedelta(days=1), first=1.0)
    assert found.rows == [(FIRST, 1.0, OLD), (SECOND, 2.0, OLD - timedelta(days=1))]
    assert found.counts[MONTH] == {"older_than_stored": 1, "new": 1, "not_returned_any_more": 0}


@pytest.mark.requirement("ESI-5")
def test_both_rows_of_a_repeated_hour_are_kept() -> None:
    assert merged((FIRST, 1.0), (FIRST, 1.0), first=1.0).rows == [(FIRST, 1.0, OLD)] * 2


@pytest.mark.requirement("ESI-2")
def test_the_frame_is_sorted_by_time_and_its_times_have_no_time_zone() -> None:
    frame = as_frame(merged((SECOND, 2.5), (FIRST, 1.0)), SERIES)
    assert frame.to_dict("list") == {
        "name": [SERIES.name] * 2,
        "id": [460] * 2,
        "datetime": [FIRST.replace(tzinfo=None), SECOND.replace(tzinfo=None)],
        "demand_forecast": [1.0, 2.5],
        "update_timestamp": [NEW.replace(tzinfo=None)] * 2,
    }
    assert as_frame(Merged(), SERIES).dtypes.to_dict() == frame.dtypes.to_dict()


def test_the_metadata_contain_the_state_of_each_month_and_some_corrections() -> None:
    found = merged(*((FIRST + number * HOUR, 5.0) for number in range(4)), first=1.0, second=2.0, third=5.0)
    told = facts([Answered(MONTH, ((FIRST, 5.0),), NEW)], found)
    assert told["months"]["2018-02-01"] == {
        "state": "partial",
        "hours": 1,
        "values_updated_at": "2018-02-02 06:00:00",
        "corrected": 2,
        "unchanged": 1,
        "new": 1,
        "not_returned_any_more": 0,
    }
    assert (told["hours_corrected"], told["hours_older_than_stored"]) == (2, 0)
    assert told["corrections"][0] == {"datetime": "2018-01-31 23:00:00", "before": 1.0, "after": 5.0}
