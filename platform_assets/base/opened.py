"""A property that opens an object on first use, once for all threads."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    opened = cached_property
else:

    class opened(cached_property):  # noqa: N801 - used like `cached_property`
        """A `cached_property` of services. A lock prevents two threads from opening the object at the same time."""

        def __get__(self, services: Any, owner: type | None = None) -> Any:
            if services is None:
                return self
            with services._opening:  # noqa: SLF001 - used only by services
                return super().__get__(services, owner)
