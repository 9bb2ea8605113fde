"""One-sentence descriptions of check results."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from platform_assets.base.frames import Frame
    from platform_assets.monitoring.daily.series import Series

_MOST = 3


def told(alarmed: Frame, rows: Frame, known: Mapping[str, Series]) -> str:
    """Describe the result of a check.

    Parameters
    ----------
    alarmed
        The rows of `rows` that have an open alarm.
    rows
        All newest measurements of the check.
    known
        The series by name.
    """
    day = rows["day"].max()
    if alarmed.empty:
        return f"in the usual range on {day}"
    parts = []
    for row in alarmed.sort_values("evidence", ascending=False).head(_MOST).to_dict("records"):
        about = f"{known[row['series']].title}{' of ' + row['column'] if row['column'] else ''}"
        parts.append(row["told"] or f"{about}: {row['value']:,.4g} on {row['day']} differs from earlier values")
    more = f"; {len(alarmed) - _MOST:,} more" if len(alarmed) > _MOST else ""
    return "; ".join(parts) + more
