"""A landing zone for tests, in a local folder or an object store. Dagster runs load its files into a table."""

import os
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import dagster as dg
import fsspec

from platform_assets.definitions import resources
from platform_assets.engine.query_engine import Engine
from platform_assets.engine.row_batch import RowBatch
from platform_assets.lake.assets import table_asset
from platform_assets.lake.delta_tables import TableStore
from platform_assets.lake.expectations import is_present
from platform_assets.lake.landed_files import LandedFiles
from platform_assets.lake.schemas import Column, TableSchema
from platform_assets.landing.landing_zone import DeclaredZone, LandingZones, Zone
from platform_assets.landing.path_pattern import Kind
from platform_assets.landing.sensors import files_landed_sensor
from platform_assets.landing.zone_files import LandedFile
from platform_assets.services import Services
from platform_assets.settings import DomainSettings

PARCELS = TableSchema(
    name="yard/parcels",
    columns=(
        Column("file_digest", "string", "Digest of the file."),
        Column("line", "int64", "Line of the file."),
        Column("file_name", "string", "Name of the file."),
        Column("gate", "string", "Gate of the yard."),
        Column("weighed_at", "timestamp('UTC')", "Time of the scales."),
        Column("weight_kg", "float64", "Weight.", "kg"),
        Column("pieces", "int64", "Number of pieces."),
        Column("landed_at", "timestamp('UTC')", "Time of the batch."),
    ),
    key=("file_digest", "line"),
    source=True,
    accumulates=True,
    expectations=(is_present("weight_kg"),),
)
FIELDS: dict[str, Kind] = {"gate": "text", "weighed_at": "time"}
HEADER = "weight_kg,pieces\n"
JOB = "take_parcels"


class YardSettings(DomainSettings):
    """Settings of the zone."""

    yard_uri: str = ""
    yard_pattern: str = ""
    yard_settle_seconds: float = 0


def write_samples(folder: Any) -> list[Any]:
    """Write a sample file."""
    path = folder / "north" / "sample.txt"
    path.parent.mkdir()
    path.write_text(f"{HEADER}1.5,2\n")
    return [path]


DECLARED = DeclaredZone(
    name="yard",
    settings=YardSettings,
    uri="yard_uri",
    settle_seconds="yard_settle_seconds",
    columns=("weight_kg", "pieces"),
    fields=FIELDS,
    pattern="yard_pattern",
    demo=write_samples,
)


@table_asset(PARCELS, owners=["team:yard"])
def parcels(
    context: dg.AssetExecutionContext,
    zones: dg.ResourceParam[LandingZones],
    tables: dg.ResourceParam[TableStore],
    engine: dg.ResourceParam[Engine],
) -> RowBatch:
    """Parcels that were weighed."""
    return zones.find(DECLARED).take(LandedFiles(tables, PARCELS), engine, context.run.run_id)


take_parcels = dg.define_asset_job(JOB, selection=dg.AssetSelection.assets(parcels))
parcels_landed = files_landed_sensor("parcels_landed", DECLARED, JOB)


@dataclass
class Yard:
    """The zone, and the platform that loads its files.

    Attributes
    ----------
    services
        The platform's engine, stores and databases.
    uri
        Location of the zone.
    options
        Options that fsspec needs to open this location.
    """

    services: Services
    uri: str
    options: dict[str, Any] = field(default_factory=dict)
    _written: int = 0

    @cached_property
    def files(self) -> Any:
        return fsspec.core.url_to_fs(self.uri, **self.options)[0]

    @property
    def root(self) -> str:
        return str(fsspec.core.url_to_fs(self.uri, **self.options)[1])

    @property
    def zone(self) -> Zone:
        return LandingZones(self.services.sources, lambda: self.services.database).find(DECLARED)

    def drop(self, name: str, text: str | bytes) -> None:
        """Write a file into the zone, with a newer modification time than every earlier file."""
        path = f"{self.root}/{name}"
        with suppress(FileExistsError):
            self.files.makedirs(path.rsplit("/", 1)[0], exist_ok=True)
        self.files.pipe(path, text.encode() if isinstance(text, str) else text)
        self.touch(name)

    def touch(self, name: str) -> None:
        """Give a local file a new modification time. An object store does this itself at each write."""
        if "file" in self.files.protocol:
            self._written += 1
            os.utime(f"{self.root}/{name}", (1_000_000_000 + self._written,) * 2)

    def remove(self, name: str) -> None:
        self.files.rm(f"{self.root}/{name}")

    def run(self, instance: dg.DagsterInstance, *, may_fail: bool = False) -> dg.ExecuteInProcessResult:
        """Materialise the table once, and return the result."""
        result = dg.materialize(
            [parcels], resources=resources(lambda: self.services), instance=instance, raise_on_error=False
        )
        assert may_fail or result.success, failure(result)
        return result

    def rows(self, table: str = PARCELS.name) -> list[tuple[Any, ...]]:
        """Return the sorted rows of `parcels` or of its quarantine table.

        A row is the file name, the line, and the weight (`parcels`) or the broken rules (quarantine table).
        """
        if not self.services.tables.exists(table):
            return []
        value = "weight_kg" if table == PARCELS.name else "broken_rules"
        frame = self.services.tables.read(table, columns=["file_name", "line", value])
        return sorted(frame.itertuples(index=False, name=None))

    def bad(self) -> list[tuple[Any, ...]]:
        return self.rows(PARCELS.quarantine)

    def states(self) -> dict[str, str]:
        """Return the state of each recorded content. The key is the names of its files, joined with spaces."""
        with self.services.database.pooled() as connection:
            query = "select array_to_string(names, ' '), state from platform.landing_files order by names"
            return dict(connection.execute(query).fetchall())

    def file(self, name: str) -> LandedFile:
        """Return the newest record of the file with this name."""
        return self.zone.files.find(name)[0]

    def pass_time(self, seconds: float) -> None:
        """Subtract `seconds` from the times at which the files were first listed."""
        with self.services.database.pooled() as connection, connection.transaction():
            connection.execute(
                "update platform.landing_names set seen_at = seen_at - make_interval(secs => %s)", [seconds]
            )


def failure(result: dg.ExecuteInProcessResult) -> str:
    return "; ".join(str(event.step_failure_data.error) for event in result.all_events if event.is_step_failure)


def metadata(result: dg.ExecuteInProcessResult) -> dict[str, Any]:
    [event] = [event for event in result.all_events if event.is_step_materialization]
    return {name: value.value for name, value in event.materialization.metadata.items()}
