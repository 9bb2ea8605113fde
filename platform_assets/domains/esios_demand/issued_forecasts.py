"""The issued forecasts in PostgreSQL. Rows are only added, so the forecast of a day is never replaced."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from platform_assets.domains.esios_demand.schemas import FORECASTS
from platform_assets.lake.online_tables import plain_errors

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from datetime import date

    import pyarrow as pa

    from platform_assets.database.connections import Database

COLUMNS = tuple(column.name for column in FORECASTS.columns)
_TIMES = {column.name for column in FORECASTS.columns if column.type == "timestamp"}
# Convert the times: PostgreSQL stores them with time zone, but the lake and this module use UTC without time zone.
_READ = ", ".join(f"{name} at time zone 'UTC' as {name}" if name in _TIMES else name for name in COLUMNS)
_WRITE = ", ".join("%s at time zone 'UTC'" if name in _TIMES else "%s" for name in COLUMNS)
_INSERT = (
    f"insert into esios_demand.forecasts ({', '.join(COLUMNS)}, inputs) values ({_WRITE}, %s) on conflict do nothing"  # noqa: S608 - the names are constants
).encode()
_OF_DAY = f"select {_READ} from esios_demand.forecasts where local_day = %s order by datetime_utc".encode()  # noqa: S608 - the names are constants
_AFTER = f"select {_READ} from esios_demand.forecasts where local_day > %s order by datetime_utc".encode()  # noqa: S608 - the names are constants
_LAST_DAY = b"select max(local_day) from esios_demand.forecasts"


class IssuedForecasts:
    """The issued forecasts.

    Parameters
    ----------
    database
        Function that returns the platform's database.
    """

    def __init__(self, database: Callable[[], Database]) -> None:
        self._database = database

    def add(self, rows: Iterable[dict[str, Any]], inputs: Mapping[str, int]) -> int:
        """Add forecasts in one transaction, and return the number of new rows. Skip hours that have a forecast.

        Parameters
        ----------
        rows
            Values by the column names of `schemas.FORECASTS`, times in UTC without an offset.
        inputs
            Versions of the lake's tables that the features came from, by table; empty if they are unknown.

        Raises
        ------
        DatabaseError
            The database does not respond. Nothing was added.
        """
        from psycopg.types.json import Jsonb

        made_from = Jsonb(dict(inputs)) if inputs else None
        values = [[*(row[name] for name in COLUMNS), made_from] for row in rows]
        with (
            plain_errors(FORECASTS.name),
            self._database().pooled() as connection,
            connection.transaction(),
            connection.cursor() as cursor,
        ):
            cursor.executemany(_INSERT, values)
            return max(cursor.rowcount, 0)

    def last_day(self) -> date | None:
        """Return the newest local day with a forecast; None if there is none.

        Raises
        ------
        DatabaseError
            The database does not respond.
        """
        [(day,)] = self._rows(_LAST_DAY)
        found: date | None = day
        return found

    def of_day(self, day: date) -> list[dict[str, Any]]:
        """Return the forecasts of a local day by the column names of `schemas.FORECASTS`, ordered by time.

        Raises
        ------
        DatabaseError
            The database does not respond.
        """
        return [dict(zip(COLUMNS, row, strict=True)) for row in self._rows(_OF_DAY, day)]

    def after(self, day: date) -> pa.Table:
        """Return the forecasts of all days after the given day, ordered by time.

        Raises
        ------
        DatabaseError
            The database does not respond.
        """
        import ibis
        import pyarrow as pa

        schema = ibis.schema({column.name: column.type for column in FORECASTS.columns}).to_pyarrow()
        rows = [dict(zip(COLUMNS, row, strict=True)) for row in self._rows(_AFTER, day)]
        return pa.Table.from_pylist(rows, schema=schema)

    def _rows(self, query: bytes, *values: Any) -> list[Any]:
        with plain_errors(FORECASTS.name):
            return self._database().reads.rows(query, values)
