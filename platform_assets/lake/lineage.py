"""Lineage: the table versions that rows were made from, and the check that they replace no rows made from newer ones.

A run can be overtaken: a newer run starts later and finishes first. When the older run then publishes, its rows must
not replace the newer ones.
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
    """What a step read, and what its table held when the step began.

    Attributes
    ----------
    inputs
        The version of each input that the step read. None for an input without versions, such as an online table.
    before
        The version of the step's own table when the step began: a `TableVersion`, an `OnlineVersion`, or None if the
        table did not exist.
    newest
        Returns the number of a table's newest version, or None if there is no such table.
    """

    inputs: Mapping[str, TableVersion | None]
    before: Any
    newest: Callable[[str], int | None]

    @property
    def versions(self) -> dict[str, int]:
        """Version number by input, for inputs with versions."""
        return {name: version.version for name, version in self.inputs.items() if version}

    def refuse_stale(self, name: str, recorded: Iterable[Mapping[str, int]], *, has_changed: bool) -> None:
        """Raise if the rows to be replaced are newer than the step's rows.

        Version numbers decide if every input has them. Otherwise there is no order, and any change since the step
        began counts as newer.

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
        is_ordered = bool(self.inputs) and None not in self.inputs.values()
        for made_from in recorded:
            is_ordered &= bool(made_from)
            for source, version in made_from.items():
                read = self.versions.get(source)
                if read is None or version <= read:
                    continue
                # A table that was deleted or restored from a backup counts from a lower number again.
                if (newest := self.newest(source)) is None or newest < version:
                    is_ordered = False
                    continue
                raise StaleError(
                    f"{name} was not published: a newer run published it first, from version {version} of {source}; "
                    f"this run read version {read}. The newer rows stay, and nothing needs to be done"
                )
        if has_changed and not is_ordered:
            raise StaleError(
                f"{name} was not published: another run published it after this run had begun. The rows of the other "
                "run stay. To publish the present state of the source, run again"
            )


def newest_of(old: Mapping[str, int], new: Mapping[str, int]) -> dict[str, int]:
    """Return the higher version of each input, for rows that two runs made alike."""
    return {name: max(old.get(name, version), version) for name, version in new.items()}
