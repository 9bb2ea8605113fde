"""The assets of the optimisations. `sources.py` reads the sources and computes the rows."""

import dagster as dg

from platform_assets.domains.optimisation import report, schemas
from platform_assets.domains.optimisation.sources import read_compact, read_distances
from platform_assets.engine.query_engine import Engine
from platform_assets.lake.assets import table_asset
from platform_assets.landing.declared_sources import Sources
from platform_assets.landing.landed_rows import Landed

OWNERS = ["team:platform"]


@table_asset(schemas.DISTANCES, owners=OWNERS, kinds={"numba"})
def distances(sources: dg.ResourceParam[Sources], engine: dg.ResourceParam[Engine]) -> Landed:
    """The distance formula, computed for each row of a table with latitude and longitude; angles are not converted."""
    return read_distances(sources, engine)


@table_asset(schemas.COMPACT_TABLE, owners=OWNERS, kinds={"arrow"})
def compact_table(
    context: dg.AssetExecutionContext, sources: dg.ResourceParam[Sources], engine: dg.ResourceParam[Engine]
) -> Landed:
    """The hotels, read into a compressed table in memory; the metadata show the size of each column."""
    landed, small = read_compact(sources, engine)
    sizes = report.competitors(small)
    context.add_asset_metadata(
        {
            "columns": dg.MetadataValue.md(report.per_column(small)),
            "competitors": dg.MetadataValue.md(report.bar_chart(sizes)),
            "bytes_by_way": dict(sizes),
            "encoding": landed.encoding,
        }
    )
    return landed
