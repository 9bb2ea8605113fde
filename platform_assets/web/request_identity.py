"""The caller of a request: the name of the key and the request id, which a route can record."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from concurrent.futures import Future

PEER = "platform_assets.peer"
"""Entry of a request's scope with the host and port of the other end of its connection, which may be a proxy."""


@dataclass(frozen=True, slots=True)
class Asked:
    """The caller of a request.

    Attributes
    ----------
    caller
        Name of the caller's key; empty if the request needed no key.
    request_id
        Id of the request in the logs.
    logging
        Futures of log writes that must succeed before the response is sent.
    models
        Names of the models that the request asked for predictions.
    """

    caller: str
    request_id: str
    logging: list[Future[None]] = field(default_factory=list)
    models: list[str] = field(default_factory=list)
