"""JSON: its media type, and conversion of values to JSON that PostgreSQL's `jsonb` accepts."""

from __future__ import annotations

import math
from typing import Any

JSON = "application/json"
"""Media type of JSON."""


def as_json(value: Any) -> Any:
    """Convert a value to one that JSON and PostgreSQL's `jsonb` accept.

    NaN and infinities become None. NumPy scalars become Python scalars. NUL characters and lone surrogates in texts
    become replacement characters, because PostgreSQL rejects them.
    """
    if isinstance(value, dict):
        return {as_json(str(name)): as_json(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [as_json(one) for one in value]
    if isinstance(value, str):
        return value.replace("\0", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode()
    if hasattr(value, "item"):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
