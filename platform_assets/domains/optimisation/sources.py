"""Where the two optimisations' data come from, and how they become rows that can be judged."""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING

from platform_assets.base.errors import SourceError
from platform_assets.domains.optimisation import demo
from platform_assets.domains.optimisation.distance import distance
from platform_assets.domains.optimisation.memory import read_small
from platform_assets.domains.optimisation.settings import OptimisationSettings
from platform_assets.landing.declared_sources import DeclaredSource
from platform_assets.landing.file_remarks import remarks_on
from platform_assets.landing.landed_rows import ERROR, LINE, TEXT, Landed, land
from platform_assets.landing.source_files import fetch

if TYPE_CHECKING:
    import pyarrow as pa

    from platform_assets.base.frames import Expression
    from platform_assets.domains.optimisation.small_table import SmallTable
    from platform_assets.engine.query_engine import Engine
    from platform_assets.landing.declared_sources import Sources

COORDINATES = DeclaredSource(OptimisationSettings, "speed_data_uri", demo.COORDINATES)
HOTELS = DeclaredSource(OptimisationSettings, "memory_data_uri", demo.HOTELS)
ANGLES = ("latitude", "longitude")


def read_distances(sources: Sources, engine: Engine) -> Landed:
    """The rows as they were delivered, every line of them, each with its distance.

    Raises
    ------
    SourceError
        No source is set, or it is missing, unreachable, no table, or without coordinates.
    """
    landed = land(sources.find(COORDINATES), engine)
    try:
        return replace(landed, rows=_measured(landed, engine))
    except BaseException:
        landed.discard()
        raise


def _measured(landed: Landed, engine: Engine) -> Expression:
    missing = [name for name in ANGLES if name not in landed.rows.columns]
    if missing:
        raise SourceError(f"{landed.source} lacks the columns {missing}; it has {landed.rows.columns}")
    rows = landed.rows.drop(*{"row", "distance"}.intersection(landed.rows.columns))
    return rows.join(_distances(rows, engine), LINE).mutate(row=lambda joined: joined[LINE])


def _distances(rows: Expression, engine: Engine) -> Expression:
    """The distance of each row, null where a coordinate is missing or no number; joined by the row's line."""
    import numpy as np
    import pyarrow as pa

    numbers = rows.select(LINE, **{name: rows[name].try_cast("float64") for name in ANGLES}).to_pyarrow()
    found = distance(*(np.asarray(numbers[name].to_numpy(), dtype=float) for name in ANGLES))
    table = pa.table({LINE: numbers[LINE], "distance": pa.array(found, from_pandas=True)})
    return engine.as_expression(table)


def read_compact(sources: Sources, engine: Engine) -> tuple[Landed, SmallTable]:
    """The hotels in their smallest form, and the same rows to be judged and published.

    The rows are read from the small table: it is never unpacked in memory.

    Raises
    ------
    SourceError
        No source is set, or it is missing, unreachable or no table.
    """
    source = sources.find(HOTELS)
    folder = engine.folder("landing")
    try:
        file = fetch(source, folder / "file")
        try:
            small = read_small(file)
            rows = engine.as_expression(_numbered(small))
        except SourceError as error:
            raise SourceError(str(error).replace(str(file), str(source))) from None
        with file.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        remarks = remarks_on(file)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return Landed(source, rows, digest, folder, remarks), small


def _numbered(small: SmallTable) -> pa.Table:
    """The table with the line of each row, and the lines that are no rows behind them."""
    import pyarrow as pa

    table = small.arrow.rename_columns([column.name.strip().lower() for column in small.columns])
    nothing = pa.nulls(small.rows, pa.string())
    rows = table.append_column(LINE, pa.array(small.lines())).append_column(ERROR, nothing).append_column(TEXT, nothing)
    if small.unread:
        told = {
            LINE: pa.array([unread.line for unread in small.unread], pa.int64()),
            ERROR: [unread.reason for unread in small.unread],
            TEXT: [unread.text for unread in small.unread],
        }
        rows = pa.concat_tables([rows, pa.table(told)], promote_options="default")
    return rows.append_column("row", rows[LINE])
