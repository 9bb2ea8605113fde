"""Who made a request, as what it asks for may record."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Asked:
    """Whose request it is.

    Attributes
    ----------
    caller
        The name of the key; empty where nobody needs one.
    request_id
        Names the request in the logs.
    """

    caller: str
    request_id: str
