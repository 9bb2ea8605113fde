"""The argument of a room's `defs.py`: `definitions(declared)` returns the room's Dagster definitions."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import dagster as dg


@dataclass(frozen=True)
class Declared:
    """The declarations of all domains.

    Attributes
    ----------
    models
        Every model (`ModelSpec`).
    definitions
        Their assets, checks, jobs, schedules and sensors.
    """

    models: Sequence[Any]
    definitions: dg.Definitions
