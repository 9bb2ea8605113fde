"""Metadata of a harvest in Dagster: counts, failures, plots."""

from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg

from platform_assets.domains.arxiv_harvest.harvest import Harvested
from platform_assets.domains.arxiv_harvest.papers import bar_plot, month_plot, papers_per_month


def of_harvest(harvested: Sequence[Harvested], server: str, stored_queries: int) -> dict[str, Any]:
    """Return the metadata of the asset `queries`."""
    failures = {one.name: one.error for one in harvested if one.error is not None}
    return {
        "dagster/row_count": stored_queries,
        "server": server,
        "searches": len(harvested),
        "failed_searches": len(failures),
        "failures": dg.MetadataValue.json(failures),
        "new_results": sum(one.new_results for one in harvested),
        "new_papers": sum(one.new_papers for one in harvested),
        "harvested": dg.MetadataValue.md(_table(harvested)),
        "demo": server == "demo",
    }


def check_of_harvest(harvested: Sequence[Harvested], spec: dg.AssetCheckSpec) -> dg.AssetCheckResult:
    """Return the result of the check that no saved search failed.

    The severity is ERROR if all searches failed, otherwise WARN.
    """
    failed = [one for one in harvested if one.error is not None]
    all_failed = bool(failed) and len(failed) == len(harvested)
    return dg.AssetCheckResult(
        passed=not failed,
        asset_key=spec.asset_key,
        check_name=spec.name,
        severity=dg.AssetCheckSeverity.ERROR if all_failed else dg.AssetCheckSeverity.WARN,
        description="; ".join(f"{one.name}: {one.error}" for one in failed) or None,
        metadata={"failed_searches": len(failed)},
    )


def of_papers(table: Any, per_search: Mapping[str, int]) -> dict[str, Any]:
    """Return the metadata of the asset `papers`.

    Parameters
    ----------
    table
        The Arrow table of papers.
    per_search
        Number of papers of each saved search.
    """
    return {
        "sample_papers": sum(table["is_demo"].to_pylist()),
        "papers_per_search": dg.MetadataValue.md(bar_plot("Papers per saved search", per_search)),
        "papers_per_month": dg.MetadataValue.md(month_plot(papers_per_month(table))),
    }


def _table(harvested: Sequence[Harvested]) -> str:
    from tabulate import tabulate

    headers = ["search", "query", "status", "results on arXiv", "new results", "new papers", "error"]
    rows = [
        [one.name, one.query, one.status, one.total, one.new_results, one.new_papers, one.error] for one in harvested
    ]
    return tabulate(rows, headers, tablefmt="github", intfmt=",", missingval="")
