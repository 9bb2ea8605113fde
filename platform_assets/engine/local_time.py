"""Local times in expressions."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import ibis.expr.types as ir


def local_time(utc: ir.TimestampValue, zone: str) -> ir.TimestampValue:
    """Convert times from UTC to the local time of a time zone. Input and output are timestamps without an offset.

    Parameters
    ----------
    utc
        Times in UTC, without an offset.
    zone
        Name of the time zone, for example `Europe/Madrid`.
    """
    import ibis
    import ibis.expr.datatypes as dt

    # Call the engine's own function, because Ibis cannot convert time zones.
    in_zone = ibis.udf.scalar.builtin
    if utc.get_backend().name == "pyspark":
        convert = in_zone(from_utc_timestamp, signature=((dt.timestamp, dt.string), dt.timestamp))
        converted: ir.TimestampValue = convert(utc, zone)
        return converted
    # DuckDB's `timezone` first attaches UTC to the time without an offset, and then converts the result to local time.
    instant = in_zone(timezone, signature=((dt.string, dt.timestamp), dt.Timestamp("UTC")))
    local = in_zone(timezone, signature=((dt.string, dt.Timestamp("UTC")), dt.timestamp))
    found: ir.TimestampValue = local(zone, instant("UTC", utc))
    return found


def timezone(zone: str, at: ir.TimestampValue) -> ir.TimestampValue:
    """Declare DuckDB's function. Ibis uses only its name and types."""
    raise NotImplementedError


def from_utc_timestamp(at: ir.TimestampValue, zone: str) -> ir.TimestampValue:
    """Declare Spark's function. Ibis uses only its name and types."""
    raise NotImplementedError
