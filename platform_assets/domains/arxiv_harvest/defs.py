"""The arXiv harvest in Dagster: two assets, a check, the job and its schedule."""

import dagster as dg

from platform_assets.base.frames import Expression
from platform_assets.database.connections import Database
from platform_assets.domains.arxiv_harvest import metadata, schemas
from platform_assets.domains.arxiv_harvest import papers as stored_papers
from platform_assets.domains.arxiv_harvest.harvest import harvest, read_saved_searches
from platform_assets.domains.arxiv_harvest.sources import open_arxiv
from platform_assets.engine.query_engine import Engine
from platform_assets.lake.assets import IO_MANAGER, column_schema, table_asset
from platform_assets.landing.declared_sources import Sources
from platform_assets.orchestration.failures import plain_failures

OWNERS = ["team:platform"]
# Run a few hours after arXiv publishes new papers, which is at about 00:00 UTC.
SCHEDULE = "0 6 * * *"
SEARCHES_ANSWERED = dg.AssetCheckSpec(
    "every_saved_search_was_answered",
    asset=schemas.QUERIES.name.split("/"),
    description="Each saved search of this harvest succeeded. A failed search is stored with its error.",
)


@dg.asset(
    key=schemas.QUERIES.name.split("/"),
    group_name=schemas.QUERIES.domain,
    owners=OWNERS,
    kinds={"postgres", "arxiv"},
    metadata={"dagster/column_schema": column_schema(schemas.QUERIES), "dagster/table_name": "arxiv_harvest.queries"},
    check_specs=[SEARCHES_ANSWERED],
    io_manager_key=IO_MANAGER,
)
def queries(sources: dg.ResourceParam[Sources], database: dg.ResourceParam[Database]) -> dg.MaterializeResult:  # type: ignore[type-arg]  # Dagster recognises only the bare class
    """The searches that were sent to arXiv. Each harvest repeats the saved searches and stores new results."""
    from platform_assets.domains.arxiv_harvest.storage import Searches

    # Hold the lock, so that two harvests at once do not store the same results twice.
    with plain_failures(), database.lock(schemas.QUERIES.name), open_arxiv(sources, database) as arxiv:
        stored = Searches(lambda: database.engine)
        harvested = harvest(arxiv, stored, read_saved_searches())
        facts = metadata.of_harvest(harvested, arxiv.server, stored.count())
    return dg.MaterializeResult(
        metadata=facts,
        check_results=[metadata.check_of_harvest(harvested, SEARCHES_ANSWERED)],
    )


@table_asset(schemas.PAPERS, owners=OWNERS, deps=[queries])
def papers(
    context: dg.AssetExecutionContext, database: dg.ResourceParam[Database], engine: dg.ResourceParam[Engine]
) -> Expression:
    """One row per paper found, with the metadata of its newest stored version."""
    table = stored_papers.papers_table(database.engine)
    per_search = stored_papers.papers_per_search(database.engine)
    context.add_asset_metadata(metadata.of_papers(table, per_search))
    return engine.as_expression(table)


@dg.asset_check(
    asset=schemas.QUERIES.name.split("/"),
    name="every_query_has_its_results",
    description="`num_results` of each query equals its number of stored results; results are numbered without gaps.",
)
def every_query_has_its_results(database: dg.ResourceParam[Database]) -> dg.AssetCheckResult:
    """Compare the counts in the table of queries with the stored results."""
    from platform_assets.domains.arxiv_harvest.storage import Searches

    wrong, gaps = Searches(lambda: database.engine).inconsistencies()
    return dg.AssetCheckResult(passed=not (wrong or gaps), metadata={"wrong_queries": wrong, "missing_numbers": gaps})


harvest_arxiv = dg.define_asset_job(
    "harvest_arxiv",
    selection=dg.AssetSelection.groups(schemas.QUERIES.domain),
    description="Repeat the saved arXiv searches, store new results, and publish the table of papers.",
)

harvest_arxiv_daily = dg.ScheduleDefinition(
    name="harvest_arxiv_daily",
    job=harvest_arxiv,
    cron_schedule=SCHEDULE,
    execution_timezone="UTC",
    description="Run `harvest_arxiv` every day.",
)
