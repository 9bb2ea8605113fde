"""Lineage: the table versions that rows were made from. Rows made from newer versions are never replaced.

A run can be overtaken: a newer run starts later and finishes first. When the older run then publishes, its rows must
not replace the newer rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from platform_assets.base.errors import TableError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from platform_assets.lake.table_versions import TableVersion


class StaleError(TableError):
    """A newer run published the table first."""


@dataclass(frozen=True)
class Lineage:
    """The input versions of a step, and the version of its own table when the step began.

    Attributes
    ----------
    inputs
        The version of each input that the step read. None for an input without versions, such as an online table.
    before
        The version of the step's own table when the step began: a `TableVersion`, an `OnlineVersion`, or None if the
        table did not exist.
    newest
        Function that returns the number of a table's newest version, or None if there is no such table.
    """

    inputs: Mapping[str, TableVersion | None]
    before: Any
    newest: Callable[[str], int | None]

    @property
    def versions(self) -> dict[str, int]:
        """The version number of each input that has one."""
        return {name: version.version for name, version in self.inputs.items() if version}

    @property
    def is_ordered(self) -> bool:
        """Whether this step can be ordered relative to others: it has inputs, and each has a version number.

        Source files have no version numbers.
        """
        return bool(self.inputs) and None not in self.inputs.values()

    def refuse_stale(self, name: str, recorded: Iterable[Mapping[str, int]], *, has_changed: bool) -> None:
        """Raise if the rows to be replaced are newer than the step's rows.

        The version numbers of the inputs show which rows are newer. If an input has no version number, the order is
        unknown, and any change since the step began is treated as newer.

        Parameters
        ----------
        name
            The table to be published.
        recorded
            Input versions of the rows to be replaced, one mapping per partition.
        has_changed
            Whether another run has published these rows since the step began.

        Raises
        ------
        StaleError
            The rows to be replaced are newer.
        """
        is_ordered = self.is_ordered
        for made_from in recorded:
            is_ordered &= bool(made_from)
            for source, version in made_from.items():
                read = self.versions.get(source)
                if read is None or version <= read:
                    continue
                # After a source table was deleted, or restored from a backup, lower version numbers are used again, so
                # the numbers cannot be compared.
                if (newest := self.newest(source)) is None or newest < version:
                    is_ordered = False
                    continue
                raise StaleError(
                    f"this run did not publish {name}, because a newer run published it first, from version {version} "
                    f"of {source}; this run read version {read}. The newer rows are kept, and no action is needed"
                )
        if has_changed and not is_ordered:
            raise StaleError(
                f"this run did not publish {name}, because another run published it after this run began. The other "
                "run's rows are kept. To publish the current state of the source, run again"
            )


def newest_of(old: Mapping[str, int], new: Mapping[str, int]) -> dict[str, int]:
    """Return the inputs in `new`, each with the higher of its version numbers in `old` and `new`."""
    return {name: max(old.get(name, version), version) for name, version in new.items()}
