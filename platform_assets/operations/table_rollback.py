"""Roll back a table: restore its rows, rebuild its downstream tables, and find the models trained on it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import dagster as dg

from platform_assets.approval.ledger import Ledger
from platform_assets.approval.requests import OPEN
from platform_assets.base.errors import TableError
from platform_assets.lake.ancestry import Ancestry
from platform_assets.lake.delta_tables import TableStore
from platform_assets.lake.step_tables import STORE
from platform_assets.lake.undone_loads import UNDONE, Restored
from platform_assets.models.registry import UNDONE_TABLES, ModelRegistry
from platform_assets.orchestration.in_process_runs import run_in_process


@dataclass(frozen=True)
class Affected:
    """A model version that was trained on a rolled-back table version.

    Attributes
    ----------
    model, version
        The model version.
    tables
        The rolled-back table versions that the training used, as `<table> version <number>`.
    is_champion
        Whether the model version is the champion.
    requests
        Numbers of the model version's open approval requests.
    """

    model: str
    version: int
    tables: Sequence[str]
    is_champion: bool
    requests: Sequence[int]

    @property
    def told(self) -> str:
        """Return one line about the model version, with the fix."""
        what = f"{self.model} version {self.version} was trained on {', '.join(self.tables)}"
        champion = f"; it is the champion: retrain it, or run `platform-assets rollback {self.model}`"
        opened = f"; open requests: {', '.join(map(str, self.requests))}"
        return f"{what}{champion if self.is_champion else ''}{opened if self.requests else ''}"


def demand_lake_table(definitions: dg.Definitions, name: str) -> None:
    """Raise an error if a name does not belong to a table of the lake.

    Raises
    ------
    TableError
        The name is unknown (the message lists the tables), or belongs to an online table.
    """
    stores = _stores(definitions)
    if stores.get(name) == "online":
        graph = definitions.resolve_asset_graph()
        parents = ", ".join("/".join(key.path) for key in graph.get(dg.AssetKey(name.split("/"))).parent_keys)
        raise TableError(
            f"{name} is stored in PostgreSQL, which keeps no old versions; roll back its source table: {parents}"
        )
    if name not in stores:
        tables = ", ".join(sorted(table for table, store in stores.items() if store == "lake"))
        raise TableError(f"there is no table {name}; the tables are {tables}")


def report_restored(instance: dg.DagsterInstance, restored: Restored) -> None:
    """Record the rollback in Dagster's history, so that downstream assets are shown as stale."""
    version = restored.version
    undone = version.metadata[UNDONE]
    instance.report_runless_asset_event(
        dg.AssetMaterialization(
            dg.AssetKey(version.name.split("/")),
            description=f"Rolled back to version {restored.source.version} by {undone['by']}: {undone['reason']}",
            metadata={
                "dagster/row_count": version.rows,
                "version": version.version,
                "digest": version.digest,
                UNDONE: dg.MetadataValue.json(undone),
            },
            tags={"dagster/data_version": version.digest},
        )
    )


def dependent_tables(definitions: dg.Definitions, tables: TableStore, name: str) -> tuple[list[str], list[str]]:
    """Return the downstream tables in two lists: tables that one run can rebuild, and all other tables.

    A run cannot rebuild partitioned tables or tables that accumulate. Partitioned tables need a backfill.

    Parameters
    ----------
    definitions, tables
        The code location, and the lake.
    name
        Name of the table.
    """
    graph = definitions.resolve_asset_graph()
    stores = _stores(definitions)
    made: list[str] = []
    others: list[str] = []
    for key in dg.AssetSelection.assets(dg.AssetKey(name.split("/"))).downstream(include_self=False).resolve(graph):
        table = "/".join(key.path)
        if table in stores:
            by_run = graph.get(key).partitions_def is None and not tables.last_batch(table)
            (made if by_run else others).append(table)
    return sorted(made), sorted(others)


def make_again(definitions: dg.Definitions, instance: dg.DagsterInstance, names: Sequence[str]) -> list[str]:
    """Materialise tables in one run; return the names of those that failed."""
    if not names:
        return []
    keys = [dg.AssetKey(name.split("/")) for name in names]
    result = run_in_process(definitions.resolve_implicit_global_asset_job_def(), instance, asset_selection=keys)
    done = {"/".join(event.asset_key.path) for event in result.get_asset_materialization_events() if event.asset_key}
    return [name for name in names if name not in done]


def affected_models(
    tables: TableStore, registry: ModelRegistry, ledger: Ledger, undone: Mapping[str, set[int]]
) -> list[Affected]:
    """Tag and return the model versions trained on rolled-back table versions, or on tables derived from them.

    Parameters
    ----------
    tables, registry, ledger
        The lake, and the records of models and decisions.
    undone
        The rolled-back versions, by table.
    """
    ancestry, found = Ancestry(tables), []
    for model in registry.names():
        champion = ledger.champion(model)
        for version in registry.versions(model):
            behind = ancestry.closure({name: {number} for name, number in version.tables.items()})
            wrong = {name: sorted(numbers & behind.get(name, set())) for name, numbers in undone.items()}
            named = [f"{name} version {number}" for name, numbers in wrong.items() for number in numbers]
            if not named:
                continue
            earlier = json.loads(version.tags.get(UNDONE_TABLES, "{}"))
            tagged = {name: sorted({*earlier.get(name, ()), *wrong.get(name, ())}) for name in {*earlier, *wrong}}
            registry.set_tags(model, version.version, {UNDONE_TABLES: json.dumps(tagged, sort_keys=True)})
            requests = [one.id for one in ledger.requests(model, OPEN) if one.version == version.version]
            is_champion = champion is not None and champion.version == version.version
            found.append(Affected(model, version.version, named, is_champion, requests))
    return found


def _stores(definitions: dg.Definitions) -> dict[str, str]:
    return {
        "/".join(spec.key.path): spec.metadata[STORE]
        for assets in definitions.assets or ()
        for spec in (assets.specs if isinstance(assets, dg.AssetsDefinition) else ())
        if STORE in spec.metadata
    }
