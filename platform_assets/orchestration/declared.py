"""What a room's `defs.py` is given: `definitions(declared)` returns what the room adds to Dagster."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import dagster as dg


@dataclass(frozen=True)
class Declared:
    """What the domains declare.

    Attributes
    ----------
    models
        Every model (`ModelSpec`).
    definitions
        Their assets, checks, jobs, schedules and sensors.
    """

    models: Sequence[Any]
    definitions: dg.Definitions
