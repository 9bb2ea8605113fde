"""The caller of a request, as a route may record it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from concurrent.futures import Future


@dataclass(frozen=True, slots=True)
class Asked:
    """The caller of a request.

    Attributes
    ----------
    caller
        Name of the key; empty where no key is needed.
    request_id
        Id of the request in the logs.
    logging
        Writes of this request's predictions that must succeed before the answer is sent.
    """

    caller: str
    request_id: str
    logging: list[Future[None]] = field(default_factory=list)
