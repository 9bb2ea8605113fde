"""A test plant: a landing zone, champions, and runs that make predictions for the landed files."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import dagster as dg
import numpy as np
import pandas as pd
from pydantic import SecretStr

from platform_assets.definitions import resources
from platform_assets.domains.sensor_maintenance.defs import (
    devices,
    devices_are_reporting,
    predictions,
    readings_incoming,
)
from platform_assets.domains.sensor_maintenance.model import MODEL
from platform_assets.domains.sensor_maintenance.schemas import PREDICTIONS, READINGS
from platform_assets.domains.sensor_maintenance.settings import SensorMaintenanceSettings
from platform_assets.domains.sensor_maintenance.sources import INCOMING
from platform_assets.models.fitted_model import FittedModel, library_versions
from platform_assets.services import Services
from platform_assets.settings import Settings
from platform_assets_tests.approval.proposals import SOMEBODY, promote
from platform_assets_tests.instances import empty_instance

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

HEADER = ",".join(READINGS)
EVIDENCE = {"verdict": {"passed": True, "reasons": []}, "metrics": {"recall": {"value": 0.99}}, "demo": True}
ALL = (readings_incoming, predictions, devices)
THRESHOLD = 0.4


@cache
def model_of(slope: float, ranges: bool = True) -> FittedModel:
    """Return a logistic regression whose score rises with `sensor_1`. Different slopes give different scores."""
    from sklearn.linear_model import LogisticRegression

    rows = pd.DataFrame({"sensor_1": np.linspace(-2, 2, 20), "sensor_2": np.tile([-1.0, 1.0], 10)})
    estimator = LogisticRegression().fit(rows, rows["sensor_1"] > 0)
    estimator.coef_ = np.array([[slope, 0.0]])
    known = {"sensor_1": (-2.0, 2.0), "sensor_2": (-1.0, 1.0)} if ranges else None
    model = FittedModel(estimator, READINGS, rows, np.zeros(len(rows)), library_versions(), known)
    return dataclasses.replace(model, golden_scores=model.scores(rows))


def open_plant(home: Path, url: str, **settings: Any) -> Services:
    """Return services whose landing zone is the folder `zone` in `home`, and which read new files immediately."""
    (home / "zone").mkdir(parents=True, exist_ok=True)
    own = SensorMaintenanceSettings(
        sensor_landing_uri=str(home / "zone"),
        sensor_settle_seconds=0,
        sensor_path_pattern="{device}/{recorded_at}.txt",
        **settings,
    )
    return Services(Settings(home=home, database_url=SecretStr(url), rate_limit="off"), (own,))


@dataclass
class Plant:
    """A platform with a landing zone and sensor models.

    Attributes
    ----------
    services
        Services, from `open_plant`.
    versions
        Number of versions that were promoted.
    """

    services: Services
    versions: int = 0

    def drop(self, name: str, *readings: Sequence[Any]) -> bytes:
        """Write a file with readings into the zone, and return its content."""
        path = self.services.settings.home / "zone" / name
        path.parent.mkdir(exist_ok=True)
        content = "\n".join([HEADER, *(",".join(map(str, reading)) for reading in readings), ""]).encode()
        path.write_bytes(content)
        return content

    def promote(self, slope: float, threshold: float = THRESHOLD, *, ranges: bool = True) -> int:
        """Make a new version the champion, and return the number of its approval request."""
        self.versions += 1
        return promote(
            self.services.ledger,
            self.versions,
            SOMEBODY,
            digest=self.services.artefacts.save(model_of(slope, ranges)),
            model=MODEL.name,
            threshold=threshold,
            evidence=EVIDENCE,
        )

    def run(self, *assets: dg.AssetsDefinition) -> dict[str, Any]:
        """Materialise `assets` (by default all assets of the domain), and return the metadata of the predictions."""
        events = self._materialise(*(assets or ALL)).get_asset_materialization_events()
        return {
            name: value.value
            for event in events
            if event.asset_key == dg.AssetKey(PREDICTIONS.name.split("/"))
            for name, value in event.materialization.metadata.items()
        }

    def evaluation(self, check: str) -> dg.AssetCheckEvaluation:
        """Materialise all assets of the domain with the checks of the devices, and return one check's evaluation."""
        result = self._materialise(*ALL, devices_are_reporting)
        [found] = [one for one in result.get_asset_check_evaluations() if one.check_name == check]
        return found

    def _materialise(self, *assets: dg.AssetsDefinition) -> dg.ExecuteInProcessResult:
        with empty_instance() as instance:
            given = resources(lambda: self.services)
            return dg.materialize(
                [*dict.fromkeys((*ALL, *assets))], selection=[*assets], resources=given, instance=instance
            )

    def in_lake(self, *columns: str) -> list[tuple[Any, ...]]:
        """Return the given columns of the predictions in the lake, sorted by row."""
        table = self.services.tables.read(PREDICTIONS.name, columns=[*columns]).astype(object)
        return sorted(table.where(table.notna(), None).itertuples(index=False, name=None))

    def in_database(self, *columns: str) -> list[tuple[Any, ...]]:
        """Return the given columns of the predictions in PostgreSQL, sorted by row."""
        with self.services.database.pooled() as connection:
            query = f"select {', '.join(columns)} from sensor_maintenance.predictions"
            return sorted(connection.execute(query.encode()).fetchall())

    def states(self) -> dict[str, str]:
        """Return the state of each file, by the name under which it was first found."""
        with self.services.database.pooled() as connection:
            query = b"select names[1], state from platform.landing_files where zone = %s"
            return dict(connection.execute(query, [INCOMING.name]).fetchall())
