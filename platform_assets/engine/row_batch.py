"""A batch of rows for a table that accumulates: each run adds rows to the existing rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from platform_assets.base.frames import Expression


def _nothing(*_: Any) -> None:
    """Do nothing."""


@dataclass(frozen=True)
class RowBatch:
    """Rows that an asset adds to its table in one commit.

    A table stores the number of its last batch in the same commit as the rows. A batch whose number is not higher than
    the stored number is already in the table, and is not added again. An asset that runs again after a crash must
    therefore return the same batch with the same number.

    Attributes
    ----------
    rows
        A pandas frame, an Ibis expression, or the landed rows of a source.
    number
        Number of the batch in its table, from 1; 0 if there is nothing to add. Numbers may have gaps.
    published
        Function that is called with the added rows, without quarantined rows, once they are in the table.
    release
        Function that is called at the end, whether or not the rows were added.
    """

    rows: Any
    number: int
    published: Callable[[Expression], None] = _nothing
    release: Callable[[], None] = _nothing
