"""The tables of one Dagster step. Each input is pinned to one version, which the step reads and records.

Versions are pinned per step, not per run, because each step may run in its own process. A retry pins the versions that
are newest when it begins.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from platform_assets.lake.lineage import Lineage

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from platform_assets.lake.delta_tables import TableStore
    from platform_assets.lake.online_tables import OnlineTables, OnlineVersion
    from platform_assets.lake.table_versions import TableVersion

QUARANTINE = "platform/quarantine"
STORE = "platform/store"

_steps: WeakKeyDictionary[Any, StepTables] = WeakKeyDictionary()


class StepTables:
    """The tables of a step, at their versions when the step began.

    Parameters
    ----------
    tables
        Store of the tables in the lake.
    online
        The online tables.
    inputs
        Names of the tables that the step reads.
    outputs
        The store (`lake` or `online`) of each table that the step publishes, by name of the table.

    Attributes
    ----------
    store
        The lake, with the step's inputs pinned.
    """

    def __init__(
        self, tables: TableStore, online: OnlineTables, inputs: Iterable[str], outputs: Mapping[str, str]
    ) -> None:
        self._newest = tables
        self._inputs = sorted(set(inputs) - set(outputs))
        # Read the outputs first. If an output changes while the inputs are pinned, the step then notices the change.
        self._before: dict[str, TableVersion | OnlineVersion | None] = {
            name: online.current(name) if store == "online" else tables.current(name) for name, store in outputs.items()
        }
        self._pins = {name: tables.current(name) for name in self._inputs}
        self.store = tables.pinned(self._pins)

    def record(self) -> dict[str, dict[str, Any]]:
        """Return the version, digest and demo flag of each lake input, by name."""
        return {
            name: {
                "version": version.version,
                "digest": version.digest,
                "demo": bool(version.metadata.get("demo")),
            }
            for name, version in self._pins.items()
            if version
        }

    def lineage(self, name: str) -> Lineage:
        """Return the lineage of a table that this step publishes."""
        return Lineage(self._pins, self._before.get(name), self._newest_version)

    def _newest_version(self, name: str) -> int | None:
        version = self._newest.current(name)
        return version.version if version else None


def step_tables(step: Any, tables: TableStore, online: OnlineTables) -> StepTables:
    """Return the tables of a step. The first call for a step pins their versions.

    Parameters
    ----------
    step
        Dagster's context of the step (`StepExecutionContext`).
    tables
        Store of the tables in the lake.
    online
        The online tables.

    Raises
    ------
    TableError, DatabaseError
        The lake or the database cannot be reached, or a table is damaged.
    """
    if step not in _steps:
        assets = step.job_def.asset_layer.get_assets_def_for_node(step.node_handle)
        inputs, outputs = set(), {}
        for key in assets.keys if assets else ():
            metadata, name = assets.metadata_by_key[key], "/".join(key.path)
            inputs |= {"/".join(upstream.path) for upstream in assets.asset_deps[key]}
            outputs[name] = metadata.get(STORE, "lake")
            if QUARANTINE in metadata:
                outputs[metadata[QUARANTINE]] = "lake"
        _steps[step] = StepTables(tables, online, inputs, outputs)
    return _steps[step]
