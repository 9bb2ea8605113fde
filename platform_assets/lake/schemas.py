"""Table schemas: declarations of the name, columns, key and expectations of a table.

A domain's `schemas.py` declares its tables with these classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import timedelta

    import ibis.expr.types as ir

    from platform_assets.lake.expectations import Expectation

PARTITION = "_partition"
"""Column with the partition keys of a table whose own columns do not contain them. Readers do not get this column."""


@dataclass(frozen=True)
class Column:
    """One column.

    Attributes
    ----------
    name
        Name of the column, including the unit if it is not obvious (`demand_mw`).
    type
        An Ibis type, e.g. `int64`, `float64`, `string`, `date`.
    description
        Meaning of a value, for a reader who is new to the table.
    unit
        Unit of the values, or time zone of a timestamp; None if there is neither.
    """

    name: str
    type: str
    description: str
    unit: str | None = None


@dataclass(frozen=True)
class Subject:
    """The person that each row of a table is about.

    Attributes
    ----------
    kind
        Kind of person, such as `client`; the same in all tables of the domain.
    column
        Column with the person's id.
    """

    kind: str
    column: str


@dataclass(frozen=True)
class TableSchema:
    """One table.

    Attributes
    ----------
    name
        `<domain>/<table>`, which is also the asset key.
    columns
        Its columns, in order.
    key
        Columns that together identify a row.
    expectations
        Conditions that are checked before a new version is published.
    source
        Whether the table is loaded from an external source. Rows that break an expectation about single rows then go to
        `<name>_quarantine`, and the other rows are published.
    store
        `lake` for tables that are read as a whole, `online` for rows that are looked up one by one.
    partition_by
        How a row is assigned to a partition of the asset: the name of a string column that contains the partition keys,
        or a function that computes the key of each row, for a table without such a column. A run replaces its own
        partitions.
    accumulates
        Whether a run adds a batch of rows to the table, instead of replacing it. The checks then apply to the batch
        only.
    from_itself
        Whether the asset computes the rows from the table's own earlier rows. Then only one step at a time makes the
        table, so that a second step continues from the rows of the first.
    fresh_within
        Maximum time between two versions; None for a table without a schedule. The daily monitoring also compares the
        age of every table with its usual age.
    on_request
        Whether only the table's own job materialises it, not `platform-assets run`.
    subject
        The person that a row is about, for `platform-assets erase`; None if rows are not about persons.

    Raises
    ------
    ValueError
        The table has a subject, and is partitioned or accumulates: rows cannot be erased from such tables.
        A source or online table is partitioned: a run for one partition would drop the quarantine or the online rows of
        the other partitions.
        The table accumulates, and is partitioned or online.
    """

    name: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    expectations: tuple[Expectation, ...] = ()
    source: bool = False
    store: Literal["lake", "online"] = "lake"
    partition_by: str | Callable[[ir.Table], ir.StringValue] | None = None
    accumulates: bool = False
    from_itself: bool = False
    fresh_within: timedelta | None = None
    on_request: bool = False
    subject: Subject | None = None

    def __post_init__(self) -> None:
        if self.subject and (self.partition_by or self.accumulates):
            raise ValueError(
                f"{self.name}: a table with a subject must be replaced as a whole, so that rows can be erased"
            )
        if self.partition_by and (self.source or self.store == "online"):
            raise ValueError(f"{self.name}: only a derived lake table can be partitioned")
        if self.accumulates and (self.partition_by or self.store == "online"):
            raise ValueError(f"{self.name}: only an unpartitioned lake table can accumulate")

    @property
    def domain(self) -> str:
        """The domain that owns the table."""
        return self.name.split("/")[0]

    @property
    def partition_column(self) -> str | None:
        """Name of the column by which the stored rows are partitioned."""
        return PARTITION if callable(self.partition_by) else self.partition_by

    @property
    def quarantine(self) -> str:
        """Name of the table of the bad rows."""
        return f"{self.name}_quarantine"
