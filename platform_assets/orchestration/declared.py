"""The argument `declared` of the function `definitions` in each room's `defs.py`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import dagster as dg

ON_REQUEST = "platform/on_request"
"""Metadata key of assets and checks that `platform-assets run` leaves out."""


@dataclass(frozen=True)
class Declared:
    """The declarations of all domains.

    Attributes
    ----------
    models
        Every model (`ModelSpec`).
    definitions
        Assets, checks, jobs, schedules and sensors of all domains.
    """

    models: Sequence[Any]
    definitions: dg.Definitions
