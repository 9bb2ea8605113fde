"""State of a request that its route can use: the caller, the request id, pending log writes and models."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from concurrent.futures import Future

PEER = "platform_assets.peer"
"""Entry of a request's scope with the host and port of the other end of its connection, which may be a proxy."""


@dataclass(frozen=True, slots=True)
class Asked:
    """State of a request that its route can read and extend.

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
