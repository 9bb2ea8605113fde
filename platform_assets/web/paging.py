"""Pagination of list routes: the body is a bare list; headers have the total and links to the neighbouring pages.

Every list route has the same parameters: `page` counts from 0, `items_per_page` is 1 to 1,000. A page past the end is
empty.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, TypeVar
from urllib.parse import urlencode

from pydantic import BeforeValidator, Field

from platform_assets.web.one_or_many import plain_digits

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

Item = TypeVar("Item")
MOST_ITEMS = 1_000
"""Maximum number of items per page."""
# Put the validator after `Field`, because the schema would otherwise lack the bounds.
PageNumber = Annotated[
    int,
    Field(ge=0, le=10**9, description="Page number, from 0.", examples=[0]),
    BeforeValidator(plain_digits),
]
ItemsPerPage = Annotated[
    int,
    Field(ge=1, le=MOST_ITEMS, description=f"Items per page, up to {MOST_ITEMS:,}.", examples=[50]),
    BeforeValidator(plain_digits),
]


@dataclass(frozen=True)
class Page:
    """One page of a list.

    Attributes
    ----------
    number
        Number of the page, from 0.
    size
        Items on a full page.
    total
        Items of the whole list.
    path
        Path of the list.
    query
        Query parameters of the request; a name may occur several times.
    """

    number: int
    size: int
    total: int
    path: str
    query: Iterable[tuple[str, str]] = ()

    @property
    def offset(self) -> int:
        """Number of items before this page."""
        return self.number * self.size

    def of(self, items: Sequence[Item]) -> Sequence[Item]:
        """Return the items of this page, given the whole list."""
        return items[self.offset : self.offset + self.size]

    @property
    def neighbours(self) -> Mapping[str, str]:
        """Paths of the previous (`prev`) and next (`next`) pages that exist."""
        found = {}
        if self.number > 0:
            found["prev"] = min(self.number - 1, max(0, (self.total - 1) // self.size))
        if self.offset + self.size < self.total:
            found["next"] = self.number + 1
        return {name: self._path_of(number) for name, number in found.items()}

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers `X-Total-Count` and, if there are neighbouring pages, `Link` (RFC 8288)."""
        told = ", ".join(f'<{path}>; rel="{name}"' for name, path in self.neighbours.items())
        return {"X-Total-Count": str(self.total), **({"Link": told} if told else {})}

    def _path_of(self, number: int) -> str:
        others = [(name, value) for name, value in self.query if name != "page"]
        return f"{self.path}?{urlencode([*others, ('page', str(number))])}"
