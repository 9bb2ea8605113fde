"""Test setup: a trainer, and a published table of readings."""

from __future__ import annotations

import copy
import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from platform_assets.engine.query_engine import Engine
from platform_assets.lake.delta_tables import MEMORY, TableStore
from platform_assets.models.artefact_store import ArtefactStore
from platform_assets.models.memory_registry import MemoryRegistry
from platform_assets.training.trainer import Trainer
from platform_assets_tests.training.breakage_model import ONE_CANDIDATE, publish, readings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import pandas as pd

    from platform_assets.training.model_spec import ModelSpec
    from platform_assets.training.training_results import Training


class Bench:
    """A trainer with tables and registry in memory, and artefacts in a temporary folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.engine = Engine(folder / "scratch")
        self.tables = TableStore(MEMORY, self.engine)
        self.artefacts = ArtefactStore(str(folder))
        self.registry = MemoryRegistry()
        self.trainer = Trainer(self.tables, self.artefacts, self.registry)
        self.lines: list[str] = []

    def publish(self, frame: pd.DataFrame, **options: Any) -> None:
        """Publish readings as the current version of their table."""
        publish(self.tables, self.engine, frame, **options)

    def train(self, spec: ModelSpec = ONE_CANDIDATE, launched_by: str = "user") -> Training:
        """Train, and collect the progress messages."""
        return self.trainer.train(spec, launched_by, self.lines.append)

    def take_over(self, other: Bench) -> None:
        """Copy the trained versions of another bench, which has the same readings."""
        shutil.copytree(other.folder / "models", self.folder / "models")
        for name in ("_versions", "_records", "_aliases"):
            setattr(self.registry, name, copy.deepcopy(getattr(other.registry, name)))


@contextmanager
def opened(folder: Path) -> Iterator[Bench]:
    """Open a bench whose table of readings is already published."""
    bench = Bench(folder)
    bench.publish(readings())
    yield bench
    bench.engine.close()
