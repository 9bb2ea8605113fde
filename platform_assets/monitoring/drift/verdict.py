"""Result of the newest drift measurement of a stream, for the asset check and the monitoring pages."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from platform_assets.monitoring.drift.history import DriftHistory, Stream


def newest_verdict(history: DriftHistory, stream: Stream, reason: str = "") -> tuple[bool | None, str]:
    """Return whether the newest measurement raised no alarm, and a one-line summary.

    Parameters
    ----------
    history
        The stored measurements.
    stream
        The stream.
    reason
        Why no newer batch was measured; empty if this is not known or does not apply.

    Returns
    -------
    tuple
        True if there was no alarm, None if nothing has been measured yet; and the summary.

    Raises
    ------
    DatabaseError
        The history cannot be read.
    """
    newest = history.of_newest_measurement(stream)
    if not newest:
        return None, f"nothing has been measured yet{f': {reason}' if reason else ''}"
    alarmed = [batch for batch in newest if batch.alarm]
    rows = sum(batch.rows for batch in newest)
    compared = f"{rows:,} rows in {_batches(len(newest))}, compared with version {newest[-1].version} of {stream.model}"
    if reason:
        compared += f" at {newest[-1].measured_at:%Y-%m-%d %H:%M} UTC ({reason})"
    if not alarmed:
        return True, f"no drift in {compared}"
    measured = history.measured_since(stream, min(batch.arrived_at for batch in alarmed))
    # A batch is missing here if `upkeep` has deleted it since the first query.
    columns = sorted({name for batch in alarmed if batch.batch in measured for name in measured[batch.batch].alarm})
    where = f" in {', '.join(columns)}" if columns else ""
    return (
        False,
        (
            f"drift{where} in {len(alarmed):,} of {_batches(len(newest))}, first in {alarmed[0].name}; "
            f"measured: {compared}"
        ),
    )


def _batches(count: int) -> str:
    return f"{count:,} batch{'' if count == 1 else 'es'}"
