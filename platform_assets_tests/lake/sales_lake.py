"""A lake for tests, and sample sales to publish in it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pandas as pd

from platform_assets.lake.delta_tables import MEMORY, TableStore

if TYPE_CHECKING:
    from platform_assets.base.frames import Frame
    from platform_assets.engine.query_engine import Engine
    from platform_assets.lake.table_versions import TableVersion

NAME = "shop/sales"
NOW = timedelta(0)


@dataclass
class Lake:
    """A table store, with the arguments that another process needs to open it."""

    store: TableStore
    engine: Engine
    uri: str
    options: dict[str, str]

    @property
    def is_shared(self) -> bool:
        return not self.uri.startswith(MEMORY)

    def publish(self, rows: Any, by: str | None = None, name: str = NAME, **more: Any) -> TableVersion:
        with self.engine.stage(rows, by) as staged:
            return self.store.publish(name, staged, **more)


def sales(*amounts: float) -> Frame:
    return pd.DataFrame({"id": range(len(amounts)), "amount": [float(amount) for amount in amounts]})


def by_month(**amounts: float) -> Frame:
    return pd.DataFrame({"month": [*amounts], "amount": [float(amount) for amount in amounts.values()]})


def contents(frame: Frame) -> list[tuple[Any, ...]]:
    return sorted(frame.itertuples(index=False, name=None))
