"""What a table is, as data: its name, columns, key and expectations.

A domain's `schemas.py` declares its tables with these. Nothing here reads or writes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from platform_assets.lake.expectations import Expectation


@dataclass(frozen=True)
class Column:
    """One column.

    Attributes
    ----------
    name
        Its name; a unit that is not obvious is part of it (`demand_mw`).
    type
        An Ibis type, e.g. `int64`, `float64`, `string`, `date`.
    description
        What a value says, for someone who sees the table for the first time.
    unit
        Unit of the values, where they have one.
    """

    name: str
    type: str
    description: str
    unit: str | None = None


@dataclass(frozen=True)
class TableSchema:
    """One table.

    Attributes
    ----------
    name
        `<domain>/<table>`, which is also its asset key.
    columns
        Its columns, in order.
    key
        Columns that together name one row.
    expectations
        What is checked before a new version is published.
    source
        Whether it comes straight from outside. Then rows that break a row expectation
        go to `<name>_quarantine` instead of stopping the table.
    store
        `lake` for tables that are read whole, `online` for rows that are read one by one.
    partition_by
        The string column whose values are the asset's partition keys; a run replaces the partitions it is for.

    Raises
    ------
    ValueError
        A partitioned table that comes straight from outside, or is online: nothing says what would become of the
        bad rows, or the single rows, of other partitions.
    """

    name: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    expectations: tuple[Expectation, ...] = ()
    source: bool = False
    store: Literal["lake", "online"] = "lake"
    partition_by: str | None = None

    def __post_init__(self) -> None:
        if self.partition_by and (self.source or self.store == "online"):
            raise ValueError(f"{self.name}: only a derived table of the lake can be partitioned")

    @property
    def domain(self) -> str:
        """The domain that owns the table."""
        return self.name.split("/")[0]

    @property
    def quarantine(self) -> str:
        """Name of the table that keeps the rows set apart."""
        return f"{self.name}_quarantine"
