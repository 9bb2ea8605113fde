"""Months of Spanish local time, and the hours in them. A day with a clock change has 23 or 25 hours."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

if TYPE_CHECKING:
    from collections.abc import Iterable

    import ibis.expr.types as ir

ZONE = "Europe/Madrid"
MADRID = ZoneInfo(ZONE)
FIRST_MONTH = "2017-01-01"
"""Key of the first partition."""
HOUR = timedelta(hours=1)


@dataclass(frozen=True, order=True)
class Month:
    """A calendar month of local time.

    Attributes
    ----------
    first
        First day of the month.
    """

    first: date

    @classmethod
    def of(cls, day: date) -> Month:
        """Return the month of a day."""
        return cls(day.replace(day=1))

    @classmethod
    def with_key(cls, key: str) -> Month:
        """Return the month of a partition key."""
        return cls(date.fromisoformat(key))

    @property
    def key(self) -> str:
        """Partition key: the first day in ISO format."""
        return self.first.isoformat()

    @property
    def start(self) -> datetime:
        """Start of the month, in UTC."""
        return start_of(self.first)

    @property
    def end(self) -> datetime:
        """Start of the next month, in UTC."""
        return start_of((self.first + timedelta(days=31)).replace(day=1))

    def hours(self, until: datetime | None = None) -> list[datetime]:
        """Return the start of each hour in UTC.

        Parameters
        ----------
        until
            Return only the hours that begin before this instant.
        """
        end = self.end if until is None else min(self.end, until)
        return [self.start + number * HOUR for number in range(max(0, (end - self.start) // HOUR))]


def start_of(day: date) -> datetime:
    """Return the start of a local day, in UTC."""
    return datetime.combine(day, time(), MADRID).astimezone(UTC)


def today(now: datetime) -> date:
    """Return the local date of an instant."""
    return now.astimezone(MADRID).date()


def months_around(now: datetime, days_back: int, days_ahead: int) -> list[Month]:
    """Return all months with a day from `days_back` days before the local date of `now` to `days_ahead` days after."""
    days = (today(now) + timedelta(days=number) for number in range(-days_back, days_ahead + 1))
    return months_of(days)


def months_of(days: Iterable[date]) -> list[Month]:
    """Return the distinct months of the given days, in order."""
    return sorted({Month.of(day) for day in days})


def partition_key(rows: ir.Table) -> ir.StringValue:
    """Return the partition key of each row: the local month of `datetime`, which is in UTC."""
    from platform_assets.engine.local_time import local_time

    return local_time(rows["datetime"], ZONE).strftime("%Y-%m-01")
