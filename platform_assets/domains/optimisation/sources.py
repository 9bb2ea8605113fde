"""Sources of the two optimisations, and the rows that are made from them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from platform_assets.base.errors import SourceError
from platform_assets.domains.optimisation import demo
from platform_assets.domains.optimisation.distance import distance
from platform_assets.domains.optimisation.memory import read_small
from platform_assets.domains.optimisation.schemas import COMPACT_TABLE
from platform_assets.domains.optimisation.settings import OptimisationSettings
from platform_assets.lake.field_types import as_type
from platform_assets.landing.declared_sources import DeclaredSource
from platform_assets.landing.landed_rows import PARQUET, Landed, any_encoding, land
from platform_assets.landing.row_writer import LINE, OWN
from platform_assets.landing.text_encodings import MARKED
from platform_assets.settings import variable

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pyarrow as pa

    from platform_assets.base.frames import Expression
    from platform_assets.domains.optimisation.small_table import SmallTable
    from platform_assets.engine.query_engine import Engine
    from platform_assets.landing.declared_sources import Sources

COORDINATES = DeclaredSource(OptimisationSettings, "speed_data_uri", demo.COORDINATES)
HOTELS = DeclaredSource(OptimisationSettings, "memory_data_uri", demo.HOTELS)
ANGLES = ("latitude", "longitude")


def read_distances(sources: Sources, engine: Engine) -> Landed:
    """Land the coordinates, and add the distance of each row.

    Raises
    ------
    SourceError
        No source is set, or the source is missing, unreachable or not a table, or has no coordinates.
    """
    landed = _landed(COORDINATES, "speed_data_encoding", sources, engine)
    try:
        return replace(landed, rows=_measured(landed, engine)).numbered("row")
    except BaseException:
        landed.discard()
        raise


def _landed(declared: DeclaredSource, setting: str, sources: Sources, engine: Engine) -> Landed:
    """Land a file in any encoding. A remark reports a guessed encoding, because a wrong guess gives wrong letters."""
    encoding = getattr(sources.settings_of(OptimisationSettings), setting)
    landed = land(sources.find(declared), engine, reader=any_encoding(encoding))
    if encoding or landed.source.demo or landed.encoding in {PARQUET, *MARKED}:
        return landed
    remark = (
        f"its text encoding was detected as {landed.encoding}. If this is wrong, some letters are wrong; set "
        f"{variable(setting)} to the right encoding"
    )
    return replace(landed, remarks=[*landed.remarks, remark])


def _measured(landed: Landed, engine: Engine) -> Expression:
    missing = [name for name in ANGLES if name not in landed.rows.columns]
    if missing:
        found = [name for name in landed.rows.columns if name not in OWN]
        raise SourceError(f"{landed.source} lacks the columns {missing}; it has {found}")
    # Drop a source column named `distance`, because the table computes its own.
    rows = landed.rows.drop(*{"distance"}.intersection(landed.rows.columns))
    return rows.join(_distances(rows, engine), LINE)


def _distances(rows: Expression, engine: Engine) -> Expression:
    """Return the `source_line` and the distance of each row.

    The distance is null if a coordinate is missing or not a number.
    """
    import ibis
    import numpy as np
    import pyarrow as pa

    kind = ibis.dtype("float64")
    numbers = rows.select(LINE, **{name: as_type(rows[name], kind) for name in ANGLES}).to_pyarrow()
    found = distance(*(np.asarray(numbers[name].to_numpy(), dtype=float) for name in ANGLES))
    table = pa.table({LINE: numbers[LINE], "distance": pa.array(found, from_pandas=True)})
    return engine.as_expression(table)


def read_compact(sources: Sources, engine: Engine) -> tuple[Landed, SmallTable]:
    """Land the hotels, and read them into a small table. The landed rows are those of the small table.

    The engine reads the small table in place, so the table is never decompressed as a whole.

    Raises
    ------
    SourceError
        No source is set, or the source is missing, unreachable or not a table.
    """
    landed = _landed(HOTELS, "memory_data_encoding", sources, engine)
    try:
        whole = read_small(landed.files[0], types=_declared_types())
        columns = tuple(column for column in whole.columns if column.name not in {"row", *OWN})
        small = replace(whole, columns=columns)
        return replace(landed, rows=engine.as_expression(_numbered(small, landed))), small
    except BaseException:
        landed.discard()
        raise


def _declared_types() -> Mapping[str, pa.DataType]:
    """Return the types for `read_small`: the schema's numeric types, and text for columns that the lake parses."""
    import pyarrow as pa

    numbers = {"int64": pa.int64(), "float64": pa.float64()}
    return {column.name: numbers.get(column.type, pa.string()) for column in COMPACT_TABLE.columns}


def _numbered(small: SmallTable, landed: Landed) -> pa.Table:
    """Return the small table with the platform's own columns, followed by the unreadable lines."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    readable, unread = landed.files
    own = [name for name in pq.read_schema(readable).names if name in OWN]
    table = small.arrow
    for name, column in zip(own, pq.read_table(readable, columns=own).columns, strict=True):
        table = table.append_column(name, column)
    if unread.exists():
        table = pa.concat_tables([table, pq.read_table(unread, columns=own)], promote_options="default")
    return table.append_column("row", table[LINE])
