"""Ancestry: the table versions that a table version was made from, back to the sources.

The log of a table keeps the description of every version, even after the version's files have been removed.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from platform_assets.base.errors import TableError
from platform_assets.lake.undone_loads import why_undone

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from platform_assets.lake.delta_tables import TableStore
    from platform_assets.lake.table_versions import TableVersion


@dataclass(frozen=True)
class Ancestor:
    """A table version that another record refers to.

    Attributes
    ----------
    name, number
        The table, and the number of its version.
    version
        Description of the version; None if the lake does not have the version.
    missing
        Why the rows of the version cannot be read; empty if they can.
    undone
        Person who undid the version, and the reason; empty if it was not undone.
    """

    name: str
    number: int
    version: TableVersion | None
    missing: str = ""
    undone: str = ""

    @cached_property
    def inputs(self) -> dict[str, set[int]]:
        """The table versions that this version was made from, by table.

        A table can have several versions here, if partitions were made at different times.
        """
        return inputs_of(self.version) if self.version else {}


class Ancestry:
    """Finds descriptions of table versions. Reads the log of each table once.

    Parameters
    ----------
    tables
        Store of the tables in the lake.
    """

    def __init__(self, tables: TableStore) -> None:
        self._tables = tables
        self._versions: dict[str, dict[int, TableVersion] | str] = {}

    def find(self, name: str, number: int) -> Ancestor:
        """Return a version, which may be missing from the lake."""
        versions = self._of(name)
        if isinstance(versions, str):
            return Ancestor(name, number, None, versions)
        version = versions.get(number)
        if version is None:
            return Ancestor(name, number, None, f"the lake has no version {number} of {name}")
        undone = why_undone(list(versions.values()), number)
        try:
            self._tables.scan(name, version=number)
        except TableError as error:
            return Ancestor(name, number, version, str(error), undone)
        return Ancestor(name, number, version, undone=undone)

    def newest(self, name: str) -> int | None:
        """Return the number of the newest version; None if the table cannot be read."""
        versions = self._of(name)
        return None if isinstance(versions, str) else max(versions)

    def version_of_batch(self, name: str, batches: Collection[int]) -> int | None:
        """Return the first version that added one of these batches; None if the table has none of them."""
        versions = self._of(name)
        found = [] if isinstance(versions, str) else [one.version for one in versions.values() if one.batch in batches]
        return min(found, default=None)

    def closure(self, named: Mapping[str, Collection[int]]) -> dict[str, set[int]]:
        """Return these versions and all versions that they were made from, by table."""
        found: dict[str, set[int]] = {}
        ahead = [(name, number) for name, numbers in named.items() for number in numbers]
        while ahead:
            name, number = ahead.pop()
            if number in found.setdefault(name, set()):
                continue
            found[name].add(number)
            versions = self._of(name)
            version = None if isinstance(versions, str) else versions.get(number)
            inputs = inputs_of(version) if version else {}
            ahead += [(source, one) for source, numbers in inputs.items() for one in numbers]
        return found

    def _of(self, name: str) -> dict[int, TableVersion] | str:
        """Return the versions of a table by number, or the reason why they cannot be read."""
        if name not in self._versions:
            try:
                self._versions[name] = {one.version: one for one in self._tables.versions(name)}
            except TableError as error:
                self._versions[name] = str(error)
        return self._versions[name]


def inputs_of(version: TableVersion) -> dict[str, set[int]]:
    """Return the versions of other tables that a version was made from, by table."""
    recorded = {name: facts["version"] for name, facts in version.metadata.get("inputs", {}).items()}
    return grouped(pair for made_from in version.made_from.values() or [recorded] for pair in made_from.items())


def grouped(named: Iterable[tuple[str, int]]) -> dict[str, set[int]]:
    """Return version numbers by table."""
    found: dict[str, set[int]] = {}
    for name, number in named:
        found.setdefault(name, set()).add(number)
    return found
