"""The CSV file of the forecast, for other programs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from platform_assets.base.errors import TableError
from platform_assets.landing.file_writer import write_csv

if TYPE_CHECKING:
    from pathlib import Path

    from platform_assets.base.frames import Expression

FILE = "demand_forecast_esios.csv"
TIME = "%Y-%m-%d %H:%M:%S"


def write(table: Expression, folder: Path) -> tuple[Path, int]:
    """Write all rows, ordered by time, and return the path of the file and the number of rows.

    The file is UTF-8, with the columns of the table. Times are in UTC. The file is replaced atomically, so readers
    never see an incomplete file.

    Raises
    ------
    TableError
        The file cannot be written.
    """
    columns = table.order_by("datetime").to_pyarrow().to_pydict()
    rows = [
        [value.strftime(TIME) if hasattr(value, "strftime") else value for value in row]
        for row in zip(*columns.values(), strict=True)
    ]
    try:
        return write_csv(folder / FILE, list(columns), rows), len(rows)
    except OSError as error:
        raise TableError(f"{folder / FILE} cannot be written: {error.strerror}") from None
