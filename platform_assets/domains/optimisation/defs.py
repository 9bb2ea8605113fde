"""The optimisations in Dagster: wiring only. What is computed, and from what, is next door."""

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
    """The distance formula for every row of a table with latitude and longitude, angles as given."""
    return read_distances(sources, engine)


@table_asset(schemas.COMPACT_TABLE, owners=OWNERS, kinds={"arrow"})
def compact_table(
    context: dg.AssetExecutionContext, sources: dg.ResourceParam[Sources], engine: dg.ResourceParam[Engine]
) -> Landed:
    """The hotels, read into as little memory as their values allow; what each column took is in the metadata."""
    landed, small = read_compact(sources, engine)
    sizes = report.competitors(small)
    context.add_asset_metadata(
        {
            "columns": dg.MetadataValue.md(report.per_column(small)),
            "competitors": dg.MetadataValue.md(report.bar_chart(sizes)),
            "bytes_by_way": dict(sizes),
            "encoding": small.encoding or "parquet",
        }
    )
    return landed
