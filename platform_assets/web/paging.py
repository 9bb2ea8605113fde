"""Lists that are answered page by page: a bare list, its total and its neighbours in the headers of the answer.

One rule for every list route: `page` counts from 0, `items_per_page` is 1 to 1,000, and past the end there is nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, TypeVar
from urllib.parse import urlencode

from pydantic import Field

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

Item = TypeVar("Item")
MOST_ITEMS = 1_000
PageNumber = Annotated[int, Field(ge=0, le=10**9, description="Which page, from 0.")]
ItemsPerPage = Annotated[int, Field(ge=1, le=MOST_ITEMS, description=f"How many on a page, up to {MOST_ITEMS:,}.")]


@dataclass(frozen=True)
class Page:
    """A part of a list.

    Attributes
    ----------
    number
        Which one, from 0.
    size
        Items on a full page.
    total
        Items of the whole list.
    path
        Where the list is.
    query
        The parameters with which it was asked for; several of one name are possible.
    """

    number: int
    size: int
    total: int
    path: str
    query: Iterable[tuple[str, str]] = ()

    @property
    def offset(self) -> int:
        """Items before this page."""
        return self.number * self.size

    def of(self, items: Sequence[Item]) -> Sequence[Item]:
        """The items of this page, of a list that is there as a whole."""
        return items[self.offset : self.offset + self.size]

    @property
    def neighbours(self) -> Mapping[str, str]:
        """Paths of the pages before (`prev`) and after (`next`), as far as there are any."""
        found = {}
        if self.number > 0:
            found["prev"] = min(self.number - 1, max(0, (self.total - 1) // self.size))
        if self.offset + self.size < self.total:
            found["next"] = self.number + 1
        return {name: self._path_of(number) for name, number in found.items()}

    @property
    def headers(self) -> Mapping[str, str]:
        """`X-Total-Count`, and `Link` (RFC 8288) where there are neighbours."""
        told = ", ".join(f'<{path}>; rel="{name}"' for name, path in self.neighbours.items())
        return {"X-Total-Count": str(self.total), **({"Link": told} if told else {})}

    def _path_of(self, number: int) -> str:
        others = [(name, value) for name, value in self.query if name != "page"]
        return f"{self.path}?{urlencode([*others, ('page', str(number))])}"
