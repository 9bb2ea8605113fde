"""The declarations that each `defs.py` of the platform receives, as the argument `declared` of `definitions`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import dagster as dg

ON_REQUEST = "platform/on_request"
"""Metadata key that marks the assets and checks that `platform-assets run` leaves out."""


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
